"""Functions and conditions, on a lookup of plain dictionaries."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local.runner.expressions import ResolutionError, descend, expressions, holds, resolve
from tests.local.runner.written import compare, get, join, json_get


class Values:
    """A `Lookup` whose answers a test writes down."""

    def parameter(self, name: str) -> Any:
        return {"Name": "flights", "Rows": 3, "Rate": 0.5, "Deep": True, "List": [1]}[name]

    def variable(self, name: str) -> Any:
        return f"<{name}>"

    def property(self, step: str, path: str) -> Any:
        return f"{step}:{path}"

    def property_file(self, step: str, name: str, path: str) -> Any:
        return descend({"auc": {"value": 0.75}}, path, f"{step}/{name}")

    def json(self, uri: str, path: str) -> Any:
        return descend({"uri": uri}, path, uri)


VALUES = Values()


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        (get("Parameters.Rows"), 3),
        (get("Execution.PipelineExecutionId"), "<PipelineExecutionId>"),
        (get("Steps.Train.ModelArtifacts.S3ModelArtifacts"), "Train:ModelArtifacts.S3ModelArtifacts"),
        (join("s3:/", get("Parameters.Name"), on="/"), "s3://flights"),
        (
            join(get("Parameters.Rows"), " ", get("Parameters.Rate"), " ", get("Parameters.Deep")),
            "3 0.5 true",
        ),
        (join("a", join("b", get("Parameters.Rows"), on="-"), on="/"), "a/b-3"),
        (join(), ""),
        (json_get("Evaluate", "Report", "auc.value"), 0.75),
        (
            {"Std:JsonGet": {"S3Uri": join("s3://b/", get("Parameters.Name")), "Path": "$.uri"}},
            "s3://b/flights",
        ),
        ({"nested": [get("Parameters.Rows"), {"plain": "text"}]}, {"nested": [3, {"plain": "text"}]}),
        ({"Get": "Parameters.Rows", "other": 1}, {"Get": "Parameters.Rows", "other": 1}),
        (None, None),
    ],
)
def test_an_expression_is_replaced_by_what_it_stands_for(expression: Any, value: Any) -> None:
    assert resolve(expression, VALUES) == value


def test_a_list_cannot_be_joined_into_a_text() -> None:
    with pytest.raises(ResolutionError, match=r"Std:Join takes strings and numbers, not \[1\]\."):
        resolve(join("a", get("Parameters.List")), VALUES)


def test_every_reference_is_found_wherever_it_stands() -> None:
    value = {"a": [join(get("Parameters.A"), json_get("S", "F", "x"))], "b": {"c": get("Steps.T.X")}}
    assert [found.text for found in expressions(value)] == [
        "Parameters.A",
        "Steps.S.PropertyFiles.F",
        "Steps.T.X",
    ]


NUMBERS = ((1, 2), (2, 2), (3, 2), (0.5, 2), (2.0, 2))
ORDER = {
    "Equals": [False, True, False, False, True],
    "GreaterThan": [False, False, True, False, False],
    "GreaterThanOrEqualTo": [False, True, True, False, True],
    "LessThan": [True, False, False, True, False],
    "LessThanOrEqualTo": [True, True, False, True, True],
}


@pytest.mark.parametrize("kind", ORDER)
def test_numbers_are_compared_as_numbers(kind: str) -> None:
    assert [holds(compare(kind, left, right), VALUES) for left, right in NUMBERS] == ORDER[kind]


def test_times_are_compared_as_text() -> None:
    assert holds(compare("LessThan", "2026-01-02T00:00:00Z", "2026-01-10T00:00:00Z"), VALUES)


@pytest.mark.parametrize(("left", "right"), [("0.7", 0.7), (True, 1), (None, 1), ("a", True), ([1], [2])])
def test_what_has_no_order_is_not_compared(left: object, right: object) -> None:
    with pytest.raises(ResolutionError, match="LessThan cannot compare"):
        holds(compare("LessThan", left, right), VALUES)


def test_in_not_and_or() -> None:
    inside = {"Type": "In", "QueryValue": get("Parameters.Name"), "Values": ["cars", "flights"]}
    outside = {"Type": "In", "QueryValue": get("Parameters.Name"), "Values": ["cars"]}
    assert holds(inside, VALUES)
    assert not holds(outside, VALUES)
    assert holds({"Type": "Not", "Condition": outside}, VALUES)
    assert holds({"Type": "Or", "Conditions": [outside, inside]}, VALUES)
    assert not holds({"Type": "Or", "Conditions": [outside, outside]}, VALUES)


DESCRIBED = {
    "Outputs": [{"OutputName": "train", "Uri": "t"}, {"OutputName": "test", "Uri": "e"}],
    "Tags": {"a b": 1},
}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("Outputs['test'].Uri", "e"),
        ('Outputs["train"].Uri', "t"),
        ("Outputs[1].OutputName", "test"),
        ("Tags['a b']", 1),
        ("$.Tags", {"a b": 1}),
    ],
)
def test_a_path_leads_by_name_and_by_index(path: str, value: object) -> None:
    assert descend(DESCRIBED, path, "step Prepare") == value


@pytest.mark.parametrize("path", ["Missing", "Outputs['none']", "Outputs[2]", "Tags.a.b", "Outputs.Uri"])
def test_a_path_that_leads_nowhere_says_so(path: str) -> None:
    with pytest.raises(ResolutionError) as refused:
        descend(DESCRIBED, path, "step Prepare")
    assert str(refused.value) == f"step Prepare has no {path}."


def test_a_path_that_is_none_says_where_it_ends() -> None:
    with pytest.raises(ResolutionError, match=r"path 'a\[\*\]': not understood at '\[\*\]'"):
        descend({}, "a[*]", "step Prepare")


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda item: st.lists(item) | st.dictionaries(st.text("abc", max_size=3), item),
    max_leaves=8,
)


@settings(max_examples=50, deadline=None)
@given(PLAIN)
def test_a_value_without_expressions_stays_as_it_is(value: Any) -> None:
    assert resolve(json.loads(json.dumps(value)), VALUES) == value
