"""The tests of Microblog."""
