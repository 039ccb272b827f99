"""Asynchronous inference over the API: what is asked lies in S3, what is answered too, and the queue waits for both."""

import contextlib
import json
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from local.cloud import lifecycle
from local.cloud.place import ACCOUNT, REGION, Place
from stacks.serving_rules import Feature, Option, refusal
from tests.local.cloud import test_properties
from tests.local.cloud.conftest import Cdk
from tests.local.cloud.test_sagemaker_endpoints import CAPTURE, Hosting, servers
from tests.local.cloud.test_sagemaker_release import Release, Trained, trained
from tests.local.cloud.test_stream import eventually
from tools.assembly import Assembly

__all__ = ["trained"]

# "Alarms and logs for tracking metrics from asynchronous endpoints": the list is exhaustive.
OF_ENDPOINT = {
    "ApproximateBacklogSize",
    "ApproximateBacklogSizePerInstance",
    "HasBacklogWithoutCapacity",
    "ApproximateAgeOfOldestRequest",
}
OF_VARIANT = {
    "Invocation4XXErrors",
    "Invocation5XXErrors",
    "ModelLatency",
    "RequestDownloadFailures",
    "ResponseUploadFailures",
    "NotificationFailures",
    "RequestDownloadLatency",
    "ResponseUploadLatency",
    "ExpiredRequests",
    "InvocationFailures",
    "InvocationsProcesssed",
    "TimeInBacklog",
    "TotalProcessingTime",
}


class Asynchronous(Hosting):
    """A bucket, a role that may use it, two topics, and whoever subscribes to them."""

    def __init__(self, client: Callable[[str], Any]) -> None:
        super().__init__(client)
        self.sqs, self.told_messages = client("sqs"), list[tuple[str, Any]]()
        self.topics = {kind: self._topic(f"{self.bucket}-{kind}") for kind in ("success", "error")}
        grants = [
            ("s3:GetObject", f"arn:aws:s3:::{self.bucket}/input/*"),
            ("s3:PutObject", f"arn:aws:s3:::{self.bucket}/output/*"),
            ("s3:PutObject", f"arn:aws:s3:::{self.bucket}/failure/*"),
            *(("sns:Publish", topic) for topic in self.topics.values()),
        ]
        allowed = [{"Effect": "Allow", "Action": action, "Resource": resource} for action, resource in grants]
        client("iam").put_role_policy(
            RoleName=self.bucket,
            PolicyName="asynchronous",
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": allowed}),
        )

    def _topic(self, name: str) -> str:
        topic: str = self.client("sns").create_topic(Name=name)["TopicArn"]
        queue = f"arn:aws:sqs:{REGION}:{ACCOUNT}:{name}"
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": queue,
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.sqs.create_queue(QueueName=name, Attributes={"Policy": policy})
        self.client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)
        return topic

    def wanted(self, concurrent: int = 2, **more: Any) -> dict[str, Any]:
        notify = {"SuccessTopic": self.topics["success"], "ErrorTopic": self.topics["error"], **more}
        return {
            "ClientConfig": {"MaxConcurrentInvocationsPerInstance": concurrent},
            "OutputConfig": {
                "S3OutputPath": f"s3://{self.bucket}/output/",
                "S3FailurePath": f"s3://{self.bucket}/failure",
                "NotificationConfig": notify,
            },
        }

    def serve(self, *, concurrent: int = 2, factor: float = 2, **model: Any) -> str:
        config = self.config(
            self.model(self.store(factor, **model)), AsyncInferenceConfig=self.wanted(concurrent)
        )
        name = self.endpoint(config)
        assert self.settled(name)["EndpointStatus"] == "InService"
        return name

    def put(self, body: str) -> str:
        key = f"input/{uuid.uuid4().hex}.json"
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)
        return f"s3://{self.bucket}/{key}"

    def send(self, name: str, body: str = "[1, 2]", **more: Any) -> Any:
        more = {"InputLocation": self.put(body), "ContentType": "application/json", **more}
        return self.client("sagemaker-runtime").invoke_endpoint_async(EndpointName=name, **more)

    def read(self, location: str) -> str | None:
        bucket, _, key = location.removeprefix("s3://").partition("/")
        try:
            return str(self.s3.get_object(Bucket=bucket, Key=key)["Body"].read().decode())
        except ClientError:
            return None

    def answer(self, sent: Any, seconds: float = 20) -> Any:
        return json.loads(eventually(lambda: self.read(sent["OutputLocation"]), seconds) or "null")

    def told(self, sent: Any, seconds: float = 20) -> Any:
        """The message about a request, and which topic told it."""

        def found() -> Any:
            for kind in self.topics:
                url = self.sqs.get_queue_url(QueueName=f"{self.bucket}-{kind}")["QueueUrl"]
                received = self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10)
                for it in received.get("Messages", []):
                    self.told_messages.append((kind, json.loads(json.loads(it["Body"])["Message"])))
            mine = [it for it in self.told_messages if it[1]["inferenceId"] == sent["InferenceId"]]
            assert len(mine) < 2
            return mine[0] if mine else None

        return eventually(found, seconds)

    def instances(self, name: str, count: int) -> None:
        self.sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=name,
            DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": count}],
        )
        assert self.running(self.settled(name)) == count

    @staticmethod
    def running(described: Any) -> int:
        return int(described["ProductionVariants"][0]["CurrentInstanceCount"])

    def metrics(self, name: str) -> dict[frozenset[str], set[str]]:
        """The names of the endpoint's metrics, by the names of their dimensions."""
        pages = self.client("cloudwatch").get_paginator("list_metrics").paginate(Namespace="AWS/SageMaker")
        found: dict[frozenset[str], set[str]] = {}
        for metric in (it for page in pages for it in page["Metrics"]):
            if {"Name": "EndpointName", "Value": name} in metric["Dimensions"]:
                key = frozenset(it["Name"] for it in metric["Dimensions"])
                found.setdefault(key, set()).add(metric["MetricName"])
        return found

    def maximum(self, name: str, metric: str, statistic: str = "Maximum", **dimensions: str) -> float:
        now = time.time()
        points = self.client("cloudwatch").get_metric_statistics(
            Namespace="AWS/SageMaker",
            MetricName=metric,
            Dimensions=[
                {"Name": key, "Value": value} for key, value in {"EndpointName": name, **dimensions}.items()
            ],
            StartTime=now - 600,
            EndTime=now + 60,
            Period=60,
            Statistics=[statistic],
        )["Datapoints"]
        return max((point[statistic] for point in points), default=0.0)


@pytest.fixture(scope="module")
def hosting(client: Callable[[str], Any]) -> Asynchronous:
    return Asynchronous(client)


@pytest.fixture(scope="module")
def served(hosting: Asynchronous) -> Iterator[str]:
    name = hosting.serve()
    yield name
    hosting.delete(name)


def test_the_answer_lies_in_s3_and_the_success_topic_is_told_where(
    hosting: Asynchronous, served: str
) -> None:
    location = hosting.put("[1, 2]")
    sent = hosting.send(served, InputLocation=location, InferenceId='mine "1"')
    assert sent["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert sent["InferenceId"] == 'mine "1"'
    assert sent["OutputLocation"].startswith(f"s3://{hosting.bucket}/output/")
    assert sent["FailureLocation"].startswith(f"s3://{hosting.bucket}/failure/")
    assert hosting.answer(sent) == {"predictions": [2, 4]}
    kind, message = hosting.told(sent)
    assert kind == "success"
    assert message.pop("eventTime") >= message.pop("receivedTime")
    assert message == {
        "awsRegion": REGION,
        "invocationStatus": "Completed",
        "requestParameters": {
            "contentType": "application/json",
            "endpointName": served,
            "inputLocation": location,
        },
        "responseParameters": {"contentType": "application/json", "outputLocation": sent["OutputLocation"]},
        "inferenceId": 'mine "1"',
        "eventVersion": "1.0",
        "eventSource": "aws:sagemaker",
        "eventName": "InferenceResult",
    }


def test_a_small_body_may_come_with_the_request_and_its_answer_be_named(
    hosting: Asynchronous, served: str
) -> None:
    runtime = hosting.client("sagemaker-runtime")
    sent = runtime.invoke_endpoint_async(
        EndpointName=served,
        Body=b"3",
        ContentType="text/csv",
        Accept="text/csv",
        S3OutputPathExtension="today/",
        Filename="three.csv",
    )
    assert sent["OutputLocation"] == f"s3://{hosting.bucket}/output/today/three.csv"
    assert hosting.answer(sent) == 6.0
    kind, message = hosting.told(sent)
    assert kind == "success"
    assert "inputLocation" not in message["requestParameters"]


@pytest.mark.parametrize(("body", "status", "side"), [("[", 400, "client"), ("[-1]", 500, "server")])
def test_what_the_model_refuses_lies_below_the_failure_path(
    hosting: Asynchronous, served: str, body: str, status: int, side: str
) -> None:
    sent = hosting.send(served, body)
    kind, message = hosting.told(sent)
    assert (kind, message["invocationStatus"]) == ("error", "Failed")
    assert f"Received {side} error ({status}) from model" in message["failureReason"]
    assert message["responseParameters"]["failureLocation"] == sent["FailureLocation"]
    assert hosting.read(sent["FailureLocation"])
    assert hosting.read(sent["OutputLocation"]) is None


def test_an_input_that_is_not_there_or_may_not_be_read_is_a_failure(
    hosting: Asynchronous, served: str
) -> None:
    for key in ("input/nothing", "model/secret"):
        sent = hosting.send(served, InputLocation=f"s3://{hosting.bucket}/{key}")
        kind, message = hosting.told(sent)
        assert kind == "error"
        assert f"s3://{hosting.bucket}/{key}" in message["failureReason"]
        assert "responseParameters" not in message


def test_answers_that_may_not_be_written_are_a_failure_that_is_told(hosting: Asynchronous) -> None:
    wanted = hosting.wanted(IncludeInferenceResponseIn=["SUCCESS_NOTIFICATION_TOPIC"])
    wanted["OutputConfig"]["S3OutputPath"] = f"s3://{hosting.bucket}/elsewhere"
    name = hosting.endpoint(hosting.config(hosting.model(hosting.store()), AsyncInferenceConfig=wanted))
    assert hosting.settled(name)["AsyncInferenceConfig"] == wanted
    kind, message = hosting.told(hosting.send(name))
    assert kind == "error"
    assert "Failed to upload the response" in message["failureReason"]
    assert "AccessDenied" in message["failureReason"]
    hosting.delete(name)


def test_an_answer_may_be_told_itself(hosting: Asynchronous) -> None:
    wanted = hosting.wanted(IncludeInferenceResponseIn=["SUCCESS_NOTIFICATION_TOPIC"])
    name = hosting.endpoint(hosting.config(hosting.model(hosting.store()), AsyncInferenceConfig=wanted))
    hosting.settled(name)
    _, message = hosting.told(hosting.send(name))
    assert message["responseBody"]["encoding"] == "BASE64"
    hosting.delete(name)


def test_what_the_api_does_not_allow_is_refused(hosting: Asynchronous, served: str, cloud: Place) -> None:
    unchecked = cloud.client("sagemaker-runtime", config=Config(parameter_validation=False))
    runtime, location = unchecked, hosting.put("[1]")

    def refused(match: str, **request: Any) -> None:
        with pytest.raises(ClientError, match=match):
            runtime.invoke_endpoint_async(**{"EndpointName": served, **request})

    refused("Exactly one of Body and InputLocation")
    refused("Exactly one of Body and InputLocation", InputLocation=location, Body=b"[1]")
    refused("HTTP content length exceeded 128000 bytes", Body=b" " * 128_001)
    refused("'requestTTLSeconds'.*greater than or equal to 60", InputLocation=location, RequestTTLSeconds=59)
    refused(
        "'invocationTimeoutSeconds'.*less than or equal to 3600", Body=b"1", InvocationTimeoutSeconds=3601
    )
    refused("'inputLocation'", InputLocation="https://somewhere/else")
    refused("nobody of account 000000000000 not found", Body=b"1", EndpointName="nobody")
    with pytest.raises(ClientError, match=f"ValidationError.*Endpoint {served} .*is asynchronous"):
        hosting.ask(served)


def test_a_caller_without_permission_is_refused(hosting: Asynchronous, served: str, cloud: Place) -> None:
    sts = hosting.client("sts").assume_role(RoleArn=hosting.role, RoleSessionName="test")["Credentials"]
    keys = sts["AccessKeyId"], sts["SecretAccessKey"], sts["SessionToken"]
    runtime = cloud.client("sagemaker-runtime", keys)
    with pytest.raises(ClientError, match=r"AccessDenied.*sagemaker:InvokeEndpointAsync.*endpoint"):
        runtime.invoke_endpoint_async(EndpointName=served, Body=b"[1]")


def test_a_real_time_endpoint_has_no_queue_and_no_zero(hosting: Asynchronous, served: str) -> None:
    name = hosting.endpoint(hosting.config(hosting.model(hosting.store())))
    hosting.settled(name)
    with pytest.raises(ClientError, match="is not asynchronous"):
        hosting.send(name)
    with pytest.raises(ClientError, match="DesiredInstanceCount must be at least 1"):
        hosting.instances(name, 0)
    config = hosting.sagemaker.describe_endpoint(EndpointName=served)["EndpointConfigName"]
    with pytest.raises(ClientError, match="between an asynchronous and another endpoint"):
        hosting.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config)
    hosting.delete(name)


def test_what_the_rules_forbid_is_no_configuration(hosting: Asynchronous) -> None:
    model = hosting.model(hosting.store())
    capture = {**CAPTURE, "DestinationS3Uri": f"s3://{hosting.bucket}/captured"}
    with pytest.raises(ClientError) as raised:
        hosting.config(model, AsyncInferenceConfig=hosting.wanted(), DataCaptureConfig=capture)
    assert refusal(Option.ASYNCHRONOUS, Feature.DATA_CAPTURE) == raised.value.response["Error"]["Message"]
    variants = [
        {"VariantName": name, "ModelName": model, "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
        for name in ("one", "two")
    ]
    with pytest.raises(ClientError) as raised:
        hosting.sagemaker.create_endpoint_config(
            EndpointConfigName="two", ProductionVariants=variants, AsyncInferenceConfig=hosting.wanted()
        )
    assert refusal(Option.ASYNCHRONOUS, Feature.VARIANTS) == raised.value.response["Error"]["Message"]


def test_without_an_instance_requests_wait_expire_and_are_answered_by_the_first_one(
    hosting: Asynchronous,
) -> None:
    name = hosting.serve()
    hosting.instances(name, 0)
    waiting, late = hosting.send(name), hosting.send(name, RequestTTLSeconds=60)  # a second here
    kind, message = hosting.told(late)
    assert kind == "error"
    assert "RequestTTLSeconds" in message["failureReason"]
    assert eventually(lambda: hosting.maximum(name, "HasBacklogWithoutCapacity") == 1.0)
    assert hosting.maximum(name, "ApproximateAgeOfOldestRequest") > 0
    assert hosting.read(waiting["OutputLocation"]) is None
    hosting.instances(name, 1)
    assert hosting.answer(waiting) == {"predictions": [2, 4]}
    assert hosting.read(late["OutputLocation"]) is None
    assert hosting.maximum(name, "ExpiredRequests", "Sum", VariantName="AllTraffic") == 1
    hosting.delete(name)


def test_an_instance_takes_as_many_at_once_as_the_configuration_says_and_no_longer_than_asked(
    hosting: Asynchronous, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    name = hosting.serve(concurrent=1, gate=str(gate))
    first = hosting.send(name, "[0]", InvocationTimeoutSeconds=1)
    second = hosting.send(name, "[5]")
    assert eventually(lambda: hosting.maximum(name, "ApproximateBacklogSize") == 2)
    kind, message = hosting.told(first)
    assert kind == "error"
    assert "InvocationTimeoutSeconds" in message["failureReason"]
    gate.touch()
    assert hosting.answer(second) == {"predictions": [10]}
    hosting.delete(name)


def test_the_metrics_are_those_that_the_guide_lists_and_no_others(hosting: Asynchronous, served: str) -> None:
    found = hosting.metrics(served)
    assert found[frozenset({"EndpointName"})] == OF_ENDPOINT
    variant = found[frozenset({"EndpointName", "VariantName"})]
    assert variant <= OF_VARIANT
    assert variant >= OF_VARIANT - {"ResponseUploadFailures", "NotificationFailures", "ExpiredRequests"}


def test_an_update_keeps_what_waits_and_answers_it_with_the_new_model(hosting: Asynchronous) -> None:
    name = hosting.serve()
    hosting.instances(name, 0)
    sent = hosting.send(name)
    config = hosting.config(hosting.model(hosting.store(3)), AsyncInferenceConfig=hosting.wanted())
    hosting.sagemaker.update_endpoint(
        EndpointName=name, EndpointConfigName=config, RetainAllVariantProperties=True
    )
    found = hosting.settled(name)
    assert (found["EndpointConfigName"], hosting.running(found)) == (config, 0)
    hosting.instances(name, 1)
    assert hosting.answer(sent) == {"predictions": [3, 6]}
    hosting.delete(name)


def test_a_fleet_that_never_falls_below_two_is_replaced_by_canary(hosting: Asynchronous) -> None:
    name = hosting.serve()
    hosting.instances(name, 2)
    config = hosting.config(hosting.model(hosting.store(3)), AsyncInferenceConfig=hosting.wanted())
    routing = {
        "Type": "CANARY",
        "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 50},
        "WaitIntervalInSeconds": 120,
    }
    how = {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing}}
    hosting.sagemaker.update_endpoint(
        EndpointName=name,
        EndpointConfigName=config,
        RetainAllVariantProperties=True,
        DeploymentConfig=how,
    )
    found = hosting.settled(name)
    assert (found["EndpointConfigName"], hosting.running(found)) == (config, 2)
    assert found["LastDeploymentConfig"] == how
    assert hosting.answer(hosting.send(name)) == {"predictions": [3, 6]}
    hosting.delete(name)


def test_every_request_is_answered_when_the_only_server_dies_and_while_a_fleet_takes_over(
    hosting: Asynchronous, cloud: Place
) -> None:
    before = servers(cloud)
    name = hosting.serve(concurrent=2, seconds=0.05)
    mine = servers(cloud) - before
    sent = [hosting.send(name) for _ in range(10)]
    for process in mine:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    assert [hosting.answer(it) for it in sent] == [{"predictions": [2, 4]}] * 10
    config = hosting.config(hosting.model(hosting.store(2)), AsyncInferenceConfig=hosting.wanted())
    hosting.sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config)
    sent += [hosting.send(name) for _ in range(10)]
    assert hosting.settled(name)["EndpointConfigName"] == config
    assert [hosting.answer(it) for it in sent] == [{"predictions": [2, 4]}] * 20
    hosting.delete(name)


@pytest.mark.deep
def test_the_backlog_starts_the_first_instance_and_its_end_takes_the_last_one(
    hosting: Asynchronous,
) -> None:
    """By policies as the template of the option has them; the deployed test has the template's own."""
    name = hosting.serve(concurrent=1, seconds=0.2)
    scaling = hosting.client("application-autoscaling")
    key = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{name}/variant/AllTraffic",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    dimension = {"Name": "EndpointName", "Value": name}
    scaling.register_scalable_target(**key, MinCapacity=0, MaxCapacity=2)
    scaling.put_scaling_policy(
        **key,
        PolicyName="backlog-per-instance",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 5.0,
            "CustomizedMetricSpecification": {
                "Namespace": "AWS/SageMaker",
                "MetricName": "ApproximateBacklogSizePerInstance",
                "Dimensions": [dimension],
                "Statistic": "Average",
            },
            "ScaleInCooldown": 60,
            "ScaleOutCooldown": 60,
        },
    )
    step = scaling.put_scaling_policy(
        **key,
        PolicyName="from-zero",
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration={
            "AdjustmentType": "ChangeInCapacity",
            "MetricAggregationType": "Average",
            "Cooldown": 60,
            "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
        },
    )["PolicyARN"]
    hosting.client("cloudwatch").put_metric_alarm(
        AlarmName=f"{name}-waiting",
        Namespace="AWS/SageMaker",
        MetricName="HasBacklogWithoutCapacity",
        Dimensions=[dimension],
        Statistic="Average",
        Period=60,
        EvaluationPeriods=2,
        DatapointsToAlarm=2,
        Threshold=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        TreatMissingData="missing",
        AlarmActions=[step],
    )

    def running() -> int:
        return hosting.running(hosting.sagemaker.describe_endpoint(EndpointName=name))

    assert eventually(lambda: running() == 0, 40)
    few = [hosting.send(name) for _ in range(3)]  # below the target: only the step policy starts an instance
    assert eventually(lambda: running() == 1, 30)
    sent = few + [hosting.send(name) for _ in range(35)]  # seven seconds of one instance
    assert eventually(lambda: running() == 2, 30)
    assert [hosting.answer(it) for it in sent] == [{"predictions": [2, 4]}] * len(sent)
    assert eventually(lambda: running() == 0, 60)
    told = scaling.describe_scaling_activities(ServiceNamespace="sagemaker", ResourceId=key["ResourceId"])[
        "ScalingActivities"
    ]
    causes = [it["Cause"] for it in reversed(told) if it["StatusCode"] == "Successful"]
    assert "-AlarmLow-" in causes[0], causes
    assert "triggered policy from-zero" in causes[1], causes
    assert "-AlarmHigh-" in causes[2], causes
    assert "-AlarmLow-" in told[0]["Cause"], causes
    scaling.deregister_scalable_target(**key)
    hosting.client("cloudwatch").delete_alarms(AlarmNames=[f"{name}-waiting"])
    hosting.delete(name)


@pytest.mark.deep
def test_the_option_s_own_stack_follows_an_approval_answers_and_scales_to_zero_and_back(
    tmp_path_factory: pytest.TempPathFactory, complete: Callable[[str], Assembly], trained: Trained
) -> None:
    """The sandbox with the option listed: every permission, policy and alarm is the templates' own."""
    with lifecycle.running(Place.on_free_port(tmp_path_factory.mktemp("asynchronous"))) as place:
        cdk, client = Cdk(place, complete("sandbox")), place.client
        cdk("bootstrap")
        cdk.deploy(*sorted(cdk.assembly.templates.keys() - {"Serverless", "Experiment"}))
        release = Release(cdk, client)
        package = release.register(trained, "first")
        assert release.approve(package)["StackStatus"] == "UPDATE_COMPLETE", release.reasons()

        option = Release(cdk, client, "flights-sandbox-asynchronous")
        assert option.serves(package)["StackStatus"] == "UPDATE_COMPLETE", option.reasons()
        name = option.outputs()["EndpointName"]
        sagemaker, s3, sqs = client("sagemaker"), client("s3"), client("sqs")

        def running() -> int:
            return Asynchronous.running(sagemaker.describe_endpoint(EndpointName=name))

        queue = sqs.create_queue(QueueName="answers")["QueueUrl"]
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": "sns.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": f"arn:aws:sqs:{REGION}:{ACCOUNT}:answers",
        }
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        sqs.set_queue_attributes(QueueUrl=queue, Attributes={"Policy": policy})
        settings = sagemaker.describe_endpoint(EndpointName=name)["AsyncInferenceConfig"]
        topic = settings["OutputConfig"]["NotificationConfig"]["SuccessTopic"]
        client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=statement["Resource"])

        def answered() -> None:
            key = f"asynchronous/input/{uuid.uuid4().hex}.json"
            s3.put_object(Bucket=release.curated, Key=key, Body=json.dumps({"instances": [trained.record]}))
            sent = client("sagemaker-runtime").invoke_endpoint_async(
                EndpointName=name,
                InputLocation=f"s3://{release.curated}/{key}",
                ContentType="application/json",
            )
            received = eventually(lambda: sqs.receive_message(QueueUrl=queue).get("Messages", []), seconds=60)
            message = json.loads(json.loads(received[0]["Body"])["Message"])
            assert (message["inferenceId"], message["invocationStatus"]) == (sent["InferenceId"], "Completed")
            where = sent["OutputLocation"].removeprefix(f"s3://{release.curated}/")
            assert where.startswith("asynchronous/output/")
            found = s3.get_object(Bucket=release.curated, Key=where)
            assert found["ServerSideEncryption"] == "aws:kms"
            assert len(json.loads(found["Body"].read())["predictions"]) == 1
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=received[0]["ReceiptHandle"])

        answered()
        assert eventually(lambda: running() == 0, 60)
        answered()  # the first instance comes for it
        assert eventually(lambda: running() == 0, 60)
        (target,) = [
            it
            for it in client("application-autoscaling").describe_scalable_targets(
                ServiceNamespace="sagemaker"
            )["ScalableTargets"]
            if name in it["ResourceId"]
        ]
        told = client("application-autoscaling").describe_scaling_activities(
            ServiceNamespace="sagemaker", ResourceId=target["ResourceId"]
        )["ScalingActivities"]
        assert any("triggered policy from-zero" in it["Cause"] for it in told), told
        assert set(test_properties.differences(cdk.assembly, client)) == set()

        second = release.register(trained, "second")  # a rollout while no instance runs
        assert release.approve(second)["StackStatus"] == "UPDATE_COMPLETE", release.reasons()
        assert option.serves(second)["StackStatus"] == "UPDATE_COMPLETE", option.reasons()
        answered()
