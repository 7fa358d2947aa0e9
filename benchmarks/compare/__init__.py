"""The servers with which bench.py compares the service: one file each, over the service's own tables."""
