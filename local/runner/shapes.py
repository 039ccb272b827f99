"""Does a request fit the service's own model? botocore checks types only; this also checks what AWS refuses later.

The shapes come from the given client (`client.meta.service_model`), so nothing here knows a service by heart.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
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


def violations(
    shape: Any, value: object, where: str, *, given_later: frozenset[str] = frozenset()
) -> list[str]:
    """What is wrong with `value` for a botocore `shape`: one sentence a fault, none if it fits.

    `given_later` names required members of the outermost structure that the pipeline service fills in itself.
    """
    return list(_violations(shape, value, where, given_later))


def python_pattern(pattern: str) -> re.Pattern[str]:
    """A service's pattern for Python's `re`."""
    for java, python in _JAVA.items():
        pattern = pattern.replace(java, python)
    return re.compile(pattern, re.DOTALL)


def _violations(
    shape: Any, value: object, where: str, given_later: frozenset[str] = frozenset()
) -> Iterator[str]:
    kind = shape.type_name
    if not isinstance(value, _KINDS[kind]) or (isinstance(value, bool) and kind != "boolean"):
        yield f"{where} = {value!r}: must be of type {kind}."
        return
    yield from _limits(shape, value, where)
    if kind == "structure" and isinstance(value, Mapping):
        yield from _structure(shape, value, where, given_later)
    elif kind == "list" and isinstance(value, list):
        for index, item in enumerate(value):
            yield from _violations(shape.member, item, f"{where}[{index}]")
    elif kind == "map" and isinstance(value, Mapping):
        for key, item in value.items():
            yield from _violations(shape.key, key, f"{where} key")
            yield from _violations(shape.value, item, f"{where}[{key!r}]")


def _structure(
    shape: Any, value: Mapping[str, object], where: str, given_later: frozenset[str]
) -> Iterator[str]:
    for name in shape.required_members:
        if name not in value and name not in given_later:
            yield f"{where}.{name}: missing."
    for name, item in value.items():
        if name not in shape.members:
            yield f"{where}.{name}: unknown member."
        else:
            yield from _violations(shape.members[name], item, f"{where}.{name}")


def _limits(shape: Any, value: Any, where: str) -> Iterator[str]:
    """Enumeration, pattern, and bounds of length or value."""
    limits = shape.metadata
    if (choices := getattr(shape, "enum", None)) and value not in choices:
        yield f"{where} = {value!r}: not one of the {len(choices)} values of {shape.name}."
    if "pattern" in limits and not python_pattern(limits["pattern"]).fullmatch(value):
        yield f"{where} = {value!r}: does not match {limits['pattern']}."
    number = isinstance(value, int | float)
    size, unit = (value, "") if number else (len(value), " items" if isinstance(value, list) else " long")
    if "min" in limits and size < limits["min"]:
        yield f"{where} = {value!r}: below the minimum of {limits['min']}{unit}."
    if "max" in limits and size > limits["max"]:
        yield f"{where} = {value!r}: above the maximum of {limits['max']}{unit}."
