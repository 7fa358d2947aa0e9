"""Generated SDKs: recipes, and one journey for each."""
