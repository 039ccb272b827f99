"""Application Auto Scaling over the API and CloudFormation: alarms that exist, schedules, and what is refused."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local.cloud.test_stream import eventually

Client = Callable[[str], Any]
DIMENSION = "sagemaker:variant:DesiredInstanceCount"
TRACKING = {
    "TargetValue": 100.0,
    "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
}
STEPS = {
    "AdjustmentType": "ChangeInCapacity",
    "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}],
}


@pytest.fixture
def target(client: Client) -> Iterator[dict[str, str]]:
    """A registered variant of an endpoint that is not there: nothing is scaled, everything is described."""
    key = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/e{uuid.uuid4().hex[:8]}/variant/AllTraffic",
        "ScalableDimension": DIMENSION,
    }
    scaling = client("application-autoscaling")
    scaling.register_scalable_target(**key, MinCapacity=1, MaxCapacity=4)
    yield key
    try:
        scaling.deregister_scalable_target(**key)
    except scaling.exceptions.ObjectNotFoundException:
        return


def limits(client: Client, key: dict[str, str]) -> tuple[int, int]:
    (found,) = client("application-autoscaling").describe_scalable_targets(
        ServiceNamespace="sagemaker", ResourceIds=[key["ResourceId"]]
    )["ScalableTargets"]
    return found["MinCapacity"], found["MaxCapacity"]


def alarms(client: Client, resource: str) -> dict[str, Any]:
    found = client("cloudwatch").describe_alarms(AlarmNamePrefix=f"TargetTracking-{resource}-")[
        "MetricAlarms"
    ]
    return {it["AlarmName"].removeprefix(f"TargetTracking-{resource}-")[:9].rstrip("-"): it for it in found}


def test_target_tracking_keeps_two_alarms_in_cloudwatch(client: Client, target: dict[str, str]) -> None:
    scaling = client("application-autoscaling")
    policy = {**target, "PolicyName": "p", "PolicyType": "TargetTrackingScaling"}
    put = scaling.put_scaling_policy(**policy, TargetTrackingScalingPolicyConfiguration=TRACKING)
    found = alarms(client, target["ResourceId"])
    assert {it["AlarmARN"] for it in put["Alarms"]} == {it["AlarmArn"] for it in found.values()}
    high, low = found["AlarmHigh"], found["AlarmLow"]
    assert (high["Threshold"], high["ComparisonOperator"], high["EvaluationPeriods"]) == (
        100,
        "GreaterThanThreshold",
        3,
    )
    assert (low["Threshold"], low["ComparisonOperator"], low["EvaluationPeriods"]) == (
        90,
        "LessThanThreshold",
        15,
    )
    assert high["AlarmActions"] == low["AlarmActions"] == [put["PolicyARN"]]
    assert (high["MetricName"], high["Statistic"], high["Period"]) == ("InvocationsPerInstance", "Sum", 60)

    changed = TRACKING | {"TargetValue": 50.0, "DisableScaleIn": True}
    scaling.put_scaling_policy(**policy, TargetTrackingScalingPolicyConfiguration=changed)
    after = alarms(client, target["ResourceId"])
    assert list(after) == ["AlarmHigh"]
    assert (after["AlarmHigh"]["AlarmName"], after["AlarmHigh"]["Threshold"]) == (high["AlarmName"], 50)
    scaling.delete_scaling_policy(**target, PolicyName="p")
    assert alarms(client, target["ResourceId"]) == {}


def test_a_deregistered_target_takes_its_alarms_and_actions_along(
    client: Client, target: dict[str, str]
) -> None:
    scaling = client("application-autoscaling")
    scaling.put_scaling_policy(
        **target,
        PolicyName="p",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration=TRACKING,
    )
    action = {"Schedule": "cron(0 22 * * ? *)", "ScalableTargetAction": {"MaxCapacity": 2}}
    scaling.put_scheduled_action(**target, ScheduledActionName="night", **action)
    scaling.deregister_scalable_target(**target)
    assert alarms(client, target["ResourceId"]) == {}
    assert not scaling.describe_scheduled_actions(
        ServiceNamespace="sagemaker", ResourceId=target["ResourceId"]
    )["ScheduledActions"]


def test_a_step_policy_shows_the_alarms_that_name_it(client: Client, target: dict[str, str]) -> None:
    scaling = client("application-autoscaling")
    policy = scaling.put_scaling_policy(
        **target, PolicyName="steps", PolicyType="StepScaling", StepScalingPolicyConfiguration=STEPS
    )["PolicyARN"]
    name = f"a{uuid.uuid4().hex[:8]}"
    client("cloudwatch").put_metric_alarm(
        AlarmName=name,
        Namespace="AWS/SageMaker",
        MetricName="HasBacklogWithoutCapacity",
        Statistic="Average",
        Period=60,
        EvaluationPeriods=2,
        Threshold=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        AlarmActions=[policy],
    )
    (found,) = scaling.describe_scaling_policies(ServiceNamespace="sagemaker", PolicyNames=["steps"])[
        "ScalingPolicies"
    ]
    assert [it["AlarmName"] for it in found["Alarms"]] == [name]
    assert found["StepScalingPolicyConfiguration"] == STEPS
    client("cloudwatch").delete_alarms(AlarmNames=[name])


def test_a_scheduled_action_sets_the_limits_at_its_time(client: Client, target: dict[str, str]) -> None:
    scaling = client("application-autoscaling")
    action = {"Schedule": "rate(1 minute)", "ScalableTargetAction": {"MinCapacity": 2, "MaxCapacity": 3}}
    scaling.put_scheduled_action(**target, ScheduledActionName="day", **action)
    (found,) = scaling.describe_scheduled_actions(
        ServiceNamespace="sagemaker", ResourceId=target["ResourceId"]
    )["ScheduledActions"]
    assert (found["Schedule"], found["ScalableTargetAction"]) == (
        action["Schedule"],
        action["ScalableTargetAction"],
    )
    assert ":scheduledAction:" in found["ScheduledActionARN"]
    assert eventually(lambda: limits(client, target) == (2, 3))  # a minute is a second here
    scaling.delete_scheduled_action(**target, ScheduledActionName="day")
    with pytest.raises(ClientError, match="No scheduled action found"):
        scaling.delete_scheduled_action(**target, ScheduledActionName="day")


def test_a_one_time_action_runs_once(client: Client, target: dict[str, str]) -> None:
    scaling = client("application-autoscaling")
    past = {"Schedule": "at(2001-01-01T00:00:00)", "ScalableTargetAction": {"MaxCapacity": 9}}
    scaling.put_scheduled_action(**target, ScheduledActionName="past", **past)
    soon = f"at({time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(time.time() + 86400))})"
    scaling.put_scheduled_action(
        **target, ScheduledActionName="later", Schedule=soon, ScalableTargetAction={"MaxCapacity": 8}
    )
    time.sleep(1.5)
    assert limits(client, target) == (1, 4)


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("scaling_policy", {"PolicyType": "PredictiveScaling"}, "PredictiveScaling is unsupported"),
    ("scaling_policy", {"PolicyType": "StepScaling"}, "StepScalingPolicyConfiguration is required"),
    (
        "scaling_policy",
        {
            "PolicyType": "StepScaling",
            "StepScalingPolicyConfiguration": STEPS
            | {
                "StepAdjustments": [
                    {"MetricIntervalLowerBound": 0.0, "MetricIntervalUpperBound": 1.0, "ScalingAdjustment": 1}
                ]
            },
        },
        "null upper bound",
    ),
    (
        "scaling_policy",
        {
            "PolicyType": "TargetTrackingScaling",
            "TargetTrackingScalingPolicyConfiguration": TRACKING
            | {"PredefinedMetricSpecification": {"PredefinedMetricType": "ECSServiceAverageCPUUtilization"}},
        },
        "ECSServiceAverageCPUUtilization is unsupported",
    ),
    ("scheduled_action", {"Schedule": "daily", "ScalableTargetAction": {"MinCapacity": 1}}, "is no schedule"),
    ("scheduled_action", {"Schedule": "rate(1 day)"}, "ScalableTargetAction are required"),
    (
        "scheduled_action",
        {"Schedule": "rate(1 day)", "ScalableTargetAction": {"MinCapacity": 1}, "Timezone": "Europe/Berlin"},
        "Timezone other than UTC is unsupported",
    ),
]


@pytest.mark.parametrize(("kind", "given", "reason"), REFUSED, ids=[it[2] for it in REFUSED])
def test_what_aws_refuses_or_is_missing_here_is_named(
    client: Client, target: dict[str, str], kind: str, given: dict[str, Any], reason: str
) -> None:
    scaling = client("application-autoscaling")
    name = {"scaling_policy": "PolicyName", "scheduled_action": "ScheduledActionName"}[kind]
    with pytest.raises(ClientError, match=f"ValidationException.*{reason}"):
        getattr(scaling, f"put_{kind}")(**target, **{name: "x"}, **given)


def test_the_linked_role_exists_and_may_scale_endpoints_and_keep_alarms_alone(
    client: Client, target: dict[str, str]
) -> None:
    name = "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
    role = client("iam").get_role(RoleName=name)["Role"]
    assert role["Path"] == "/aws-service-role/sagemaker.application-autoscaling.amazonaws.com/"
    (found,) = client("application-autoscaling").describe_scalable_targets(
        ServiceNamespace="sagemaker", ResourceIds=[target["ResourceId"]]
    )["ScalableTargets"]
    assert found["RoleARN"] == role["Arn"]
    policy = client("iam").get_role_policy(RoleName=name, PolicyName="Managed")["PolicyDocument"]
    (statement,) = policy["Statement"]
    assert {action.partition(":")[0] for action in statement["Action"]} == {"sagemaker", "cloudwatch"}
    assert "sagemaker:UpdateEndpointWeightsAndCapacities" in statement["Action"]


def test_target_tracking_follows_a_metric_of_one_s_own(client: Client, target: dict[str, str]) -> None:
    scaling, endpoint = client("application-autoscaling"), target["ResourceId"].split("/")[1]
    metric = {
        "Namespace": "AWS/SageMaker",
        "MetricName": "ApproximateBacklogSizePerInstance",
        "Statistic": "Average",
        "Dimensions": [{"Name": "EndpointName", "Value": endpoint}],
    }
    policy = {**target, "PolicyName": "backlog", "PolicyType": "TargetTrackingScaling"}
    given = {"TargetValue": 5.0, "CustomizedMetricSpecification": metric}
    scaling.put_scaling_policy(**policy, TargetTrackingScalingPolicyConfiguration=given)
    high = alarms(client, target["ResourceId"])["AlarmHigh"]
    assert {name: high[name] for name in metric} == metric
    math = {"Metrics": [{"Id": "e", "Expression": "a / b"}]}
    with pytest.raises(ClientError, match="Metric math is unsupported"):
        scaling.put_scaling_policy(
            **policy,
            TargetTrackingScalingPolicyConfiguration={
                "TargetValue": 5.0,
                "CustomizedMetricSpecification": math,
            },
        )


def test_a_target_whose_endpoint_is_not_there_has_no_activities(
    client: Client, target: dict[str, str]
) -> None:
    found = client("application-autoscaling").describe_scaling_activities(
        ServiceNamespace="sagemaker", ResourceId=target["ResourceId"], IncludeNotScaledActivities=True
    )
    assert found["ScalingActivities"] == []


def template(resource: str, actions: list[Any], lower: float) -> str:
    target = {
        "ServiceNamespace": "sagemaker",
        "ScalableDimension": DIMENSION,
        "ResourceId": resource,
        "MinCapacity": "0",
        "MaxCapacity": 2,
        "ScheduledActions": actions,
    }
    steps = {**STEPS, "StepAdjustments": [{"MetricIntervalLowerBound": lower, "ScalingAdjustment": 1}]}
    policy = {
        "PolicyName": "steps",
        "PolicyType": "StepScaling",
        "ScalingTargetId": {"Ref": "Target"},
        "StepScalingPolicyConfiguration": steps,
    }
    alarm = {
        "Namespace": "AWS/SageMaker",
        "MetricName": "HasBacklogWithoutCapacity",
        "Period": 60,
        "EvaluationPeriods": 2,
        "Threshold": 1,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "AlarmActions": [{"Ref": "Policy"}],
    }
    return json.dumps(
        {
            "Resources": {
                "Target": {"Type": "AWS::ApplicationAutoScaling::ScalableTarget", "Properties": target},
                "Policy": {"Type": "AWS::ApplicationAutoScaling::ScalingPolicy", "Properties": policy},
                "Alarm": {"Type": "AWS::CloudWatch::Alarm", "Properties": alarm},
            }
        }
    )


def test_a_stack_has_step_policies_scheduled_actions_and_alarms_on_a_policy(client: Client) -> None:
    name, cloudformation = f"s{uuid.uuid4().hex[:8]}", client("cloudformation")
    resource = f"endpoint/{name}/variant/AllTraffic"
    scaling = client("application-autoscaling")

    def status() -> Any:
        found = cloudformation.describe_stacks(StackName=name)["Stacks"][0]["StackStatus"]
        return None if found.endswith("_IN_PROGRESS") else found

    def actions() -> dict[str, Any]:
        found = scaling.describe_scheduled_actions(ServiceNamespace="sagemaker", ResourceId=resource)
        return {it["ScheduledActionName"]: it["ScalableTargetAction"] for it in found["ScheduledActions"]}

    def action(called: str, maximum: int) -> dict[str, Any]:
        limit = {"MaxCapacity": str(maximum)}
        return {
            "ScheduledActionName": called,
            "Schedule": "cron(0 22 * * ? *)",
            "ScalableTargetAction": limit,
        }

    cloudformation.create_stack(
        StackName=name, TemplateBody=template(resource, [action("night", 1), action("day", 2)], 0)
    )
    assert eventually(status) == "CREATE_COMPLETE"
    assert actions() == {"night": {"MaxCapacity": 1}, "day": {"MaxCapacity": 2}}
    (policy,) = scaling.describe_scaling_policies(ServiceNamespace="sagemaker", ResourceId=resource)[
        "ScalingPolicies"
    ]
    assert len(policy["Alarms"]) == 1
    cloudformation.update_stack(StackName=name, TemplateBody=template(resource, [action("night", 0)], -1))
    assert eventually(lambda: status() == "UPDATE_ROLLBACK_COMPLETE")  # a negative bound needs a null one
    assert actions() == {"night": {"MaxCapacity": 1}, "day": {"MaxCapacity": 2}}
    cloudformation.update_stack(StackName=name, TemplateBody=template(resource, [action("night", 0)], 1))
    assert eventually(lambda: status() == "UPDATE_COMPLETE")
    assert actions() == {"night": {"MaxCapacity": 0}}
    cloudformation.delete_stack(StackName=name)
    assert eventually(lambda: not actions())
