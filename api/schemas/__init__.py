"""Base classes, field types and error messages of the schemas."""
