"""Rows to JSON. A route returns a description; a renderer executes it with the schema of `@returns`."""
