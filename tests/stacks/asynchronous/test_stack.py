"""The asynchronous endpoint: bodies in S3, topics for the results, instances by the backlog."""

import re
from collections.abc import Mapping
from typing import Any

import aws_cdk as cdk
import pytest
from constructs import IConstruct

from app import build
from stacks.config import Config, load
from tests.stacks.options import unconditional, variants
from tests.support.intrinsics import Resolver
from tools.assembly import Assembly, Template, context


@pytest.fixture
def asynchronous(each_complete: Assembly) -> Template:
    return each_complete.template("Asynchronous")


@pytest.fixture
def stage(each_complete: Assembly) -> Config:
    return load(context(each_complete.stage))


def output(template: Template) -> dict[str, Any]:
    found: dict[str, Any] = template.only("AWS::SageMaker::EndpointConfig")["Properties"][
        "AsyncInferenceConfig"
    ]["OutputConfig"]
    return found


def test_answers_and_failures_lie_under_their_prefixes(
    each_complete: Assembly, asynchronous: Template, stage: Config
) -> None:
    resolver, settings = Resolver(each_complete, asynchronous), stage.asynchronous
    for key, prefix in (("S3OutputPath", settings.output_prefix), ("S3FailurePath", settings.failure_prefix)):
        (uri,) = resolver.strings(output(asynchronous)[key])
        assert re.fullmatch(rf"s3://[^/]+/{prefix}", uri)


def test_each_outcome_has_an_encrypted_topic_of_a_known_name(asynchronous: Template, stage: Config) -> None:
    topics = asynchronous.resources("AWS::SNS::Topic")
    names = {name: topic["Properties"]["TopicName"] for name, topic in topics.items()}
    told = output(asynchronous)["NotificationConfig"]
    assert (names[told["SuccessTopic"]["Ref"]], names[told["ErrorTopic"]["Ref"]]) == stage.result_topics
    assert all("KmsMasterKeyId" in topic["Properties"] for topic in topics.values())


def test_it_starts_with_one_instance_of_the_configured_type(asynchronous: Template, stage: Config) -> None:
    (variant,) = variants(asynchronous)
    assert (variant["InstanceType"], variant["InitialInstanceCount"]) == (stage.asynchronous.instance_type, 1)


def test_a_rollout_is_taken_back_by_failed_invocations(asynchronous: Template, stage: Config) -> None:
    endpoint = asynchronous.only("AWS::SageMaker::Endpoint")
    ((name, alarm),) = [
        (name, alarm["Properties"])
        for name, alarm in asynchronous.resources("AWS::CloudWatch::Alarm").items()
        if "Condition" not in alarm
    ]
    rollback = endpoint["Properties"]["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]
    assert [found["AlarmName"]["Ref"] for found in rollback] == [name]
    assert name in endpoint["DependsOn"]
    assert (alarm["MetricName"], alarm["Threshold"]) == (
        "InvocationFailures",
        stage.asynchronous.alarms.failed_invocations,
    )
    assert {found["Name"]: found["Value"] for found in alarm["Dimensions"]} == {
        "EndpointName": endpoint["Properties"]["EndpointName"],
        "VariantName": variants(asynchronous)[0]["VariantName"],
    }


def policy(template: Template, kind: str) -> tuple[str, dict[str, Any]]:
    ((name, found),) = [
        (name, resource["Properties"])
        for name, resource in template.resources("AWS::ApplicationAutoScaling::ScalingPolicy").items()
        if resource["Properties"]["PolicyType"] == kind
    ]
    return name, found


def test_it_scales_to_zero_and_by_the_backlog(asynchronous: Template, stage: Config) -> None:
    target = asynchronous.only("AWS::ApplicationAutoScaling::ScalableTarget")["Properties"]
    settings = stage.asynchronous
    assert (target["MinCapacity"], target["MaxCapacity"]) == (0, settings.maximum_instances)
    _, tracking = policy(asynchronous, "TargetTrackingScaling")
    found = tracking["TargetTrackingScalingPolicyConfiguration"]
    endpoint = asynchronous.only("AWS::SageMaker::Endpoint")["Properties"]["EndpointName"]
    assert found["CustomizedMetricSpecification"] == {
        "Namespace": "AWS/SageMaker",
        "MetricName": "ApproximateBacklogSizePerInstance",
        "Dimensions": [{"Name": "EndpointName", "Value": endpoint}],
        "Statistic": "Average",
    }
    assert found["TargetValue"] == settings.backlog_per_instance


def test_a_step_starts_the_first_instance_when_requests_wait_without_one(asynchronous: Template) -> None:
    name, step = policy(asynchronous, "StepScaling")
    assert step["StepScalingPolicyConfiguration"]["StepAdjustments"] == [
        {"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}
    ]
    (alarm,) = [
        found["Properties"]
        for found in asynchronous.resources("AWS::CloudWatch::Alarm").values()
        if "Condition" in found
    ]
    assert alarm["MetricName"] == "HasBacklogWithoutCapacity"
    assert alarm["AlarmActions"] == [{"Ref": name}]
    assert [found["Name"] for found in alarm["Dimensions"]] == ["EndpointName"]
    assert (alarm["Threshold"], alarm["EvaluationPeriods"]) == (1, 2)


CANARY = {
    "strategy": "CANARY",
    "canary": {"unit": "PERCENT", "value": 50},
    "bake_seconds": 300,
    "termination_wait_seconds": 180,
    "timeout_seconds": 3600,
}


def warm(**changed: Any) -> Mapping[str, Any]:
    """The Asynchronous stack's resources by path, of a stage whose fleet is otherwise."""
    settings = context("sandbox")
    stage: dict[str, Any] = settings["stages"]["sandbox"]
    stage["options"] = ["asynchronous"]
    stage["asynchronous"] |= changed
    app = cdk.App(context=settings)
    build(app)
    top: IConstruct = app.node.find_child("Asynchronous")
    return {
        f"{found.node.path}".removeprefix("Asynchronous/"): found
        for found in top.node.find_all()
        if isinstance(found, cdk.CfnResource)
    }


@pytest.fixture(scope="module")
def kept() -> Mapping[str, Any]:
    return warm(minimum_instances=2, rollout=CANARY)


def test_a_fleet_of_two_at_the_least_starts_so_and_never_scales_below(kept: Mapping[str, Any]) -> None:
    (variant,) = kept["Endpoint/Config"].production_variants
    target = kept["Scaling/Target"]
    assert (variant.initial_instance_count, target.min_capacity, target.max_capacity) == (2, 2, 2)


def test_a_fleet_of_two_at_the_least_can_be_replaced_by_canary(kept: Mapping[str, Any]) -> None:
    routing = kept[
        "Endpoint/Endpoint"
    ].deployment_config.blue_green_update_policy.traffic_routing_configuration
    assert (routing.type, routing.canary_size.value) == ("CANARY", 50)


def test_what_always_runs_needs_no_first_instance(kept: Mapping[str, Any]) -> None:
    assert {path for path in kept if path.startswith("Scaling/")} == {"Scaling/Target", "Scaling/Backlog"}


def test_scaling_waits_for_the_endpoint(asynchronous: Template) -> None:
    (endpoint,) = asynchronous.resources("AWS::SageMaker::Endpoint")
    assert endpoint in asynchronous.only("AWS::ApplicationAutoScaling::ScalableTarget")["DependsOn"]


def test_before_a_model_there_are_topics_and_the_alarm(asynchronous: Template) -> None:
    assert unconditional(asynchronous) - {"AWS::CDK::Metadata"} == {
        "AWS::CloudWatch::Alarm",
        "AWS::SNS::Topic",
        "AWS::SNS::TopicPolicy",
    }
