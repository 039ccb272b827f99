"""The functions of a definition: Get, Std:Join, Std:JsonGet and the conditions.

Source: "Pipeline definition JSON schema" and "Pass data between steps" (SageMaker AI Developer Guide). What a name
stands for is asked of a `Lookup`, so that the same walk serves an execution and a check that runs nothing.
"""

from __future__ import annotations

import dataclasses
import json
import operator
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

_TOKEN = re.compile(r"""\.?([A-Za-z_][\w-]*)|\[['"]([^'"]+)['"]\]|\[(\d+)\]""")
_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "Equals": operator.eq,
    "GreaterThan": operator.gt,
    "GreaterThanOrEqualTo": operator.ge,
    "LessThan": operator.lt,
    "LessThanOrEqualTo": operator.le,
}
_CONDITION_KEYS: Mapping[str, set[str]] = {
    **{name: {"Type", "LeftValue", "RightValue"} for name in _COMPARISONS},
    "In": {"Type", "QueryValue", "Values"},
    "Not": {"Type", "Condition"},
    "Or": {"Type", "Conditions"},
}


_SIGNATURES: Mapping[str, tuple[Mapping[str, type | tuple[type, ...]], ...]] = {
    "Std:Join": ({"On": str, "Values": list},),
    "Std:JsonGet": ({"PropertyFile": Mapping, "Path": str}, {"S3Uri": (str, Mapping), "Path": str}),
}


class DefinitionError(ValueError):
    """A definition that cannot run: the message names the step or parameter and what is wrong."""


class ResolutionError(Exception):
    """An expression whose value is missing or of the wrong kind while a step runs: the step fails with it."""


@dataclasses.dataclass(frozen=True)
class Get:
    """A reference: to a parameter, an execution variable, a step's property or a step's property file."""

    text: str
    parameter: str | None = None
    variable: str | None = None
    step: str | None = None
    path: str = ""
    property_file: str | None = None

    @staticmethod
    def parse(text: object) -> Get:
        """Read `Parameters.X`, `Execution.X`, `Steps.S.Path` or `Steps.S.PropertyFiles.F`."""
        kind, _, rest = str(text).partition(".")
        if kind == "Parameters" and rest:
            return Get(str(text), parameter=rest)
        if kind == "Execution" and rest:
            return Get(str(text), variable=rest)
        step, _, path = rest.partition(".")
        if kind == "Steps" and path:
            if path.startswith("PropertyFiles."):
                return Get(str(text), step=step, property_file=path.removeprefix("PropertyFiles."))
            return Get(str(text), step=step, path=path)
        raise DefinitionError(f"Get = {text!r}: must start with Parameters., Execution. or Steps.<name>.")


class Lookup(Protocol):
    """What the names in a definition stand for; each raises `ResolutionError` for what is not there."""

    def parameter(self, name: str, /) -> Any:
        """The value of a pipeline parameter."""

    def variable(self, name: str, /) -> Any:
        """The value of an execution variable."""

    def property(self, step: str, path: str, /) -> Any:
        """A property of a step, as its Describe call answers."""

    def property_file(self, step: str, name: str, path: str, /) -> Any:
        """The value at `path` of a step's property file."""

    def json(self, uri: str, path: str, /) -> Any:
        """The value at `path` of a JSON object in S3."""


def expressions(value: object) -> Iterator[Get]:
    """Every reference inside a JSON value; `DefinitionError` for an unknown function."""
    if isinstance(value, Mapping):
        function = _function(value)
        if function == "Get":
            yield Get.parse(value["Get"])
        elif function:
            _check_call(function, value[function])
            found = list(expressions(list(value[function].values())))
            if "PropertyFile" in value[function] and [bool(get.property_file) for get in found] != [True]:
                raise DefinitionError(
                    f"function {function}: {value[function]['PropertyFile']!r} is no property file."
                )
            yield from found
        else:
            for item in value.values():
                yield from expressions(item)
    elif isinstance(value, list):
        for item in value:
            yield from expressions(item)


def resolve(value: object, lookup: Lookup) -> Any:
    """`value` with every expression replaced by what it stands for."""
    if isinstance(value, list):
        return [resolve(item, lookup) for item in value]
    if not isinstance(value, Mapping):
        return value
    if function := _function(value):
        return _FUNCTIONS[function](value[function], lookup)
    return {key: resolve(item, lookup) for key, item in value.items()}


def holds(condition: Mapping[str, Any], lookup: Lookup) -> bool:
    """Whether one condition is true; `ResolutionError` if its two sides cannot be compared."""
    kind = condition["Type"]
    if kind == "Not":
        return not holds(condition["Condition"], lookup)
    if kind == "Or":
        return any(holds(item, lookup) for item in condition["Conditions"])
    if kind == "In":
        return resolve(condition["QueryValue"], lookup) in resolve(condition["Values"], lookup)
    left, right = (resolve(condition[side], lookup) for side in ("LeftValue", "RightValue"))
    if kind != "Equals" and not comparable(left, right):
        raise ResolutionError(f"{kind} cannot compare {left!r} with {right!r}.")
    return _COMPARISONS[kind](left, right)


def comparable(left: object, right: object) -> bool:
    """Whether an order is defined: between two numbers, or between two strings (as ISO times are)."""
    kinds = [
        str if isinstance(side, str) else isinstance(side, int | float) and not isinstance(side, bool)
        for side in (left, right)
    ]
    return kinds[0] == kinds[1] and kinds[0] is not False


def check_conditions(conditions: Sequence[object], where: str) -> None:
    """Refuse a condition of an unknown type or with other members than its type has."""
    for condition in conditions:
        if not isinstance(condition, Mapping):
            raise DefinitionError(f"{where}: condition {condition!r}: must be an object.")
        kind = str(condition.get("Type"))
        if kind not in _CONDITION_KEYS:
            raise DefinitionError(
                f"{where}: condition Type = {kind!r}: must be one of {', '.join(_CONDITION_KEYS)}."
            )
        if set(condition) != _CONDITION_KEYS[kind]:
            raise DefinitionError(
                f"{where}: condition {kind} takes {', '.join(sorted(_CONDITION_KEYS[kind]))}; "
                f"it has {', '.join(sorted(condition))}."
            )
        if kind == "Not":
            check_conditions([condition["Condition"]], where)
        listed = {"Or": "Conditions", "In": "Values"}.get(kind)
        if listed and not isinstance(condition[listed], list):
            raise DefinitionError(
                f"{where}: condition {kind}: {listed} = {condition[listed]!r}: must be a list."
            )
        if kind == "Or":
            check_conditions(condition["Conditions"], where)


def descend(value: Any, path: str, where: str) -> Any:
    """Follow `A.B['name'][0]` into a JSON value; a name in brackets picks from a list by its `…Name` member."""
    for token in tokens(path):
        try:
            value = _pick(value, token)
        except (KeyError, IndexError, TypeError, StopIteration):
            raise ResolutionError(f"{where} has no {path}.") from None
    return value


def tokens(path: str) -> list[str | int]:
    """The parts of a path: names and indices; `ResolutionError` if it is not one."""
    text = path.removeprefix("$.")
    found: list[str | int] = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if not match:
            raise ResolutionError(f"path {path!r}: not understood at {text[position:]!r}.")
        name, key, index = match.groups()
        found.append(int(index) if index else name or key)
        position = match.end()
    return found


def _pick(value: Any, token: str | int) -> Any:
    if isinstance(value, list) and isinstance(token, str):
        return next(
            item
            for item in value
            if any(key.endswith("Name") and item[key] == token for key in item if isinstance(item, Mapping))
        )
    return value[token]


def _get(text: object, lookup: Lookup) -> Any:
    get = Get.parse(text)
    if get.parameter:
        return lookup.parameter(get.parameter)
    if get.variable:
        return lookup.variable(get.variable)
    if get.property_file:
        raise DefinitionError(f"Get = {text!r}: a property file is read by Std:JsonGet only.")
    return lookup.property(get.step or "", get.path)


def _join(join: Mapping[str, Any], lookup: Lookup) -> str:
    return str(join["On"]).join(_text(resolve(item, lookup)) for item in join["Values"])


def _json_get(source: Mapping[str, Any], lookup: Lookup) -> Any:
    if "PropertyFile" in source:
        file = Get.parse(source["PropertyFile"]["Get"])
        return lookup.property_file(file.step or "", file.property_file or "", source["Path"])
    return lookup.json(resolve(source["S3Uri"], lookup), source["Path"])


_FUNCTIONS: Mapping[str, Callable[[Any, Lookup], Any]] = {
    "Get": _get,
    "Std:Join": _join,
    "Std:JsonGet": _json_get,
}


def _function(value: Mapping[str, Any]) -> str | None:
    """The function that an object calls, if it is a call: an object with one key, Get or Std:…."""
    if len(value) != 1:
        return None
    key = next(iter(value))
    if key.startswith("Std:") and key not in _FUNCTIONS:
        raise DefinitionError(f"function {key}: not interpreted here. Supported: {', '.join(_FUNCTIONS)}.")
    return key if key in _FUNCTIONS else None


def _check_call(function: str, arguments: Any) -> None:
    """Refuse a call whose arguments are not the function's; `_SIGNATURES` says which are."""
    for signature in _SIGNATURES[function]:
        named = isinstance(arguments, Mapping) and set(arguments) == set(signature)
        if named and all(isinstance(arguments[name], kinds) for name, kinds in signature.items()):
            return
    known = " or ".join(", ".join(sorted(signature)) for signature in _SIGNATURES[function])
    raise DefinitionError(f"function {function}: takes {known}, not {arguments!r}.")


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise ResolutionError(f"Std:Join takes strings and numbers, not {value!r}.")
