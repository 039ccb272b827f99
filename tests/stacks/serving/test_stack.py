"""What the Serving template promises, in both stages."""

import inspect
import json
import re
from collections.abc import Callable
from typing import Any, cast

import aws_cdk as cdk
import botocore.session
import pytest
from aws_cdk import aws_cloudwatch as cloudwatch

from lambdas import serving_stack, stream_consumer
from local.cloud import evaluation
from stacks import config
from stacks.serving.alarms import RollbackAlarms
from stacks.serving_config import AlarmConfig
from tools.assembly import Assembly, Template, context

CONDITIONAL = {
    "AWS::SageMaker::Model",
    "AWS::SageMaker::EndpointConfig",
    "AWS::SageMaker::Endpoint",
    "AWS::ApplicationAutoScaling::ScalableTarget",
    "AWS::ApplicationAutoScaling::ScalingPolicy",
}


@pytest.fixture
def serving(each_assembly: Assembly) -> Template:
    return each_assembly.template("Serving")


@pytest.fixture
def stage(each_assembly: Assembly) -> config.Config:
    return config.load(context(each_assembly.stage))


def test_serving_shows_all_eight_sections(serving: Template) -> None:
    assert {
        "AWSTemplateFormatVersion",
        "Description",
        "Metadata",
        "Parameters",
        "Mappings",
        "Conditions",
        "Resources",
        "Outputs",
    } <= set(serving.json)
    assert serving.json["AWSTemplateFormatVersion"] == "2010-09-09"
    groups = serving.json["Metadata"]["AWS::CloudFormation::Interface"]["ParameterGroups"]
    assert [group["Parameters"] for group in groups] == [["ModelPackageArn", "RollbackAlarms"]]


def test_serving_deploys_before_any_model_exists(serving: Template) -> None:
    assert serving.json["Parameters"]["ModelPackageArn"]["Default"] == ""
    assert serving.json["Conditions"]["HasModel"] == {
        "Fn::Not": [{"Fn::Equals": [{"Ref": "ModelPackageArn"}, ""]}]
    }
    conditional = {
        resource["Type"]
        for resource in serving.resources().values()
        if resource.get("Condition") == "HasModel"
    }
    assert conditional == CONDITIONAL
    unconditional = {resource["Type"] for resource in serving.resources().values()} - conditional
    assert unconditional == {"AWS::CloudWatch::Alarm"}


def test_no_unconditional_resource_refers_to_a_conditional_one(serving: Template) -> None:
    conditional = {name for name, resource in serving.resources().items() if "Condition" in resource}
    for name in serving.resources().keys() - conditional:
        text = json.dumps(serving.resources()[name])
        assert not [other for other in conditional if f'"{other}"' in text]


def test_no_stack_imports_anything_from_serving(each_assembly: Assembly) -> None:
    assert not [output for output in each_assembly.template("Serving").outputs.values() if "Export" in output]
    for template in each_assembly.templates.values():
        assert f"flights-{each_assembly.stage}-serving:" not in json.dumps(template.json)


@pytest.mark.parametrize(
    ("value", "allowed"),
    [
        ("", True),
        ("arn:aws:sagemaker:eu-west-1:123456789012:model-package/flights-sandbox/12", True),
        ("arn:aws-us-gov:sagemaker:us-gov-west-1:123456789012:model-package/flights/1", True),
        ("arn:aws:sagemaker:eu-west-1:123456789012:model-package/unversioned", False),
        ("arn:aws:sagemaker:eu-west-1:123456789012:model/flights/1", False),
        ("flights/1", False),
    ],
)
def test_the_parameter_takes_a_version_or_nothing(
    assembly: Callable[[str], Assembly], value: str, *, allowed: bool
) -> None:
    pattern = assembly("sandbox").template("Serving").json["Parameters"]["ModelPackageArn"]["AllowedPattern"]
    assert bool(re.search(pattern, value)) is allowed


def test_the_release_functions_know_parameter_and_output_by_name(serving: Template) -> None:
    assert serving_stack.MODEL_PARAMETER in serving.json["Parameters"]
    output = serving.outputs[serving_stack.CONFIG_OUTPUT]
    assert output["Condition"] == "HasModel"
    name, attribute = output["Value"]["Fn::GetAtt"]
    assert (serving.resources()[name]["Type"], attribute) == (
        "AWS::SageMaker::EndpointConfig",
        "EndpointConfigName",
    )


def test_the_model_is_the_approved_package_and_reaches_no_network(serving: Template) -> None:
    model = serving.only("AWS::SageMaker::Model")["Properties"]
    assert model["PrimaryContainer"] == {"ModelPackageName": {"Ref": "ModelPackageArn"}}
    assert model["EnableNetworkIsolation"] is True
    assert "ModelName" not in model, "a fixed name cannot be replaced"


def test_the_model_is_in_the_network_where_the_stage_is_isolated(
    assembly: Callable[[str], Assembly],
) -> None:
    def network(stage: str) -> Any:
        return (
            assembly(stage).template("Serving").only("AWS::SageMaker::Model")["Properties"].get("VpcConfig")
        )

    assert network("sandbox") is None
    assert len(network("production")["Subnets"]) == 3


def test_the_fleet_comes_from_the_mapping_of_the_stage(serving: Template, stage: config.Config) -> None:
    variant = serving.only("AWS::SageMaker::EndpointConfig")["Properties"]["ProductionVariants"][0]
    assert variant["InstanceType"] == {"Fn::FindInMap": ["Fleet", stage.stage, "InstanceType"]}
    assert variant["InitialInstanceCount"] == {"Fn::FindInMap": ["Fleet", stage.stage, "InstanceCount"]}
    assert serving.json["Mappings"]["Fleet"] == {
        stage.stage: {
            "InstanceType": stage.serving.instance_type,
            "InstanceCount": stage.serving.instance_count,
        }
    }


def test_sagemaker_hosts_the_instance_type_of_the_stage(stage: config.Config) -> None:
    """cfn-lint cannot see it behind Fn::FindInMap."""
    model = botocore.session.get_session().get_service_model("sagemaker")
    assert stage.serving.instance_type in model.shape_for("ProductionVariantInstanceType").enum


def test_requests_and_answers_are_captured_encrypted_under_datacapture(
    serving: Template, stage: config.Config
) -> None:
    capture = serving.only("AWS::SageMaker::EndpointConfig")["Properties"]["DataCaptureConfig"]
    assert capture["EnableCapture"] is True
    assert capture["InitialSamplingPercentage"] == stage.serving.data_capture_percent
    assert capture["DestinationS3Uri"]["Fn::Join"][1][-1] == "/datacapture"
    assert [option["CaptureMode"] for option in capture["CaptureOptions"]] == ["Input", "Output"]
    assert "KmsKeyId" in capture


def test_what_an_update_replaces_stays_and_what_is_deleted_with_the_stack_goes(serving: Template) -> None:
    for kind in ("AWS::SageMaker::Model", "AWS::SageMaker::EndpointConfig"):
        resource = serving.only(kind)
        assert (resource["UpdateReplacePolicy"], resource["DeletionPolicy"]) == ("Retain", "Delete")


def test_the_endpoint_waits_for_its_alarms_and_is_rolled_back_by_them(serving: Template) -> None:
    alarms = sorted(serving.resources("AWS::CloudWatch::Alarm"))
    endpoint = serving.only("AWS::SageMaker::Endpoint")
    assert sorted(endpoint["DependsOn"]) == alarms
    condition, rollback, without = endpoint["Properties"]["DeploymentConfig"]["AutoRollbackConfiguration"][
        "Fn::If"
    ]
    assert sorted(alarm["AlarmName"]["Ref"] for alarm in rollback["Alarms"]) == alarms
    assert without == {"Ref": "AWS::NoValue"}
    assert serving.json["Conditions"][condition] == {"Fn::Equals": [{"Ref": "RollbackAlarms"}, "on"]}
    assert serving.json["Parameters"]["RollbackAlarms"]["Default"] == "on"


def test_the_stack_tells_which_alarms_would_take_a_rollout_back(serving: Template) -> None:
    names = serving.json["Outputs"]["RollbackAlarmNames"]["Value"]["Fn::Join"]
    assert names[0] == ","
    assert sorted(name["Ref"] for name in names[1]) == sorted(serving.resources("AWS::CloudWatch::Alarm"))


def test_an_update_keeps_the_autoscaled_count_and_nothing_else(serving: Template) -> None:
    endpoint = serving.only("AWS::SageMaker::Endpoint")["Properties"]
    assert endpoint["RetainAllVariantProperties"] is True
    excluded = [item["VariantPropertyType"] for item in endpoint["ExcludeRetainedVariantProperties"]]
    assert sorted(excluded) == ["DataCaptureConfig", "DesiredWeight"]


def _alarm(serving: Template, part: str) -> dict[str, Any]:
    (found,) = [
        alarm
        for name, alarm in serving.resources("AWS::CloudWatch::Alarm").items()
        if name.startswith(f"Alarms{part}")
    ]
    properties: dict[str, Any] = found["Properties"]
    return properties


def test_alarms_know_the_endpoint_by_name_and_take_silence_for_health(
    serving: Template, stage: config.Config
) -> None:
    dimensions = [
        {"Name": "EndpointName", "Value": stage.endpoint_name},
        {"Name": "VariantName", "Value": "AllTraffic"},
    ]
    variant = serving.only("AWS::SageMaker::EndpointConfig")["Properties"]["ProductionVariants"][0]
    assert variant["VariantName"] == "AllTraffic"
    assert _alarm(serving, "Latency")["Dimensions"] == dimensions
    metrics = [item["MetricStat"] for item in _alarm(serving, "Errors")["Metrics"] if item.get("MetricStat")]
    assert all(metric["Metric"]["Dimensions"] == dimensions for metric in metrics)
    for alarm in serving.resources("AWS::CloudWatch::Alarm").values():
        assert alarm["Properties"]["TreatMissingData"] == "notBreaching"


def test_the_error_alarm_is_a_share_of_server_errors(serving: Template, stage: config.Config) -> None:
    alarm = _alarm(serving, "Errors")
    (expression,) = [item["Expression"] for item in alarm["Metrics"] if "Expression" in item]
    assert expression == "IF(invocations > 0, 100 * FILL(errors, 0) / invocations, 0)"
    names = {
        item["Id"]: (item["MetricStat"]["Metric"]["MetricName"], item["MetricStat"]["Stat"])
        for item in alarm["Metrics"]
        if "MetricStat" in item
    }
    assert names == {"errors": ("Invocation5XXErrors", "Sum"), "invocations": ("Invocations", "Sum")}
    assert alarm["Threshold"] == stage.serving.alarms.error_percent


def test_a_client_error_rolls_nothing_back(serving: Template) -> None:
    assert "4XX" not in json.dumps(serving.resources("AWS::CloudWatch::Alarm"))


def test_the_latency_alarm_is_in_microseconds(serving: Template, stage: config.Config) -> None:
    alarm = _alarm(serving, "Latency")
    statistic = alarm.get("ExtendedStatistic") or alarm["Statistic"]
    assert (alarm["MetricName"], statistic) == ("ModelLatency", stage.serving.alarms.latency_statistic)
    assert alarm["Threshold"] == stage.serving.alarms.latency_milliseconds * 1_000


@pytest.mark.parametrize("statistic", ["p99", "Average", "Maximum"])
def test_the_latency_alarm_takes_the_statistic_of_the_configuration(statistic: str) -> None:
    alarms = context("sandbox")["stages"]["sandbox"]["serving"]["alarms"]
    settings = AlarmConfig.model_validate(alarms | {"latency_statistic": statistic})
    stack = cdk.Stack()
    made = RollbackAlarms(
        stack, "Alarms", endpoint_name="e", variant_name="v", namespace="n", settings=settings
    )
    latency = cast("cloudwatch.CfnAlarm", made.alarms[1].node.default_child)
    assert (latency.extended_statistic or latency.statistic) == statistic


def mean_is_odd(serving: Template, *, predicted: float | None, mean: float) -> float | None:
    """What the quality alarm's expression makes of a minute, calculated as the embedded cloud does."""
    metrics = _alarm(serving, "Quality")["Metrics"]
    (expression,) = [item["Expression"] for item in metrics if "Expression" in item]
    scores = None if predicted is None else predicted * mean
    return evaluation.calculate(expression, {"predicted": predicted, "scores": scores})


def test_the_quality_alarm_goes_off_outside_its_band_only(serving: Template, stage: config.Config) -> None:
    alarm, band = _alarm(serving, "Quality"), stage.serving.alarms.quality
    assert (alarm["Threshold"], alarm["ComparisonOperator"]) == (1, "GreaterThanOrEqualToThreshold")
    low, high = band.minimum_mean_score, band.maximum_mean_score
    for mean, odd in ((low - 0.01, 1), (low + 0.01, 0), (high - 0.01, 0), (high + 0.01, 1)):
        assert mean_is_odd(serving, predicted=1_000, mean=mean) == odd
    few = band.minimum_predictions
    assert mean_is_odd(serving, predicted=few, mean=high + 0.1) == 1
    assert mean_is_odd(serving, predicted=few - 1, mean=high + 0.1) == 0
    assert mean_is_odd(serving, predicted=None, mean=0) is None, "nothing predicted: no data, no breach"


def test_the_quality_alarm_reads_what_the_consumer_counts(each_assembly: Assembly, serving: Template) -> None:
    metrics = [item["MetricStat"] for item in _alarm(serving, "Quality")["Metrics"] if "MetricStat" in item]
    assert {found["Metric"]["MetricName"] for found in metrics} == {"RecordsPredicted", "SumOfScores"}
    assert "SumOfScores" in inspect.getsource(stream_consumer.handler)
    assert "RecordsPredicted" in inspect.getsource(stream_consumer.count)
    functions = each_assembly.template("Ingestion").resources("AWS::Lambda::Function").values()
    (variables,) = [function["Properties"]["Environment"]["Variables"] for function in functions]
    for found in metrics:
        assert found["Metric"]["Namespace"] == variables["POWERTOOLS_METRICS_NAMESPACE"]
        assert found["Metric"]["Dimensions"] == [
            {"Name": "service", "Value": variables["POWERTOOLS_SERVICE_NAME"]}
        ]
        assert found["Stat"] == "Sum"


def test_scaling_tracks_invocations_of_this_variant(serving: Template, stage: config.Config) -> None:
    target = serving.only("AWS::ApplicationAutoScaling::ScalableTarget")
    assert target["Properties"] | {"Tags": None, "ScheduledActions": None} == {
        "ServiceNamespace": "sagemaker",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
        "ResourceId": f"endpoint/{stage.endpoint_name}/variant/AllTraffic",
        "MinCapacity": stage.serving.instance_count,
        "MaxCapacity": stage.serving.autoscaling.maximum_instances,
        "ScheduledActions": None,
        "Tags": None,
    }
    policy = serving.only("AWS::ApplicationAutoScaling::ScalingPolicy")["Properties"]
    tracking = policy["TargetTrackingScalingPolicyConfiguration"]
    assert tracking["PredefinedMetricSpecification"] == {
        "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"
    }
    assert tracking["TargetValue"] == stage.serving.autoscaling.invocations_per_instance


def test_the_clock_moves_the_limits_of_the_fleet(serving: Template, stage: config.Config) -> None:
    target = serving.only("AWS::ApplicationAutoScaling::ScalableTarget")["Properties"]
    assert [
        (
            found["ScheduledActionName"],
            found["Schedule"],
            *found["ScalableTargetAction"].values(),
        )
        for found in target.get("ScheduledActions", [])
    ] == [
        (action.name, action.schedule, action.maximum, action.minimum)
        for action in stage.serving.autoscaling.scheduled
    ]


def test_scaling_waits_for_the_endpoint(serving: Template) -> None:
    (endpoint,) = serving.resources("AWS::SageMaker::Endpoint")
    assert endpoint in serving.only("AWS::ApplicationAutoScaling::ScalableTarget")["DependsOn"]
