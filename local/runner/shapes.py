"""Does a request fit the service's own model? botocore checks types only; this also checks what AWS refuses later.

The shapes come from the given client (`client.meta.service_model`), so nothing here knows a service by heart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# The service's patterns are Java's. Python's `re` lacks Unicode categories (inside a character class these come close)
# and surrogate pairs, and refuses to repeat `$`.
_JAVA = {
    r"\p{Print}+": "[ -~]+",
    r"\p{Alnum}": "a-zA-Z0-9",
    r"\p{L}": r"a-zA-Z\u00aa-\uffff",
    r"\p{Z}": r"\s",
    r"\p{N}": "0-9",
    r"\p{M}": r"\u0300-\u036f",
    r"\p{S}": "$+<=>^`|~",
    r"\p{P}": r"!-#%-*,-/:;?@\[-\]_{}",
    r"\uD800\uDC00-\uDBFF\uDFFF": r"\U00010000-\U0010ffff",
    "${1,128}": "",
    "${1,256}": "",
}
_KINDS: Mapping[str, tuple[type, ...]] = {
    "structure": (Mapping,),
    "map": (Mapping,),
    "list": (list,),
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "boolean": (bool,),
}


@dataclass(frozen=True)
class Violation:
    """A constraint, in the API's own words, that a value does not satisfy.

    `path` leads to it: names of members and keys of maps (`str`), indexes of lists (`int`). A missing value is None.
    """

    path: tuple[str | int, ...]
    value: object
    constraint: str

    def at(self, where: str) -> str:
        """`where.Member[0] = value: constraint.`, for a reader of the document that lies at `where`."""
        path = where + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in self.path)
        return f"{path}{'' if self.value is None else f' = {self.value!r}'}: {self.constraint}."


def api_message(found: Sequence[Violation]) -> str:
    """All of them as AWS's JSON services tell them in a ValidationException."""
    told = []
    for violation in found:
        parts = (
            f"{part + 1}.member" if isinstance(part, int) else part[:1].lower() + part[1:]
            for part in violation.path
        )
        value = "null" if violation.value is None else f"'{violation.value}'"
        told.append(
            f"Value {value} at '{'.'.join(parts)}' failed to satisfy constraint: {violation.constraint}"
        )
    return f"{len(told)} validation error{'s' * (len(told) > 1)} detected: {'; '.join(told)}"


def violations(
    shape: Any, value: object, *, given_later: frozenset[str] = frozenset()
) -> Iterator[Violation]:
    """What is wrong with `value` for a botocore `shape`; nothing if it fits.

    `given_later` names required members of the outermost structure that the pipeline service fills in itself.
    """
    yield from _violations(shape, value, (), given_later)


def python_pattern(pattern: str) -> re.Pattern[str]:
    """A service's pattern for Python's `re`."""
    for java, python in _JAVA.items():
        pattern = pattern.replace(java, python)
    return re.compile(pattern, re.DOTALL)


def _violations(
    shape: Any, value: object, path: tuple[str | int, ...], given_later: frozenset[str] = frozenset()
) -> Iterator[Violation]:
    kind = shape.type_name
    if not isinstance(value, _KINDS[kind]) or (isinstance(value, bool) and kind != "boolean"):
        yield Violation(path, value, f"Member must be of type {kind}")
        return
    for constraint in _limits(shape, value):
        yield Violation(path, value, constraint)
    if kind == "structure" and isinstance(value, Mapping):
        yield from _structure(shape, value, path, given_later)
    elif kind == "list" and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _violations(shape.member, item, (*path, index))
    elif kind == "map" and isinstance(value, Mapping):
        for key, item in value.items():
            yield from _violations(shape.key, key, (*path, key))
            yield from _violations(shape.value, item, (*path, key))


def _structure(
    shape: Any, value: Mapping[str, object], path: tuple[str | int, ...], given_later: frozenset[str]
) -> Iterator[Violation]:
    for name in shape.required_members:
        if name not in value and name not in given_later:
            yield Violation((*path, name), None, "Member must not be null")
    for name, item in value.items():
        if name not in shape.members:
            yield Violation((*path, name), item, "Member is unknown")
        else:
            yield from _violations(shape.members[name], item, (*path, name))


def _limits(shape: Any, value: Any) -> Iterator[str]:
    """Enumeration, pattern, and bounds of length or value."""
    limits = shape.metadata
    if (choices := getattr(shape, "enum", None)) and value not in choices:
        yield f"Member must satisfy enum value set: [{', '.join(choices)}]"
    if "pattern" in limits and not python_pattern(limits["pattern"]).fullmatch(value):
        yield f"Member must satisfy regular expression pattern: {limits['pattern']}"
    size, unit = (value, "value") if isinstance(value, int | float) else (len(value), "length")
    if "min" in limits and size < limits["min"]:
        yield f"Member must have {unit} greater than or equal to {limits['min']}"
    if "max" in limits and size > limits["max"]:
        yield f"Member must have {unit} less than or equal to {limits['max']}"
