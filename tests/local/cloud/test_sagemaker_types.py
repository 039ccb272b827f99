"""Registry, models, endpoints and scaling as CloudFormation makes them: created, updated, replaced, failed, deleted."""

import functools
import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local.cloud.test_sagemaker_endpoints import Hosting
from tests.local.test_registry import ENVIRONMENT


@pytest.fixture(scope="module")
def hosting(client: Callable[[str], Any]) -> Hosting:
    return Hosting(client)


@pytest.fixture
def stack(hosting: Hosting) -> Iterator[functools.partial[Any]]:
    """`stack(data, count)`: a stack with an endpoint of this archive, created or updated; its final description."""
    name = f"stack-{uuid.uuid4().hex[:8]}"
    yield functools.partial(deploy, hosting, name)
    cloudformation = hosting.client("cloudformation")
    cloudformation.delete_stack(StackName=name)
    wait(hosting, name)


def template(hosting: Hosting, endpoint: str, data: str, maximum: int) -> dict[str, Any]:
    container = {"Image": "image:1", "ModelDataUrl": data, "Environment": ENVIRONMENT}
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": {"Fn::GetAtt": ["Model", "ModelName"]},
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": "1",
        "InitialVariantWeight": 1,
    }
    target = {
        "ServiceNamespace": "sagemaker",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
        "ResourceId": f"endpoint/{endpoint}/variant/AllTraffic",
        "MinCapacity": 1,
        "MaxCapacity": maximum,
    }
    tracking = {
        "TargetValue": 100,
        "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
    }
    types: dict[str, tuple[str, dict[str, Any]]] = {
        "Model": (
            "AWS::SageMaker::Model",
            {"ExecutionRoleArn": hosting.role, "PrimaryContainer": container},
        ),
        "Config": ("AWS::SageMaker::EndpointConfig", {"ProductionVariants": [variant]}),
        "Endpoint": (
            "AWS::SageMaker::Endpoint",
            {
                "EndpointName": endpoint,
                "EndpointConfigName": {"Fn::GetAtt": ["Config", "EndpointConfigName"]},
            },
        ),
        "Target": ("AWS::ApplicationAutoScaling::ScalableTarget", target),
        "Policy": (
            "AWS::ApplicationAutoScaling::ScalingPolicy",
            {
                "PolicyName": "tracking",
                "PolicyType": "TargetTrackingScaling",
                "ScalingTargetId": {"Ref": "Target"},
                "TargetTrackingScalingPolicyConfiguration": tracking,
            },
        ),
    }
    found = {name: {"Type": kind, "Properties": properties} for name, (kind, properties) in types.items()}
    found["Target"]["DependsOn"] = "Endpoint"
    outputs = {
        "Endpoint": {"Value": {"Ref": "Endpoint"}},
        "EndpointName": {"Value": {"Fn::GetAtt": ["Endpoint", "EndpointName"]}},
        "Model": {"Value": {"Ref": "Model"}},
        "Config": {"Value": {"Fn::GetAtt": ["Config", "EndpointConfigName"]}},
        "Target": {"Value": {"Ref": "Target"}},
        "Policy": {"Value": {"Ref": "Policy"}},
    }
    return {"Resources": found, "Outputs": outputs}


def deploy(hosting: Hosting, name: str, data: str, maximum: int = 2) -> Any:
    cloudformation = hosting.client("cloudformation")
    body = json.dumps(template(hosting, name, data, maximum))
    try:
        cloudformation.create_stack(StackName=name, TemplateBody=body, Tags=[{"Key": "app", "Value": name}])
    except cloudformation.exceptions.AlreadyExistsException:
        cloudformation.update_stack(StackName=name, TemplateBody=body, Tags=[{"Key": "app", "Value": name}])
    return wait(hosting, name)


def wait(hosting: Hosting, name: str) -> Any:
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline:
        try:
            found = hosting.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
        except ClientError:
            return None
        if not found["StackStatus"].endswith("_IN_PROGRESS"):
            return found
        time.sleep(0.2)
    raise AssertionError(found["StackStatus"])


def outputs(stack: Any) -> dict[str, str]:
    return {it["OutputKey"]: it["OutputValue"] for it in stack["Outputs"]}


def test_a_stack_puts_a_model_in_service_and_an_update_replaces_it(hosting: Hosting, stack) -> None:
    created = stack(hosting.store(2))
    assert created["StackStatus"] == "CREATE_COMPLETE", reasons(hosting, created)
    before, name = outputs(created), created["StackName"]
    assert before["Endpoint"] == f"arn:aws:sagemaker:us-east-1:000000000000:endpoint/{name}"
    assert before["EndpointName"] == name
    assert ":model/" in before["Model"]
    assert before["Target"] == (
        f"endpoint/{name}/variant/AllTraffic|sagemaker:variant:DesiredInstanceCount|sagemaker"
    )
    assert before["Policy"].startswith("arn:aws:autoscaling:")
    assert hosting.ask(name, "[1]")["Body"].read() == b'{"predictions": [2.0]}'
    tags = hosting.sagemaker.list_tags(ResourceArn=before["Model"])["Tags"]
    assert {"Key": "app", "Value": name} in tags

    updated = stack(hosting.store(7), 5)
    assert updated["StackStatus"] == "UPDATE_COMPLETE", reasons(hosting, updated)
    after = outputs(updated)
    assert after["Endpoint"] == before["Endpoint"]
    assert after["Model"] != before["Model"]
    assert after["Config"] != before["Config"]
    assert hosting.ask(name, "[1]")["Body"].read() == b'{"predictions": [7.0]}'
    (target,) = hosting.client("application-autoscaling").describe_scalable_targets(
        ServiceNamespace="sagemaker", ResourceIds=[f"endpoint/{name}/variant/AllTraffic"]
    )["ScalableTargets"]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 5)
    kept = hosting.client("application-autoscaling").list_tags_for_resource(
        ResourceARN=target["ScalableTargetARN"]
    )
    assert kept["Tags"]["app"] == name
    (policy,) = hosting.client("application-autoscaling").describe_scaling_policies(
        ServiceNamespace="sagemaker", ResourceId=target["ResourceId"]
    )["ScalingPolicies"]
    assert policy["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 100


def test_an_endpoint_that_does_not_come_up_rolls_the_stack_back(hosting: Hosting, stack) -> None:
    failed = stack(hosting.store(program="raise ValueError('no')"))
    assert failed["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "did not pass the ping health check" in reasons(hosting, failed)
    assert not hosting.sagemaker.list_endpoints(NameContains=failed["StackName"])["Endpoints"]
    assert not hosting.sagemaker.list_models(NameContains=failed["StackName"])["Models"]


def test_a_failed_update_keeps_the_old_model_in_service(hosting: Hosting, stack) -> None:
    before = stack(hosting.store(2))
    failed = stack(hosting.store(program="raise ValueError('no')"))
    assert failed["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE", reasons(hosting, failed)
    name = failed["StackName"]
    assert hosting.ask(name, "[1]")["Body"].read() == b'{"predictions": [2.0]}'
    running = hosting.sagemaker.describe_endpoint(EndpointName=name)["EndpointConfigName"]
    assert running == outputs(before)["Config"]


def test_a_missing_archive_fails_the_model_with_the_api_s_words(hosting: Hosting, stack) -> None:
    failed = stack(f"s3://{hosting.bucket}/model/none.tar.gz")
    assert failed["StackStatus"] == "ROLLBACK_COMPLETE"
    assert "Could not find model data at s3://" in reasons(hosting, failed)


def reasons(hosting: Hosting, stack: Any) -> str:
    events = hosting.client("cloudformation").describe_stack_events(StackName=stack["StackId"])["StackEvents"]
    return " | ".join(event.get("ResourceStatusReason", "") for event in events)
