"""The table of what combines: complete, explained, and what decides about the configuration."""

import ast
import copy
import itertools
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from stacks import option_config, serving_rules
from stacks.config import Config, ConfigError, load
from stacks.option_section import KNOBS
from stacks.section import Section
from stacks.serving_config import ServingConfig
from stacks.serving_rules import OPTIONS, Feature, Option, refusal
from tools.assembly import context

REFUSED = [
    (option, feature)
    for option, feature in itertools.product(Option, Feature)
    if not OPTIONS[option][feature].allowed
]
# Which section speaks of an option.
SECTIONS = {
    Option.REAL_TIME: "serving",
    Option.SERVERLESS: "serverless",
    Option.ASYNCHRONOUS: "asynchronous",
    Option.BATCH: "batch",
    Option.AB: "experiment",
    Option.SHADOW: "experiment",
}
MODELS: dict[Option, type[Section]] = {
    Option.REAL_TIME: ServingConfig,
    Option.SERVERLESS: option_config.ServerlessConfig,
    Option.ASYNCHRONOUS: option_config.AsynchronousConfig,
    Option.BATCH: option_config.BatchConfig,
    Option.AB: option_config.AbConfig,
    Option.SHADOW: option_config.ShadowConfig,
}
ASKED: dict[Feature, dict[str, Any]] = {
    Feature.BLUE_GREEN: {"rollout": {"strategy": "ALL_AT_ONCE"}},
    Feature.ROLLING: {"rollout": {"strategy": "ROLLING"}},
    Feature.DATA_CAPTURE: {"data_capture_percent": 100},
    Feature.AUTOSCALING: {"autoscaling": {"maximum_instances": 4}},
    Feature.VARIANTS: {"challenger_percent": 20},
    Feature.SHADOW_VARIANT: {"mirrored_percent": 100},
}


def stage(name: str = "sandbox") -> dict[str, Any]:
    whole: dict[str, Any] = copy.deepcopy(context(name)["stages"][name])
    return whole


def loaded(whole: dict[str, Any], name: str = "sandbox") -> Config:
    return load({"stage": name, "stages": {name: whole}})


def shadow(section: dict[str, Any]) -> dict[str, Any]:
    kept = {key: value for key, value in section.items() if key != "challenger_percent"}
    return kept | {"kind": "SHADOW", "mirrored_percent": 50}


def asks(option: Option, feature: Feature) -> dict[str, Any]:
    """A stage whose configuration asks this option for this feature."""
    whole = stage()
    section = SECTIONS[option]
    whole["options"] = [section] if option is not Option.REAL_TIME else []
    if option is Option.SHADOW:
        whole[section] = shadow(whole[section])
    if feature in ASKED:
        whole[section] |= ASKED[feature]
    else:
        whole["foundation"]["isolation"] = True
    return whole


def test_whoever_reads_the_table_needs_nothing_but_python() -> None:
    """The embedded cloud reads it in an environment of its own, without what synth needs."""
    tree = ast.parse(Path(serving_rules.__file__).read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {str(module).split(".")[0] for module in imported} <= sys.stdlib_module_names
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.Import)]


def test_no_cell_is_missing() -> None:
    assert {option: set(rules) for option, rules in OPTIONS.items()} == {
        option: set(Feature) for option in Option
    }


@pytest.mark.parametrize(("option", "feature"), [*itertools.product(Option, Feature)])
def test_a_cell_says_why_and_where_it_stands(option: Option, feature: Feature) -> None:
    rule = OPTIONS[option][feature]
    assert rule.why
    assert rule.source
    assert rule.allowed == (refusal(option, feature) is None) == (rule.refused_by is None)
    assert bool(rule.remedy) != rule.allowed


@pytest.mark.parametrize(("option", "feature"), REFUSED)
def test_what_the_table_refuses_is_refused_at_synth_with_rule_remedy_and_source(
    option: Option, feature: Feature
) -> None:
    rule = OPTIONS[option][feature]
    with pytest.raises(ConfigError) as caught:
        loaded(asks(option, feature))
    message = str(caught.value)
    assert re.match(r"cdk\.json: context\.stages\.sandbox(\.\w+)?: ", message)
    for part in (rule.why, rule.remedy, rule.source):
        assert part in message
    assert "\n" not in message


@pytest.mark.parametrize(("option", "feature"), [*itertools.product(Option, ASKED)])
def test_what_the_table_allows_has_a_knob_in_the_section(option: Option, feature: Feature) -> None:
    if OPTIONS[option][feature].allowed:
        asked = {knob for knob, wanted in KNOBS.items() if wanted is feature}
        if feature is Feature.ROLLING:
            asked = {"rollout"}  # by its strategy
        assert asked & MODELS[option].model_fields.keys()


@pytest.mark.parametrize(
    ("section", "knob", "value", "said"),
    [
        ("serving", "challenger_percent", 20, "List the option experiment"),
        ("serving", "mirrored_percent", 100, "List the option experiment"),
        ("serving", "maximum_instances", 4, "real-time has autoscaling of instances, by autoscaling."),
        ("experiment", "autoscaling", {"maximum_instances": 4}, "Set experiment.instance_count"),
        ("experiment", "minimum_instances", 1, "Set experiment.instance_count"),
        ("experiment", "rollout", {"strategy": "CANARY"}, "serving.rollout"),
        ("batch", "data_capture_percent", 100, "Read input_prefix and output_prefix"),
        (
            "asynchronous",
            "autoscaling",
            {"maximum_instances": 4},
            "asynchronous has autoscaling of instances, by maximum_instances, minimum_instances.",
        ),
    ],
)
def test_a_known_feature_is_answered_by_its_rule_and_never_as_an_unknown_key(
    section: str, knob: str, value: object, said: str
) -> None:
    whole = stage()
    whole[section][knob] = value
    with pytest.raises(ConfigError) as caught:
        loaded(whole)
    message = str(caught.value)
    assert message.startswith(f"cdk.json: context.stages.sandbox.{section}: {knob} = {json.dumps(value)}: ")
    assert said in message
    assert "unknown key" not in message


@pytest.mark.parametrize(
    ("kind", "left", "said"),
    [
        ("SHADOW", "challenger_percent", "Remove challenger_percent and state mirrored_percent"),
        ("AB", "mirrored_percent", "Remove mirrored_percent and state challenger_percent"),
    ],
)
def test_whoever_changes_the_kind_alone_is_told_which_key_goes_and_which_comes(
    kind: str, left: str, said: str
) -> None:
    whole = stage()
    experiment = shadow(whole["experiment"]) if kind == "AB" else whole["experiment"]
    whole["experiment"] = experiment | {"kind": kind}
    with pytest.raises(ConfigError) as caught:
        loaded(whole)
    [line] = str(caught.value).splitlines()
    assert f"experiment: {left} = " in line
    assert said in line


@pytest.mark.parametrize("option", [option for option in SECTIONS if option is not Option.REAL_TIME])
def test_without_the_feature_each_option_is_accepted(option: Option) -> None:
    whole = stage()
    whole["options"] = [SECTIONS[option]]
    if option is Option.SHADOW:
        whole["experiment"] = shadow(whole["experiment"])
    assert loaded(whole).options == [SECTIONS[option]]


def test_every_knob_of_the_table_is_one_that_some_option_has() -> None:
    assert KNOBS.keys() <= {name for section in MODELS.values() for name in section.model_fields}


def test_an_isolated_stage_takes_every_option_but_serverless() -> None:
    refused = set()
    for option in ("serverless", "asynchronous", "batch", "experiment"):
        whole = stage("production") | {"options": [option]}
        try:
            loaded(whole, "production")
        except ConfigError:
            refused.add(option)
    assert refused == {"serverless"}


def test_each_endpoint_has_a_name_of_its_own_that_sagemaker_takes() -> None:
    longest = stage() | {"name": "a" * 20}
    names = loaded(longest).endpoint_names
    assert names.keys() == set(Option) - {Option.BATCH}
    assert names[Option.AB] == names[Option.SHADOW]
    assert len(set(names.values())) == 4
    assert all(re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", name) for name in names.values())
