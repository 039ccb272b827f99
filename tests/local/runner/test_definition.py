"""What a definition may say, and the one sentence for each thing it may not."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from local.runner import DefinitionError, UnsupportedError
from local.runner.definition import Branch, parse
from tests.local.runner.committed import filled
from tests.local.runner.written import (
    Json,
    compare,
    condition,
    fail,
    get,
    join,
    json_get,
    output,
    parameter,
    pipeline,
    processing,
    training,
)


def two_steps() -> Json:
    return pipeline(
        processing("Prepare", "true", outputs=("train",), files={"Report": "report.json"}),
        training("Train", "true", channels={"train": output("Prepare", "train")}),
        parameters=[parameter("Rows", 10, "Integer")],
    )


def test_a_reference_makes_a_dependency() -> None:
    assert parse(two_steps()).steps["Train"].depends_on == {"Prepare"}


def test_references_inside_functions_make_dependencies() -> None:
    message = join("value ", json_get("Prepare", "Report", "a"))
    definition = two_steps()
    definition["Steps"].append(fail("Stop", message))
    assert parse(definition).steps["Stop"].depends_on == {"Prepare"}


def test_nested_steps_know_their_branch_and_wait_for_its_condition() -> None:
    inner = condition("Inner", compare("Equals", 1, 1), otherwise=[fail("Deep", "")])
    steps = parse(pipeline(condition("Outer", compare("Equals", 1, 1), then=[inner]))).steps
    assert steps["Inner"].branch == Branch("Outer", True)
    assert steps["Deep"].branch == Branch("Inner", False)
    assert steps["Deep"].depends_on == {"Inner"}


def test_a_condition_waits_for_what_it_compares_not_for_what_its_branches_need() -> None:
    definition = two_steps()
    then = [fail("Stop", get("Steps.Train.TrainingJobName"))]
    definition["Steps"].append(
        condition("Check", compare("Equals", json_get("Prepare", "Report", "a"), 1), then=then)
    )
    assert parse(definition).steps["Check"].depends_on == {"Prepare"}


def test_the_keys_that_only_the_service_needs_are_accepted() -> None:
    definition = two_steps() | {"PipelineExperimentConfig": None, "MlflowConfig": None}
    definition["Steps"][0] |= {
        "DisplayName": "Prepare",
        "Description": "d",
        "CacheConfig": {"Enabled": True, "ExpireAfter": "P30D"},
        "RetryPolicies": [{"ExceptionType": ["Step.THROTTLING"], "MaxAttempts": 3}],
    }
    assert parse(definition).order == ("Prepare", "Train")


def set_in_step(index: int, key: str, value: Any) -> Callable[[Json], None]:
    def change(definition: Json) -> None:
        definition["Steps"][index][key] = value

    return change


def set_at_top(key: str, value: Any) -> Callable[[Json], None]:
    def change(definition: Json) -> None:
        definition[key] = value

    return change


def set_argument(index: int, key: str, value: Any) -> Callable[[Json], None]:
    def change(definition: Json) -> None:
        definition["Steps"][index]["Arguments"][key] = value

    return change


WRONG: list[tuple[Callable[[Json], None], str]] = [
    (set_at_top("Version", "2019-01-01"), "Version = '2019-01-01': only 2020-12-01 exists."),
    (set_at_top("Stages", []), "the definition: unknown property Stages."),
    (set_at_top("Steps", []), "Steps: a pipeline needs at least one step."),
    (set_in_step(1, "Name", "Prepare"), "step Prepare: defined twice."),
    (set_in_step(1, "Retries", 3), "step Train: unknown property Retries."),
    (set_in_step(1, "DependsOn", ["Clean"]), "step Train: depends on step Clean, which does not exist."),
    (set_in_step(0, "DependsOn", ["Train"]), "steps wait for each other: Prepare → Train → Prepare."),
    (set_argument(0, "RoleArn", get("Parameters.Role")), "step Prepare: parameter Role does not exist."),
    (
        set_argument(1, "RoleArn", get("Steps.Clean.RoleArn")),
        "step Train: depends on step Clean, which does not exist.",
    ),
    (
        set_argument(1, "RoleArn", get("Role")),
        "Get = 'Role': must start with Parameters., Execution. or Steps.<name>.",
    ),
    (set_at_top("Steps", {}), "Steps = {}: must be a list."),
    (set_at_top("Steps", ["Prepare"]), "Steps[0] = 'Prepare': must be an object."),
    (set_in_step(1, "DependsOn", "Prepare"), "step Train: DependsOn = 'Prepare': must be a list."),
    (set_in_step(0, "PropertyFiles", [{"OutputName": "a"}]), "step Prepare: PropertyFiles: has no FilePath."),
    (
        set_argument(1, "RoleArn", {"Std:Join": {"On": "/", "Values": "a"}}),
        "function Std:Join: takes On, Values, not {'On': '/', 'Values': 'a'}.",
    ),
    (
        set_argument(1, "RoleArn", {"Std:JsonGet": {"Path": "a"}}),
        "function Std:JsonGet: takes Path, PropertyFile or Path, S3Uri, not {'Path': 'a'}.",
    ),
    (
        set_argument(1, "RoleArn", {"Std:JsonGet": {"PropertyFile": get("Parameters.Rows"), "Path": "a"}}),
        "function Std:JsonGet: {'Get': 'Parameters.Rows'} is no property file.",
    ),
    (
        set_argument(1, "RoleArn", {"Std:Split": {}}),
        "function Std:Split: not interpreted here. Supported: Get, Std:Join, Std:JsonGet.",
    ),
    (
        set_argument(1, "RoleArn", json_get("Prepare", "Missing", "a")),
        "step Train: step Prepare has no property file Missing.",
    ),
    (
        set_at_top("Parameters", [parameter("Rows", "many", "Integer")]),
        "parameter Rows = 'many': must be of type Integer.",
    ),
    (
        set_at_top("Parameters", [parameter("Rows", 1, "Number")]),
        "parameter Rows: Type = 'Number': must be one of String, Integer, Float, Boolean.",
    ),
    (
        set_at_top("Parameters", [parameter("Rows", 1, "Integer", Minimum=1)]),
        "parameter Rows: unknown property Minimum.",
    ),
    (set_at_top("Parameters", [parameter({"a": 1}, 1)]), "parameter {'a': 1}: Name must be a string."),
    *[
        (
            set_at_top("Parameters", [parameter("Rows", "a", EnumValues=values)]),
            f"parameter Rows: EnumValues = {values!r}: must be a list of strings.",
        )
        for values in (None, "ab", ["a", None])
    ],
]


@pytest.mark.parametrize(("change", "message"), WRONG, ids=[message for _, message in WRONG])
def test_a_wrong_definition_is_refused_with_one_sentence(
    change: Callable[[Json], None], message: str
) -> None:
    definition = two_steps()
    change(definition)
    with pytest.raises(DefinitionError) as refused:
        parse(definition)
    assert str(refused.value) == message


@pytest.mark.parametrize("whole", [[], None, "x", 1])
def test_what_is_no_object_is_refused(whole: object) -> None:
    with pytest.raises(DefinitionError, match=r"the definition = .*: must be an object"):
        parse(whole)


def with_each_value_replaced(value: Any, by: list[object]) -> Iterator[Any]:
    """Copies of a JSON value, in each of which one value inside stands replaced."""
    places = list(value.items() if isinstance(value, dict) else enumerate(value))
    for key, inner in places:
        nested = with_each_value_replaced(inner, by) if isinstance(inner, dict | list) else ()
        for new in (*by, *nested):
            changed = value.copy()
            changed[key] = new
            yield changed


def test_a_value_of_any_other_kind_anywhere_is_refused_or_read_but_never_a_fault_of_ours() -> None:
    variants = with_each_value_replaced(filled("regression-linear.json"), [None, {"a": 1}, [None], 1])
    refused = 0
    for definition in variants:
        try:
            parse(definition)
        except DefinitionError:
            refused += 1
    assert refused > 500


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ("Equals", "Conditions[0] = 'Equals': must be an object."),
        ({"Type": "Not", "Condition": "x"}, "step Check: condition 'x': must be an object."),
        ({"Type": "Or", "Conditions": {}}, "step Check: condition Or: Conditions = {}: must be a list."),
        (compare("NotEquals", 1, 1), "step Check: condition Type = 'NotEquals': must be one of Equals, "),
        (
            {"Type": "Equals", "LeftValue": 1},
            "condition Equals takes LeftValue, RightValue, Type; it has LeftValue, Type.",
        ),
        ({"Type": "Not", "Condition": {"Type": "And"}}, "step Check: condition Type = 'And'"),
        (
            {"Type": "Or", "Conditions": [{"Type": "In", "QueryValue": 1}]},
            "condition In takes QueryValue, Type, Values",
        ),
    ],
)
def test_a_wrong_condition_is_refused(raw: Any, message: str) -> None:
    with pytest.raises(DefinitionError) as refused:
        parse(pipeline(condition("Check", raw)))
    assert message in str(refused.value)


def test_a_run_condition_on_a_failed_step_is_not_interpreted() -> None:
    definition = two_steps()
    definition["Steps"][1]["DependsOn"] = [{"Step": "Prepare", "Trigger": "Failed"}]
    with pytest.raises(
        UnsupportedError, match=r"step Train: DependsOn = .* run conditions are not interpreted here"
    ):
        parse(definition)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("String", "a", "a"),
        ("Integer", "3", 3),
        ("Float", "0.5", 0.5),
        ("Float", "2", 2.0),
        ("Boolean", "True", True),
    ],
)
def test_values_of_the_start_call_are_read_as_their_type(kind: str, text: str, value: object) -> None:
    definition = two_steps() | {"Parameters": [{"Name": "P", "Type": kind}]}
    assert parse(definition).values({"P": text}) == {"P": value}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("Integer", 1.5),
        ("Integer", True),
        ("Integer", "1.5"),
        ("Boolean", "yes"),
        ("Boolean", 1),
        ("String", 1),
    ],
)
def test_a_value_of_another_type_is_refused(kind: str, value: object) -> None:
    definition = two_steps() | {"Parameters": [{"Name": "P", "Type": kind}]}
    with pytest.raises(DefinitionError, match=rf"parameter P = {value!r}: must be of type {kind}\."):
        parse(definition).values({"P": value})


def test_a_value_outside_the_enumeration_is_refused() -> None:
    definition = two_steps() | {"Parameters": [parameter("P", "a", EnumValues=["a", "b"])]}
    with pytest.raises(DefinitionError, match=r"parameter P = 'c': must be one of a, b\."):
        parse(definition).values({"P": "c"})


def test_a_parameter_without_a_default_must_be_given() -> None:
    definition = two_steps() | {"Parameters": [{"Name": "P", "Type": "String"}]}
    with pytest.raises(DefinitionError, match=r"parameter P: has no default\. Give it a value\."):
        parse(definition).values({})
