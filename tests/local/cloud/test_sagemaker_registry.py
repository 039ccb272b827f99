"""The model registry: versions, approval, the event of a change, and who may do it."""

import json
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.cloud.lifecycle import PYTHON
from local.cloud.place import Place
from tests.local.cloud.test_sagemaker_invoke import limited

SPECIFICATION = {
    "Containers": [{"Image": "image:1", "ModelDataUrl": "s3://bucket/model.tar.gz"}],
    "SupportedContentTypes": ["text/csv"],
    "SupportedResponseMIMETypes": ["text/csv"],
}


@pytest.fixture
def group(client: Callable[[str], Any]) -> Iterator[str]:
    """A new group; its versions and itself are deleted afterwards."""
    sagemaker, name = client("sagemaker"), f"group-{uuid.uuid4().hex[:8]}"
    sagemaker.create_model_package_group(ModelPackageGroupName=name, Tags=[{"Key": "app", "Value": name}])
    yield name
    for package in sagemaker.list_model_packages(ModelPackageGroupName=name)["ModelPackageSummaryList"]:
        sagemaker.delete_model_package(ModelPackageName=package["ModelPackageArn"])
    sagemaker.delete_model_package_group(ModelPackageGroupName=name)


@pytest.fixture
def heard(client: Callable[[str], Any], group: str) -> Iterator[Callable[[], dict[str, Any]]]:
    """`heard()`: the next event of the group's packages, as a rule delivers it to a queue."""
    sqs, events = client("sqs"), client("events")
    queue = sqs.create_queue(QueueName=group)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = {
        "Version": "2012-10-17",
        "Statement": {
            "Effect": "Allow",
            "Principal": {"Service": "events.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": arn,
        },
    }
    sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": json.dumps(policy)})
    pattern = {"source": ["aws.sagemaker"], "detail": {"ModelPackageGroupName": [group]}}
    events.put_rule(Name=group, EventPattern=json.dumps(pattern))
    events.put_targets(Rule=group, Targets=[{"Id": "queue", "Arn": arn}])

    def receive() -> dict[str, Any]:
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            for message in sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1).get("Messages", []):
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
                event: dict[str, Any] = json.loads(message["Body"])
                return event
        raise AssertionError("no event came")

    yield receive
    events.remove_targets(Rule=group, Ids=["queue"])
    events.delete_rule(Name=group)
    sqs.delete_queue(QueueUrl=queue)


def register(sagemaker: Any, group: str, **more: Any) -> str:
    arn: str = sagemaker.create_model_package(
        ModelPackageGroupName=group, InferenceSpecification=SPECIFICATION, **more
    )["ModelPackageArn"]
    return arn


def test_versions_are_numbered_and_no_number_comes_twice(client, group: str) -> None:
    sagemaker = client("sagemaker")
    first, second = register(sagemaker, group), register(sagemaker, group)
    assert [first, second] == [
        f"arn:aws:sagemaker:us-east-1:000000000000:model-package/{group}/{number}" for number in (1, 2)
    ]
    sagemaker.delete_model_package(ModelPackageName=second)
    assert register(sagemaker, group).endswith("/3")
    listed = sagemaker.list_model_packages(ModelPackageGroupName=group, SortOrder="Ascending")
    assert [it["ModelPackageVersion"] for it in listed["ModelPackageSummaryList"]] == [1, 3]


def test_versions_and_groups_are_listed_oldest_first_unless_asked_otherwise(client, group: str) -> None:
    """ListModelPackages and ListModelPackageGroups, as the API Reference has them; most other lists begin with the newest."""
    sagemaker, later = client("sagemaker"), f"{group}-later"
    versions = [register(sagemaker, group) for _ in range(3)]

    def listed(**asked: Any) -> list[str]:
        found = sagemaker.list_model_packages(ModelPackageGroupName=group, **asked)
        return [it["ModelPackageArn"] for it in found["ModelPackageSummaryList"]]

    assert listed() == listed(SortOrder="Ascending") == versions
    assert listed(SortOrder="Descending") == versions[::-1]
    sagemaker.create_model_package_group(ModelPackageGroupName=later)
    groups = sagemaker.list_model_package_groups(NameContains=group)["ModelPackageGroupSummaryList"]
    sagemaker.delete_model_package_group(ModelPackageGroupName=later)
    assert [it["ModelPackageGroupName"] for it in groups] == [group, later]


def test_a_version_is_described_as_it_was_registered(client, group: str) -> None:
    sagemaker = client("sagemaker")
    source = {"ContentType": "application/json", "S3Uri": "s3://bucket/evaluation.json"}
    metrics = {"ModelQuality": {"Statistics": source}}
    package = register(
        sagemaker, group, ModelMetrics=metrics, CustomerMetadataProperties={"estimator": "trees"}
    )
    found = sagemaker.describe_model_package(ModelPackageName=package)
    assert found["ModelMetrics"] == metrics
    assert found["CustomerMetadataProperties"] == {"estimator": "trees"}
    assert found["InferenceSpecification"] == SPECIFICATION
    assert found["ModelPackageStatus"] == "Completed"
    assert found["ModelApprovalStatus"] == "PendingManualApproval"


def test_an_approval_is_an_event_in_the_documented_shape(client, group: str, heard) -> None:
    sagemaker = client("sagemaker")
    package = register(sagemaker, group)
    created = heard()
    assert "UpdatedModelPackageFields" not in created["detail"]
    sagemaker.update_model_package(ModelPackageArn=package, ModelApprovalStatus="Approved")
    event = heard()
    assert event["detail-type"] == "SageMaker Model Package State Change"
    assert event["resources"] == [package]
    detail = event["detail"]
    assert detail["ModelPackageArn"] == package
    assert (detail["ModelPackageVersion"], detail["ModelApprovalStatus"]) == (1, "Approved")
    assert detail["UpdatedModelPackageFields"] == ["ModelApprovalStatus"]
    assert detail["InferenceSpecification"] == SPECIFICATION
    assert sagemaker.describe_model_package(ModelPackageName=package)["ModelApprovalStatus"] == "Approved"


def test_metadata_of_a_version_can_be_added_and_removed(client, group: str) -> None:
    sagemaker = client("sagemaker")
    package = register(sagemaker, group, CustomerMetadataProperties={"a": "1", "b": "2"})
    sagemaker.update_model_package(
        ModelPackageArn=package,
        CustomerMetadataProperties={"c": "3"},
        CustomerMetadataPropertiesToRemove=["a"],
    )
    found = sagemaker.describe_model_package(ModelPackageName=package)
    assert found["CustomerMetadataProperties"] == {"b": "2", "c": "3"}


def test_a_group_with_versions_is_not_deleted(client, group: str) -> None:
    sagemaker = client("sagemaker")
    register(sagemaker, group)
    with pytest.raises(ClientError, match="still contains Model Packages"):
        sagemaker.delete_model_package_group(ModelPackageGroupName=group)
    sagemaker.describe_model_package_group(ModelPackageGroupName=group)


def test_what_is_missing_is_the_error_that_our_functions_look_for(client, group: str) -> None:
    arn = f"arn:aws:sagemaker:us-east-1:000000000000:model-package/{group}/1"
    with pytest.raises(ClientError, match="does not exist") as raised:
        client("sagemaker").describe_model_package(ModelPackageName=arn)
    assert raised.value.response["Error"]["Code"] == "ValidationException"


def test_a_policy_may_say_which_approval_somebody_gives(cloud: Place, client, group: str) -> None:
    package = register(client("sagemaker"), group)
    rejecting = {"StringEquals": {"sagemaker:ModelApprovalStatus": "Rejected"}}
    sagemaker = limited(client, cloud, "sagemaker:UpdateModelPackage", Condition=rejecting)
    with pytest.raises(ClientError, match=r"AccessDenied.*sagemaker:UpdateModelPackage"):
        sagemaker.update_model_package(ModelPackageArn=package, ModelApprovalStatus="Approved")
    sagemaker.update_model_package(ModelPackageArn=package, ModelApprovalStatus="Rejected")
    found = client("sagemaker").describe_model_package(ModelPackageName=package)
    assert found["ModelApprovalStatus"] == "Rejected"


@pytest.mark.parametrize("operation", ["list_processing_jobs", "list_training_jobs"])
def test_an_operation_that_nobody_here_needs_says_so(client, operation: str) -> None:
    with pytest.raises(ClientError, match="Jobs is unsupported in the embedded cloud") as raised:
        getattr(client("sagemaker"), operation)()
    assert raised.value.response["ResponseMetadata"]["HTTPStatusCode"] == 501


def test_the_aws_cli_lists_versions(cloud: Place, client, group: str) -> None:
    package = register(client("sagemaker"), group)
    command = [str(PYTHON.with_name("aws")), "sagemaker", "list-model-packages"]
    listed = subprocess.run(
        [*command, "--model-package-group-name", group],
        env=cloud.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert [it["ModelPackageArn"] for it in json.loads(listed.stdout)["ModelPackageSummaryList"]] == [package]


def test_tags_are_seen_by_the_tagging_api(client, group: str) -> None:
    found = client("resourcegroupstaggingapi").get_resources(
        TagFilters=[{"Key": "app", "Values": [group]}], ResourceTypeFilters=["sagemaker:model-package-group"]
    )
    (item,) = found["ResourceTagMappingList"]
    assert item["ResourceARN"].endswith(f":model-package-group/{group}")
    assert client("sagemaker").list_tags(ResourceArn=item["ResourceARN"])["Tags"] == [
        {"Key": "app", "Value": group}
    ]
