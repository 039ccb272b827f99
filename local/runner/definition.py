"""A pipeline definition as a typed graph: parsed whole, or refused whole, before anything runs.

Source of the format: "Pipeline definition JSON schema" (SageMaker AI Developer Guide) and what the SageMaker SDK v3
writes. Nested steps of a Condition are lifted into one list; each remembers its branch.
"""

from __future__ import annotations

import dataclasses
import graphlib
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Literal, cast, get_args

from local.runner.expressions import DefinitionError, Get, check_conditions, expressions
from local.runner.policies import RetryPolicy, cache_seconds, retry_policies

StepType = Literal["Processing", "Training", "Condition", "Model", "RegisterModel", "Fail"]
ParameterType = Literal["String", "Integer", "Float", "Boolean"]

VERSION = "2020-12-01"
_PIPELINE_KEYS = {"Version", "Metadata", "Parameters", "PipelineExperimentConfig", "MlflowConfig", "Steps"}
_STEP_KEYS = {
    *("Name", "Type", "Arguments", "DependsOn", "DisplayName", "Description"),
    *("PropertyFiles", "CacheConfig", "RetryPolicies"),
}
_READ: Mapping[str, type | tuple[type, ...]] = {
    "String": str,
    "Integer": int,
    "Float": (int, float),
    "Boolean": bool,
}


class UnsupportedError(DefinitionError):
    """A valid definition that asks for something this runner does not interpret."""


@dataclasses.dataclass(frozen=True)
class Parameter:
    """A pipeline parameter; without a default it must be given at the start."""

    name: str
    type: ParameterType
    default: Any = None
    choices: tuple[str, ...] = ()

    def read(self, value: object) -> Any:
        """`value` as this parameter's type; StartPipelineExecution sends every value as a string."""
        wrong = DefinitionError(f"parameter {self.name} = {value!r}: must be of type {self.type}.")
        if isinstance(value, str) and self.type != "String":
            try:
                if self.type == "Boolean":
                    return {"true": True, "false": False}[value.lower()]
                return int(value) if self.type == "Integer" else float(value)
            except (KeyError, ValueError):
                raise wrong from None
        if not isinstance(value, _READ[self.type]) or (isinstance(value, bool) and self.type != "Boolean"):
            raise wrong
        if self.choices and value not in self.choices:
            raise DefinitionError(
                f"parameter {self.name} = {value!r}: must be one of {', '.join(self.choices)}."
            )
        return value


@dataclasses.dataclass(frozen=True)
class PropertyFile:
    """A JSON file that a processing step leaves in one of its outputs."""

    output: str
    path: str


@dataclasses.dataclass(frozen=True)
class Branch:
    """Which outcome of which Condition step lets a nested step run."""

    condition: str
    outcome: bool


@dataclasses.dataclass(frozen=True)
class Step:
    """One step; `arguments` is the service request with its expressions still in place.

    `cache_seconds` is how long an earlier success may stand in for it (None: never).
    """

    name: str
    type: StepType
    arguments: Mapping[str, Any]
    depends_on: frozenset[str]
    property_files: Mapping[str, PropertyFile]
    branch: Branch | None
    retries: tuple[RetryPolicy, ...] = ()
    cache_seconds: int | None = None


@dataclasses.dataclass(frozen=True)
class Definition:
    """Parameters and steps; `order` names the steps so that each comes after what it depends on."""

    parameters: Mapping[str, Parameter]
    steps: Mapping[str, Step]
    order: tuple[str, ...]

    def values(self, given: Mapping[str, object]) -> dict[str, Any]:
        """The parameters of one execution: defaults overridden by `given`."""
        if unknown := sorted(set(given) - set(self.parameters)):
            known = ", ".join(self.parameters) or "none"
            raise DefinitionError(
                f"parameter {unknown[0]}: the definition has none of that name. Known: {known}."
            )
        values = {}
        for name, parameter in self.parameters.items():
            value = given.get(name, parameter.default)
            if value is None:
                raise DefinitionError(f"parameter {name}: has no default. Give it a value.")
            values[name] = parameter.read(value)
        return values


def parse(raw: object) -> Definition:
    """Read a definition; raises `DefinitionError` that names the step and what is wrong with it."""
    raw = _object(raw, "the definition")
    _keys(raw, "the definition", known=_PIPELINE_KEYS)
    if raw.get("Version") != VERSION:
        raise DefinitionError(f"Version = {raw.get('Version')!r}: only {VERSION} exists.")
    parameters = {p.name: p for p in map(_parameter, _objects(raw.get("Parameters", []), "Parameters"))}
    steps: dict[str, Step] = {}
    for step in _steps(raw.get("Steps", []), None):
        if step.name in steps:
            raise DefinitionError(f"step {step.name}: defined twice.")
        steps[step.name] = step
    if not steps:
        raise DefinitionError("Steps: a pipeline needs at least one step.")
    for step in steps.values():
        _check_references(step, steps, parameters)
    graph = {name: sorted(step.depends_on, key=list(steps).index) for name, step in steps.items()}
    try:
        order = tuple(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        raise DefinitionError(f"steps wait for each other: {' → '.join(error.args[1])}.") from None
    return Definition(parameters, steps, order)


def _parameter(raw: Mapping[str, Any]) -> Parameter:
    _keys(raw, f"parameter {raw.get('Name')}", needed={"Name"}, known={"Type", "DefaultValue", "EnumValues"})
    if raw.get("Type") not in get_args(ParameterType):
        raise DefinitionError(
            f"parameter {raw.get('Name')}: Type = {raw.get('Type')!r}: must be one of "
            f"{', '.join(get_args(ParameterType))}."
        )
    name, choices = raw["Name"], raw.get("EnumValues", [])
    if not isinstance(name, str):
        raise DefinitionError(f"parameter {name}: Name must be a string.")
    if not isinstance(choices, list) or not all(isinstance(choice, str) for choice in choices):
        raise DefinitionError(f"parameter {name}: EnumValues = {choices!r}: must be a list of strings.")
    parameter = Parameter(name, raw["Type"], raw.get("DefaultValue"), tuple(choices))
    if parameter.default is not None:
        parameter.read(parameter.default)
    return parameter


def _steps(raw: object, branch: Branch | None) -> Iterator[Step]:
    for item in _objects(raw, f"the branches of {branch.condition}" if branch else "Steps"):
        name, kind = str(item.get("Name")), cast(StepType, item.get("Type"))
        if kind not in get_args(StepType):
            raise UnsupportedError(
                f"step {name}: Type = {kind!r} is not interpreted here. Supported: {', '.join(get_args(StepType))}."
            )
        where = f"step {name}"
        _keys(item, where, needed={"Name", "Arguments"}, known=_STEP_KEYS)
        arguments = _object(item["Arguments"], f"{where}: Arguments")
        own, nested = arguments, {}
        if kind == "Condition":
            own = {"Conditions": _objects(arguments.get("Conditions"), f"{where}: Conditions")}
            nested = {True: arguments.get("IfSteps", []), False: arguments.get("ElseSteps", [])}
        waits_for = {
            _dependency(where, entry) for entry in _list(item.get("DependsOn", []), f"{where}: DependsOn")
        }
        waits_for |= {get.step for get in expressions(own) if isinstance(get, Get) and get.step}
        if branch:
            waits_for.add(branch.condition)
        yield Step(
            name=name,
            type=kind,
            arguments=own,
            depends_on=frozenset(waits_for),
            property_files=dict(_property_files(item.get("PropertyFiles", []), where)),
            branch=branch,
            retries=retry_policies(item.get("RetryPolicies", []), where),
            cache_seconds=cache_seconds(item.get("CacheConfig", {}), where),
        )
        for outcome, steps in nested.items():
            yield from _steps(steps, Branch(name, outcome))


def _property_files(raw: object, where: str) -> Iterator[tuple[str, PropertyFile]]:
    for file in _objects(raw, f"{where}: PropertyFiles"):
        _keys(file, f"{where}: PropertyFiles", needed={"PropertyFileName", "OutputName", "FilePath"})
        yield str(file["PropertyFileName"]), PropertyFile(str(file["OutputName"]), str(file["FilePath"]))


def _dependency(where: str, entry: object) -> str:
    if isinstance(entry, str):
        return entry
    raise UnsupportedError(f"{where}: DependsOn = {entry!r}: run conditions are not interpreted here.")


def _check_references(step: Step, steps: Mapping[str, Step], parameters: Mapping[str, Parameter]) -> None:
    for name in step.depends_on:
        if name not in steps:
            raise DefinitionError(f"step {step.name}: depends on step {name}, which does not exist.")
    if step.type == "Condition":
        check_conditions(step.arguments["Conditions"], f"step {step.name}")
    for get in expressions(step.arguments):
        if get.parameter and get.parameter not in parameters:
            raise DefinitionError(f"step {step.name}: parameter {get.parameter} does not exist.")
        if get.property_file and get.property_file not in steps[get.step or ""].property_files:
            raise DefinitionError(
                f"step {step.name}: step {get.step} has no property file {get.property_file}."
            )


def _keys(
    raw: Mapping[str, Any],
    where: str,
    *,
    needed: AbstractSet[str] = frozenset(),
    known: AbstractSet[str] = frozenset(),
) -> None:
    if unknown := sorted(raw.keys() - needed - known):
        raise DefinitionError(f"{where}: unknown property {unknown[0]}.")
    if missing := sorted(needed - raw.keys()):
        raise DefinitionError(f"{where}: has no {missing[0]}.")


def _objects(raw: object, where: str) -> list[Mapping[str, Any]]:
    return [_object(item, f"{where}[{index}]") for index, item in enumerate(_list(raw, where))]


def _object(raw: object, where: str) -> Mapping[str, Any]:
    if not isinstance(raw, Mapping):
        raise DefinitionError(f"{where} = {raw!r}: must be an object.")
    return raw


def _list(raw: object, where: str) -> list[Any]:
    if not isinstance(raw, list):
        raise DefinitionError(f"{where} = {raw!r}: must be a list.")
    return raw
