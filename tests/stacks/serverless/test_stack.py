"""The serverless endpoint: memory and concurrency, and nothing that AWS does not offer it."""

from collections.abc import Callable

import aws_cdk as cdk
import pytest

from app import build
from stacks.config import load
from tests.stacks.options import unconditional, variants
from tools.assembly import Assembly, Template, context


@pytest.fixture
def serverless(complete: Callable[[str], Assembly]) -> Template:
    return complete("sandbox").template("Serverless")


def test_it_has_memory_and_concurrency_instead_of_instances(serverless: Template) -> None:
    settings = load(context("sandbox")).serverless
    (variant,) = variants(serverless)
    assert variant["ServerlessConfig"] == {
        "MemorySizeInMB": settings.memory_mib,
        "MaxConcurrency": settings.maximum_concurrency,
    }
    assert not {"InstanceType", "InitialInstanceCount"} & variant.keys()


def test_it_asks_for_nothing_that_a_serverless_endpoint_cannot_have(serverless: Template) -> None:
    config = serverless.only("AWS::SageMaker::EndpointConfig")["Properties"]
    assert "KmsKeyId" in config
    assert not {"DataCaptureConfig", "ShadowProductionVariants", "AsyncInferenceConfig"} & config.keys()
    assert "DeploymentConfig" not in serverless.only("AWS::SageMaker::Endpoint")["Properties"]
    assert not serverless.resources("AWS::ApplicationAutoScaling::ScalableTarget")


def test_before_a_model_there_is_nothing_at_all(serverless: Template) -> None:
    assert unconditional(serverless) <= {"AWS::CDK::Metadata"}


def test_warm_copies_are_stated_only_where_some_are_wanted() -> None:
    changed = context("sandbox")
    stage = changed["stages"]["sandbox"]
    stage["options"] = ["serverless"]
    stage["serverless"]["provisioned_concurrency"] = 2
    app = cdk.App(context=changed)
    build(app)
    found = app.node.find_child("Serverless").node.find_child("Endpoint").node.find_child("Config")
    (variant,) = found.production_variants
    assert variant.serverless_config.provisioned_concurrency == 2
