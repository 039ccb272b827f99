"""What all options have in common: listed, they are stacks that follow Serving; none of them holds a permission."""

import json
import re
from collections.abc import Callable

import pytest

from lambdas import serving_stack
from stacks.config import load
from tests.support.synth import OPTIONS
from tools.assembly import Assembly, context

STACKS = {
    "serverless": "Serverless",
    "asynchronous": "Asynchronous",
    "batch": "Batch",
    "experiment": "Experiment",
}


def options(assembly: Assembly) -> list[str]:
    return [STACKS[name] for name in OPTIONS[assembly.stage]]


def test_an_option_is_deployed_only_where_the_stage_lists_it(each_assembly: Assembly) -> None:
    assert load(context(each_assembly.stage)).options == []
    assert not {*STACKS.values()} & each_assembly.templates.keys()


def test_listed_options_come_after_serving_and_before_release(each_complete: Assembly) -> None:
    artifacts = each_complete.manifest["artifacts"]
    assert list(each_complete.templates) == [
        *("Foundation", "Ingestion", "Processing", "Training", "Serving"),
        *options(each_complete),
        *("Release", "Monitoring"),
    ]
    for option in options(each_complete):
        assert {"Foundation", "Serving"} <= set(artifacts[option]["dependencies"])
        assert option in artifacts["Release"]["dependencies"]


def test_options_hold_no_permission(each_complete: Assembly) -> None:
    for option in options(each_complete):
        types = {resource["Type"] for resource in each_complete.template(option).resources().values()}
        assert not [kind for kind in types if kind.startswith("AWS::IAM")]


def test_no_stack_but_monitoring_imports_anything_from_an_option(each_complete: Assembly) -> None:
    for name, template in each_complete.templates.items():
        for option in {*options(each_complete)} - {name}:
            imported = f"flights-{each_complete.stage}-{option.lower()}:" in json.dumps(template.json)
            assert not imported or (name, option) == ("Monitoring", "Batch")


def test_an_option_deploys_before_any_model_and_is_told_one_by_the_same_parameter(
    each_complete: Assembly,
) -> None:
    for option in options(each_complete):
        template = each_complete.template(option)
        parameter = template.json["Parameters"][serving_stack.MODEL_PARAMETER]
        assert parameter["Default"] == ""
        assert re.search(
            parameter["AllowedPattern"], "arn:aws:sagemaker:a:123456789012:model-package/flights/1"
        )
        waiting = {resource["Type"] for resource in template.resources().values() if "Condition" in resource}
        assert "AWS::SageMaker::Model" in waiting


def test_an_option_with_an_endpoint_says_its_name_and_what_it_believes_to_run(
    each_complete: Assembly,
) -> None:
    names = set(load(context(each_complete.stage)).endpoint_names.values())
    for option in {*options(each_complete)} - {"Batch"}:
        template = each_complete.template(option)
        endpoint = template.only("AWS::SageMaker::Endpoint")["Properties"]
        assert template.outputs["EndpointName"]["Value"] == endpoint["EndpointName"]
        assert template.outputs[serving_stack.CONFIG_OUTPUT]["Value"] == endpoint["EndpointConfigName"]
        assert endpoint["EndpointName"] in names


def test_what_no_condition_holds_back_refers_to_nothing_that_waits_for_a_model(
    each_complete: Assembly,
) -> None:
    for option in options(each_complete):
        resources = each_complete.template(option).resources()
        conditional = {name for name, resource in resources.items() if "Condition" in resource}
        for name in resources.keys() - conditional:
            assert not [other for other in conditional if f'"{other}"' in json.dumps(resources[name])]


def test_what_an_update_replaces_stays_and_what_is_deleted_with_the_stack_goes(
    each_complete: Assembly,
) -> None:
    for option in options(each_complete):
        for resource in each_complete.template(option).resources().values():
            if resource["Type"] in {"AWS::SageMaker::Model", "AWS::SageMaker::EndpointConfig"}:
                assert (resource["UpdateReplacePolicy"], resource["DeletionPolicy"]) == ("Retain", "Delete")


@pytest.mark.parametrize(
    ("option", "isolated"),
    [("Serverless", False), ("Asynchronous", True), ("Batch", True), ("Experiment", True)],
)
def test_every_model_but_the_serverless_one_is_cut_off_from_the_network(
    complete: Callable[[str], Assembly], option: str, *, isolated: bool
) -> None:
    for model in complete("sandbox").template(option).resources("AWS::SageMaker::Model").values():
        assert model["Properties"]["EnableNetworkIsolation"] is isolated
        assert "VpcConfig" not in model["Properties"]


@pytest.mark.parametrize("option", ["Asynchronous", "Batch", "Experiment"])
def test_models_are_in_the_network_of_an_isolated_stage(
    complete: Callable[[str], Assembly], option: str
) -> None:
    for model in complete("production").template(option).resources("AWS::SageMaker::Model").values():
        assert len(model["Properties"]["VpcConfig"]["Subnets"]) == 3
