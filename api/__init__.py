"""Microblog: a JSON REST API for users and posts."""
