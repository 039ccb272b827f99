"""The deployed sandbox: an approval puts the version in service, by roles of the templates alone, and its end is told.

A later one replaces it, one whose artifact is gone does not; a rejection brings the one before it back; and one command
restores it after Serving was made anew. How a rollback ends: test_rollout_endings.py.
"""

import contextlib
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.cloud.place import ACCOUNT, REGION, ROOT
from pipeline import schema
from tests.local.cloud import test_properties
from tests.local.cloud.conftest import Cdk
from tests.local.cloud.test_deployed_stream import Flow
from tests.local.cloud.test_stream import eventually
from tests.pipeline.conftest import (
    archive,
    as_curated,
    curated_flights,
    run_prepare,
    run_train,
    write_partitions,
)
from tests.support.deployed import Deployment
from tools import replay

SERVING = "flights-sandbox-serving"
ENVIRONMENT = {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"}


@dataclasses.dataclass
class Trained:
    """What the pipeline's own code made of a few thousand flights: a model's archive, and a record to ask about."""

    archive: Path
    record: dict[str, Any]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder, flights = tmp_path_factory.mktemp("trained"), schema.load("flights")
    table = as_curated(curated_flights(every=200), flights)
    write_partitions(table, flights, folder / "curated")
    model = run_train(run_prepare(folder / "curated", folder / "prepared"), folder / "model", "xgboost")
    names = [column.name for column in flights.request_columns]
    record: dict[str, Any] = table.select(names).slice(0, 1).to_pylist()[0]
    record = {
        key: value.isoformat() if hasattr(value, "isoformat") else value for key, value in record.items()
    }
    return Trained(archive(model, folder / "packed") / "model.tar.gz", record)


def number(package: str) -> str:
    """Of a version in its group: what other tests registered before it is counted, too."""
    return package.rsplit("/", 1)[-1]


class Release:
    """Registers and approves as the person at the keyboard; all that follows is done by the templates' roles."""

    def __init__(self, cdk: Cdk, client: Callable[[str], Any], serving: str = SERVING) -> None:
        self.client, self.serving = client, serving
        found = list(Deployment(cdk.assembly, client("cloudformation")).resources())

        def named(kind: str, prefix: str) -> str:
            (name,) = [it.physical_id for it in found if it.type == kind and it.logical_id.startswith(prefix)]
            return name

        self.bucket = named("AWS::S3::Bucket", "Artifacts")
        self.curated = named("AWS::S3::Bucket", "Curated")
        self.group = named("AWS::SageMaker::ModelPackageGroup", "Models").rsplit("/", 1)[-1]
        self.endpoint = self.outputs()["EndpointName"]
        self.queue = named("AWS::SQS::Queue", "ApprovalsEventsQueue").rsplit("/", 1)[-1]
        self.topic = named("AWS::SNS::Topic", "Topic")

    def outputs(self) -> dict[str, str]:
        (stack,) = self.client("cloudformation").describe_stacks(StackName=self.serving)["Stacks"]
        return {it["OutputKey"]: it["OutputValue"] for it in stack["Outputs"]}

    def parameters(self) -> list[dict[str, str]]:
        (stack,) = self.client("cloudformation").describe_stacks(StackName=self.serving)["Stacks"]
        found: list[dict[str, str]] = stack["Parameters"]
        return found

    def register(self, trained: Trained, key: str) -> str:
        self.client("s3").upload_file(str(trained.archive), self.bucket, f"pipeline/Train/{key}/model.tar.gz")
        container = {
            "Image": "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:3.0-5",
            "ModelDataUrl": f"s3://{self.bucket}/pipeline/Train/{key}/model.tar.gz",
            "Environment": ENVIRONMENT,
        }
        package: str = self.client("sagemaker").create_model_package(
            ModelPackageGroupName=self.group,
            ModelApprovalStatus="PendingManualApproval",
            InferenceSpecification={
                "Containers": [container],
                "SupportedContentTypes": ["application/json"],
                "SupportedResponseMIMETypes": ["application/json"],
            },
        )["ModelPackageArn"]
        return package

    def approve(self, package: str) -> Any:
        """The serving stack once it serves this version."""
        self.decide(package, "Approved")
        return self.serves(package)

    def decide(self, package: str, status: str) -> None:
        self.client("sagemaker").update_model_package(ModelPackageArn=package, ModelApprovalStatus=status)

    def serves(self, package: str) -> Any:
        """The serving stack once it serves this version."""
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            (stack,) = self.client("cloudformation").describe_stacks(StackName=self.serving)["Stacks"]
            parameters = {it["ParameterKey"]: it["ParameterValue"] for it in stack["Parameters"]}
            if parameters["ModelPackageArn"] == package and not stack["StackStatus"].endswith("_IN_PROGRESS"):
                return stack
            time.sleep(0.3)
        raise AssertionError(f"{package} is not served: {stack['StackStatus']}, {parameters}")

    def became(self, package: str, result: str) -> dict[str, str]:
        """What is written beside the version, once it has this result."""

        def written() -> dict[str, str]:
            found = self.client("sagemaker").describe_model_package(ModelPackageName=package)
            properties: dict[str, str] = found.get("CustomerMetadataProperties", {})
            return properties if properties.get("rollout") == result else {}

        found: dict[str, str] = eventually(written, seconds=60)
        assert found, f"{package} did not become {result}: {self.reasons()}"
        return found

    def packages(self) -> list[str]:
        """The versions, the oldest first."""
        listed = self.client("sagemaker").list_model_packages(
            ModelPackageGroupName=self.group, SortOrder="Ascending"
        )
        return [it["ModelPackageArn"] for it in listed["ModelPackageSummaryList"]]

    def events(self) -> list[Any]:
        return list(
            self.client("cloudformation").describe_stack_events(StackName=self.serving)["StackEvents"]
        )

    def reasons(self) -> list[str]:
        return [it["ResourceStatusReason"] for it in self.events() if it.get("ResourceStatusReason")]


@pytest.fixture(scope="module")
def release(deployed: Cdk, client: Callable[[str], Any]) -> Iterator[Release]:
    """The sandbox; afterwards no version is left, and Serving is as it was deployed."""
    found = Release(deployed, client)
    yield found
    with contextlib.suppress(ClientError):  # "No updates are to be performed": nothing was released
        client("cloudformation").update_stack(
            StackName=SERVING,
            UsePreviousTemplate=True,
            Parameters=[
                {"ParameterKey": "ModelPackageArn", "ParameterValue": ""},
                {"ParameterKey": "BootstrapVersion", "UsePreviousValue": True},
            ],
        )
        client("cloudformation").get_waiter("stack_update_complete").wait(
            StackName=SERVING, WaiterConfig={"Delay": 1, "MaxAttempts": 60}
        )
    sagemaker = client("sagemaker")
    for package in sagemaker.list_model_packages(ModelPackageGroupName=found.group)[
        "ModelPackageSummaryList"
    ]:
        sagemaker.delete_model_package(ModelPackageName=package["ModelPackageArn"])
    # What was replaced stays, as the template says; `make destroy` removes it by its tag.
    for config in sagemaker.list_endpoint_configs(NameContains=SERVING)["EndpointConfigs"]:
        sagemaker.delete_endpoint_config(EndpointConfigName=config["EndpointConfigName"])
    for model in sagemaker.list_models(NameContains=SERVING)["Models"]:
        sagemaker.delete_model(ModelName=model["ModelName"])


class Inbox:
    """Whoever subscribes to the topic of Monitoring."""

    def __init__(self, client: Callable[[str], Any], topic: str) -> None:
        self.sqs, self.texts = client("sqs"), list[str]()
        arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}:inbox-of-releases"
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": arn,
        }
        policy = {"Policy": json.dumps({"Version": "2012-10-17", "Statement": [statement]})}
        name = arn.rpartition(":")[2]
        self.url = self.sqs.create_queue(QueueName=name, Attributes=policy)["QueueUrl"]
        self.subscription = client("sns").subscribe(
            TopicArn=topic, Protocol="sqs", Endpoint=arn, ReturnSubscriptionArn=True
        )["SubscriptionArn"]

    def has(self, *parts: str) -> bool:
        """Whether one message has all of these parts."""
        answer = self.sqs.receive_message(QueueUrl=self.url, MaxNumberOfMessages=10)
        self.texts += [json.loads(it["Body"])["Message"] for it in answer.get("Messages", [])]
        return any(all(part in text for part in parts) for text in self.texts)


@pytest.fixture(scope="module")
def inbox(release: Release) -> Iterator[Inbox]:
    found = Inbox(release.client, release.topic)
    yield found
    release.client("sns").unsubscribe(SubscriptionArn=found.subscription)
    found.sqs.delete_queue(QueueUrl=found.url)


def test_an_approval_puts_the_model_in_service(release: Release, trained: Trained, deployed: Cdk) -> None:
    stack = release.approve(release.register(trained, "first"))
    assert stack["StackStatus"] == "UPDATE_COMPLETE", release.reasons()
    assert stack["RoleARN"].rpartition("/")[2].startswith("flights-sandbox-foundation-ServingUpdateRole")
    found = release.client("sagemaker").describe_endpoint(EndpointName=release.endpoint)
    assert found["EndpointStatus"] == "InService"
    assert found["EndpointConfigName"] == release.outputs()["EndpointConfigName"]
    answer = release.client("sagemaker-runtime").invoke_endpoint(
        EndpointName=release.endpoint,
        ContentType="application/json",
        Body=json.dumps({"instances": [trained.record]}),
    )
    (prediction,) = json.loads(answer["Body"].read())["predictions"]
    assert 0 < (prediction["score"] if isinstance(prediction, dict) else prediction) < 1

    # What exists only with a model reads back as it was written, as the rest does.
    resources = Deployment(deployed.assembly, release.client("cloudformation")).resources()
    serving = {"Model", "EndpointConfig", "Endpoint", "ScalableTarget", "ScalingPolicy"}
    assert {it.type.rpartition("::")[2] for it in resources} >= serving
    assert set(test_properties.differences(deployed.assembly, release.client)) == set()


def test_streamed_flights_are_predicted_once_each_though_one_comes_twice_and_one_is_poison(
    release: Release,
) -> None:
    flow = Flow(release.client)
    flights = [event for event in replay.events(flights=10) if event.fault is None]
    good = [event.json().encode() for event in flights]
    flow.send([*good, b"poison", good[0]])

    def predicted() -> list[str]:
        s3 = release.client("s3")
        found = s3.list_objects_v2(Bucket=release.curated, Prefix="predictions/").get("Contents", [])
        bodies = [s3.get_object(Bucket=release.curated, Key=item["Key"])["Body"].read() for item in found]
        return sorted(json.loads(line)["event_id"] for body in bodies for line in body.splitlines())

    assert eventually(lambda: len(predicted()) >= len(good), seconds=20)
    assert predicted() == sorted(event.id for event in flights)
    assert flow.quarantined()[b"poison"] == ["malformed"]


def test_an_approval_that_comes_again_later_changes_nothing(release: Release) -> None:
    """Later than the queue remembers what it has had: the function sees that the version is in service."""
    (stack,) = release.client("cloudformation").describe_stacks(StackName=SERVING)["Stacks"]
    parameters = {it["ParameterKey"]: it["ParameterValue"] for it in stack["Parameters"]}
    detail = {
        "ModelPackageArn": parameters["ModelPackageArn"],
        "ModelPackageGroupName": release.group,
        "ModelApprovalStatus": "Approved",
    }
    sqs, before = release.client("sqs"), release.events()
    queue = sqs.get_queue_url(QueueName=release.queue)["QueueUrl"]
    sqs.send_message(
        QueueUrl=queue,
        MessageBody=json.dumps(
            {
                "id": "again",
                "time": "2026-11-22T10:00:00Z",
                "detail-type": "SageMaker Model Package State Change",
                "detail": detail,
            }
        ),
        MessageGroupId="serving",
        MessageDeduplicationId="again",
    )
    counts = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]

    def handled() -> bool:
        found = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=counts)["Attributes"]
        return set(found.values()) == {"0"}

    assert eventually(handled, seconds=20)
    assert release.events() == before


def test_a_later_approval_replaces_it_which_is_told_and_the_captures_are_there(
    release: Release, trained: Trained, inbox: Inbox
) -> None:
    before = release.outputs()["EndpointConfigName"]
    package = release.register(trained, "second")
    stack = release.approve(package)
    assert stack["StackStatus"] == "UPDATE_COMPLETE", release.reasons()
    assert release.outputs()["EndpointConfigName"] != before
    # The old fleet writes what it had captured when it ends.
    captured = release.client("s3").list_objects_v2(
        Bucket=release.bucket, Prefix=f"datacapture/{release.endpoint}/AllTraffic/"
    )
    assert captured["KeyCount"] >= 1
    assert release.became(package, "in service")["rollout-reason"] == "it took over the endpoint"
    assert eventually(lambda: inbox.has("A model version is in service.", package), seconds=20), inbox.texts


def test_an_approval_whose_artifact_is_gone_is_told_and_the_old_version_serves_on(
    release: Release, trained: Trained, inbox: Inbox
) -> None:
    before = release.outputs()["EndpointConfigName"]
    package = release.register(trained, "third")
    release.client("s3").delete_object(Bucket=release.bucket, Key="pipeline/Train/third/model.tar.gz")
    release.decide(package, "Approved")
    written = release.became(package, "not released")
    assert "Could not find model data at s3:" in written["rollout-reason"]
    assert release.outputs()["EndpointConfigName"] == before
    found = release.client("sagemaker").describe_endpoint(EndpointName=release.endpoint)
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", before)
    assert eventually(lambda: inbox.has("what served before serves on", package), seconds=20), inbox.texts


@pytest.mark.deep  # two rollouts; tests/lambdas has the rule
def test_rejecting_what_serves_returns_to_the_version_before_it(
    release: Release, trained: Trained, inbox: Inbox
) -> None:
    first, second, third = release.packages()
    release.decide(second, "Rejected")
    stack = release.serves(first)
    assert stack["StackStatus"] == "UPDATE_COMPLETE", release.reasons()
    written = release.became(second, "withdrawn")
    assert written["rollout-reason"].endswith(f"version {number(first)} takes its place")
    release.became(first, "in service")
    assert eventually(lambda: inbox.has("is approved no longer", second), seconds=20), inbox.texts
    assert third not in (stack["Parameters"][0]["ParameterValue"], first), "it failed, and is not tried again"


@pytest.mark.deep  # Serving is deleted and deployed
def test_one_command_restores_the_approved_version_after_serving_was_made_anew(
    release: Release, deployed: Cdk
) -> None:
    first, *_ = release.packages()
    deployed("destroy", "Serving", "--exclusively", "--force")
    deployed.deploy("Serving", "--exclusively")
    assert "EndpointConfigName" not in release.outputs()
    command = [sys.executable, "-m", "tools.release", "--stage", "sandbox"]
    completed = subprocess.run(
        command,
        cwd=ROOT,
        env=deployed.place.environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert completed.returncode == 0, completed.stdout + completed.stderr
    assert f"Version {number(first)}: in service since" in completed.stdout
    assert release.serves(first)["StackStatus"] == "UPDATE_COMPLETE"
    found = release.client("sagemaker").describe_endpoint(EndpointName=release.endpoint)
    assert found["EndpointConfigName"] == release.outputs()["EndpointConfigName"]
