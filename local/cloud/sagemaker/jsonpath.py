"""The JSONPath of batch transform's filters: the operators that AWS documents, and no other.

Source: "Associate Prediction Results with Input Records" (SageMaker AI Developer Guide). A slice includes its end:
`$[1:4]` is the second to the fifth column, in the words of that page. What a negative end would include it does not
say, so that is refused here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_STEP = re.compile(
    r"""
    \.(?P<name>[^.\[\]*'\s]+)
    | (?P<any>\.\*|\.?\[\*\])
    | \.?\[(?P<names>'[^']*'(?:\s*,\s*'[^']*')*)\]
    | \[(?P<numbers>[-\d:]+(?:\s*,\s*[-\d:]+)*)\]
    """,
    re.VERBOSE,
)
_NAME = re.compile(r"'([^']*)'")
_INDEX, _SLICE = re.compile(r"-?\d+"), re.compile(r"(-?\d*):(\d*)")

Index = int | slice


class PathError(ValueError):
    """A path outside the documented subset, or one that leads nowhere in a record."""


class Path:
    """A parsed expression; `wanted` is its text."""

    def __init__(self, wanted: str) -> None:
        """Parse; `PathError` names what is not part of the subset."""
        if not wanted.startswith("$"):
            raise PathError(f'JSONPath "{wanted}" does not begin with $.')
        self.wanted = wanted
        self._steps: list[re.Match[str]] = []
        place = 1
        while place < len(wanted):
            if (step := _STEP.match(wanted, place)) is None:
                raise PathError(
                    f'JSONPath "{wanted}": "{wanted[place:]}" is none of .name, .*, [\'name\'], [1,3] and [1:4].'
                )
            self._steps.append(step)
            place = step.end()
        for step in self._steps:
            list(_indexes(step["numbers"] or "", wanted))

    @property
    def whole(self) -> bool:
        """Whether it selects everything."""
        return not self._steps

    @property
    def by_index(self) -> bool:
        """Whether it can be applied to CSV, where a row is an array of its columns."""
        return all(step["numbers"] or step["any"] for step in self._steps)

    def select(self, value: Any) -> Any:
        """What it finds: one value, an object of several names, or a list; `PathError` if something is not there."""
        found, single = [value], True
        for step in self._steps:
            if step["any"]:
                found, single = [child for it in found for child in _children(it)], False
            elif numbers := step["numbers"]:
                wanted = list(_indexes(numbers, self.wanted))
                single = single and len(wanted) == 1 and isinstance(wanted[0], int)
                found = [item for it in found for item in self._items(it, wanted)]
            elif names := step["names"]:
                keys = _NAME.findall(names)
                found = [self._child(it, keys[0]) if len(keys) == 1 else self._part(it, keys) for it in found]
            else:
                found = [self._child(it, step["name"]) for it in found]
        return found[0] if single else found

    def _part(self, value: Any, names: list[str]) -> dict[str, Any]:
        return {name: self._child(value, name) for name in names}

    def _child(self, value: Any, name: str) -> Any:
        if not isinstance(value, dict) or name not in value:
            raise PathError(f'JSONPath "{self.wanted}": the record has no attribute "{name}".')
        return value[name]

    def _items(self, value: Any, wanted: list[Index]) -> Iterator[Any]:
        if not isinstance(value, list):
            raise PathError(f'JSONPath "{self.wanted}": an index needs an array or a CSV row.')
        for index in wanted:
            if isinstance(index, slice):
                yield from value[index]
            elif -len(value) <= index < len(value):
                yield value[index]
            else:
                raise PathError(f'JSONPath "{self.wanted}": index {index} of a record of {len(value)}.')


def _indexes(text: str, wanted: str) -> Iterator[Index]:
    for part in filter(None, (part.strip() for part in text.split(","))):
        if _INDEX.fullmatch(part):
            yield int(part)
        elif found := _SLICE.fullmatch(part):
            start, end = found.groups()
            yield slice(int(start) if start else None, int(end) + 1 if end else None)
        else:
            raise PathError(
                f'JSONPath "{wanted}": "{part}" is no index and no slice with a known end. Name the last index.'
            )


def _children(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, list) else []
