"""The experiment: two versions on one endpoint, by weight or one in the shadow of the other."""

from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk import aws_sagemaker as sagemaker

from app import build
from stacks.config import load
from tests.stacks.options import unconditional, variants
from tools.assembly import Assembly, Template, context
from tools.cost import View


@pytest.fixture
def experiment(each_complete: Assembly) -> Template:
    return each_complete.template("Experiment")


FIRST, SECOND = (f"arn:aws:sagemaker:a:123456789012:model-package/flights/{number}" for number in (1, 2))


@pytest.mark.parametrize(
    ("champion", "challenger", "runs"),
    [
        ("", "", False),
        (FIRST, "", False),
        ("", SECOND, False),
        (FIRST, SECOND, True),
        # The challenger was released: beside itself there is nothing to compare.
        (SECOND, SECOND, False),
    ],
    ids=["neither", "champion", "challenger", "both", "promoted"],
)
def test_it_runs_while_there_are_two_versions(
    experiment: Template, champion: str, challenger: str, *, runs: bool
) -> None:
    view = View(experiment, {"ModelPackageArn": champion, "ChallengerPackageArn": challenger})
    assert view.holds("HasBoth") is runs
    assert all(view.exists(found) is runs for found in experiment.resources().values())


def test_the_console_says_when_the_experiment_ends(experiment: Template) -> None:
    described = experiment.json["Parameters"]["ChallengerPackageArn"]["Description"]
    assert "the experiment ends when it is released" in described


def test_nothing_is_there_without_both(experiment: Template) -> None:
    assert {found.get("Condition") for found in experiment.resources().values()} == {"HasBoth"}
    assert unconditional(experiment) == set()


def test_each_variant_serves_its_own_parameter(experiment: Template) -> None:
    models = experiment.resources("AWS::SageMaker::Model")
    packages = {
        name: model["Properties"]["PrimaryContainer"]["ModelPackageName"]["Ref"]
        for name, model in models.items()
    }
    served = {
        variant["VariantName"]: packages[variant["ModelName"]["Fn::GetAtt"][0]]
        for variant in variants(experiment)
    }
    assert served == {"Champion": "ModelPackageArn", "Challenger": "ChallengerPackageArn"}


def test_the_challenger_has_its_percentage_of_the_requests(
    each_complete: Assembly, experiment: Template
) -> None:
    percent = load(context(each_complete.stage)).experiment
    weights = {found["VariantName"]: found["InitialVariantWeight"] for found in variants(experiment)}
    assert percent.kind == "AB"
    assert weights == {"Champion": 100 - percent.challenger_percent, "Challenger": percent.challenger_percent}


def test_both_variants_requests_and_answers_are_captured(experiment: Template) -> None:
    capture = experiment.only("AWS::SageMaker::EndpointConfig")["Properties"]["DataCaptureConfig"]
    assert capture["InitialSamplingPercentage"] == 100
    assert [option["CaptureMode"] for option in capture["CaptureOptions"]] == ["Input", "Output"]


def test_the_console_labels_both_parameters(experiment: Template) -> None:
    shown = experiment.json["Metadata"]["AWS::CloudFormation::Interface"]
    assert shown["ParameterGroups"][0]["Parameters"] == ["ModelPackageArn", "ChallengerPackageArn"]
    assert shown["ParameterLabels"].keys() == {"ModelPackageArn", "ChallengerPackageArn"}


@pytest.fixture(scope="module")
def shadowed() -> sagemaker.CfnEndpointConfig:
    changed = context("sandbox")
    stage: dict[str, Any] = changed["stages"]["sandbox"]
    stage["options"] = ["experiment"]
    del stage["experiment"]["challenger_percent"]
    stage["experiment"] |= {"kind": "SHADOW", "mirrored_percent": 25}
    app = cdk.App(context=changed)
    build(app)
    found: Any = app.node.find_child("Experiment").node.find_child("Endpoint").node.find_child("Config")
    made: sagemaker.CfnEndpointConfig = found
    return made


def test_a_shadow_stands_beside_exactly_one_production_variant(shadowed: Any) -> None:
    assert [found.variant_name for found in shadowed.production_variants] == ["Champion"]
    assert [found.variant_name for found in shadowed.shadow_production_variants] == ["Challenger"]


def test_a_shadow_gets_its_percentage_of_copies(shadowed: Any) -> None:
    (champion,), (challenger,) = shadowed.production_variants, shadowed.shadow_production_variants
    assert challenger.initial_variant_weight / champion.initial_variant_weight == 0.25


def test_a_shadow_is_captured_too(shadowed: Any) -> None:
    assert shadowed.data_capture_config.enable_capture is True
