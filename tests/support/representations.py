"""Comparison of representations, to which later versions may add members."""

from typing import Any


def includes(actual: Any, expected: Any) -> bool:
    """Whether a JSON value equals another, apart from members of objects that the other does not have."""
    if isinstance(expected, dict):
        return isinstance(actual, dict) and all(
            name in actual and includes(actual[name], value) for name, value in expected.items()
        )
    if isinstance(expected, list | tuple):
        return len(actual) == len(expected) and all(map(includes, actual, expected))
    return bool(actual == expected)
