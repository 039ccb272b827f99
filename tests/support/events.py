"""EventBridge's matching, as far as our patterns use it."""

from typing import Any


def matches(pattern: Any, value: Any) -> bool:
    """Values, and the operators of "Comparison operators for use in event patterns" (its User Guide) that we use.

    `pattern` is an object: what it does not name may be anything. A list in the event matches by any of its members.
    """
    return isinstance(value, dict) and all(
        any(matches(alternative, value) for alternative in below)
        if key == "$or"
        else matches(below, value.get(key))
        if isinstance(below, dict)
        else any(_matches_entry(entry, key in value, value.get(key)) for entry in below)
        for key, below in pattern.items()
    )


def _matches_entry(entry: Any, present: bool, value: Any) -> bool:  # noqa: FBT001 - key of the event, or not
    if isinstance(entry, dict) and "exists" in entry:
        return bool(entry["exists"]) is present
    if not present:
        return False
    values = value if isinstance(value, list) else [value]
    if isinstance(entry, dict) and "anything-but" in entry:
        return all(not _matches_entry(entry["anything-but"], True, one) for one in values)
    if isinstance(entry, dict):
        return any(isinstance(one, str) and one.startswith(entry["prefix"]) for one in values)
    return entry in values
