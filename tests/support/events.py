"""EventBridge's matching, as far as our patterns use it."""

from typing import Any


def matches(pattern: Any, value: Any) -> bool:
    """Values, prefixes and nested objects of "Comparison operators for use in event patterns" (its User Guide)."""
    if isinstance(pattern, dict):
        return isinstance(value, dict) and all(
            key in value and matches(below, value[key]) for key, below in pattern.items()
        )
    return any(
        value.startswith(entry["prefix"]) if isinstance(entry, dict) else value == entry for entry in pattern
    )
