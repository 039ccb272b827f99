"""Batch transform over the API: own model servers, the documented outputs, and failures that leave what succeeded."""

import gzip
import json
import os
import signal
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.cloud.place import Place
from tests.local.cloud.test_events import arn as rule_arn
from tests.local.cloud.test_events import messages, queue
from tests.local.cloud.test_sagemaker_endpoints import Hosting, servers
from tests.local.cloud.test_stream import eventually
from tests.local.test_server import PROGRAM
from tests.support.trust import trust

# Answers with the number of records that it got, and what batch transform tells a container.
COUNTING = PROGRAM.replace(
    "[x * model",
    "[__import__('os').environ['SAGEMAKER_BATCH_STRATEGY'].count('MULTI') + len(data)] or [x * model",
)
LINES = {"SplitType": "Line", "ContentType": "text/csv"}


class Batch(Hosting):
    """A bucket with folders for inputs and outputs, and a role that may use them."""

    def __init__(self, client: Callable[[str], Any]) -> None:
        super().__init__(client)
        mine = f"arn:aws:s3:::{self.bucket}"
        allowed = [
            {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": mine},
            {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"{mine}/in-*"},
            {"Effect": "Allow", "Action": "s3:PutObject", "Resource": f"{mine}/out-*"},
        ]
        client("iam").put_role_policy(
            RoleName=self.bucket,
            PolicyName="batch",
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": allowed}),
        )

    def start(self, model: str, objects: dict[str, str], **more: Any) -> str:
        """Begin a job on these objects; more parameters by their names, those of input and output as `given`, `kept`."""
        name = f"job-{uuid.uuid4().hex[:8]}"
        for key, text in objects.items():
            self.s3.put_object(Bucket=self.bucket, Key=f"in-{name}/{key}", Body=text.encode())
        source = {
            "S3DataType": "S3Prefix",
            "S3Uri": f"s3://{self.bucket}/in-{name}/",
            **more.pop("source", {}),
        }
        kept = {
            "S3OutputPath": f"s3://{self.bucket}/out-{name}",
            "Accept": "text/csv",
            "AssembleWith": "Line",
        }
        self.sagemaker.create_transform_job(
            **{
                "TransformJobName": name,
                "ModelName": model,
                "TransformInput": {"DataSource": {"S3DataSource": source}, **LINES, **more.pop("given", {})},
                "TransformOutput": {**kept, **more.pop("kept", {})},
                "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
                **more,
            }
        )
        return name

    def ended(self, name: str) -> Any:
        def found() -> Any:
            job = self.sagemaker.describe_transform_job(TransformJobName=name)
            return job if job["TransformJobStatus"] not in {"InProgress", "Stopping"} else None

        return eventually(found, 30)

    def outputs(self, name: str) -> dict[str, str]:
        listed = self.s3.list_objects_v2(Bucket=self.bucket, Prefix=f"out-{name}/").get("Contents", [])
        return {
            item["Key"].partition("/")[2]: self.s3.get_object(Bucket=self.bucket, Key=item["Key"])["Body"]
            .read()
            .decode()
            for item in listed
        }

    def log(self, name: str) -> str:
        found = self.client("logs").filter_log_events(
            logGroupName="/aws/sagemaker/TransformJobs", logStreamNamePrefix=f"{name}/"
        )
        return "\n".join(event["message"] for event in found["events"])


@pytest.fixture(scope="module")
def batch(client: Callable[[str], Any]) -> Batch:
    return Batch(client)


@pytest.fixture(scope="module")
def model(batch: Batch) -> str:
    return batch.model(batch.store())


def test_each_object_becomes_an_out_object_with_its_records_and_their_predictions(
    batch: Batch, model: str, cloud: Place
) -> None:
    before = servers(cloud)
    name = batch.start(
        model,
        {"a.csv": "id1,1\nid2,2\n", "b/c.csv": "id3,3"},
        DataProcessing={"InputFilter": "$[1:]", "JoinSource": "Input", "OutputFilter": "$[0,-1]"},
        MaxConcurrentTransforms=2,
        TransformResources={"InstanceType": "ml.m5.large", "InstanceCount": 2},
    )
    job = batch.ended(name)
    assert (job["TransformJobStatus"], job.get("FailureReason")) == ("Completed", None)
    assert batch.outputs(name) == {"a.csv.out": "id1,2.0\nid2,4.0\n", "b/c.csv.out": "id3,6.0\n"}
    assert job["CreationTime"] <= job["TransformStartTime"] <= job["TransformEndTime"]
    assert (job["MaxPayloadInMB"], job["BatchStrategy"]) == (6, "MultiRecord")
    (listed,) = batch.sagemaker.list_transform_jobs(NameContains=name)["TransformJobSummaries"]
    assert listed["TransformJobStatus"] == "Completed"
    assert servers(cloud) == before


def test_the_strategy_decides_how_many_records_a_request_has_and_the_container_knows_it(batch: Batch) -> None:
    counting = batch.model(batch.store(program=COUNTING))
    jobs = {
        it: batch.start(counting, {"a": "1\n2\n3\n"}, BatchStrategy=it)
        for it in ("SingleRecord", "MultiRecord")
    }
    single, multi = (batch.ended(name) and batch.outputs(name)["a.out"] for name in jobs.values())
    assert (single, multi) == ("1\n1\n1\n", "4\n")
    assert "BatchStrategy=SINGLE_RECORD" in batch.log(jobs["SingleRecord"])


def test_a_manifest_names_the_objects(batch: Batch, model: str) -> None:
    shared = f"in-{uuid.uuid4().hex[:8]}"
    for key in ("x/1.csv", "x/2.csv", "x/3.csv"):
        batch.s3.put_object(Bucket=batch.bucket, Key=f"{shared}/{key}", Body=b"1\n")
    manifest = json.dumps([{"prefix": f"s3://{batch.bucket}/{shared}/"}, "x/1.csv", "x/3.csv"])
    batch.s3.put_object(Bucket=batch.bucket, Key=f"{shared}/manifest", Body=manifest.encode())
    source = {"S3DataType": "ManifestFile", "S3Uri": f"s3://{batch.bucket}/{shared}/manifest"}
    name = batch.start(model, {}, source=source)
    assert batch.ended(name)["TransformJobStatus"] == "Completed"
    assert sorted(batch.outputs(name)) == ["x/1.csv.out", "x/3.csv.out"]


def test_an_object_that_is_not_split_is_one_request(batch: Batch, model: str) -> None:
    given = {"SplitType": "None", "ContentType": "application/json"}
    kept = {"Accept": "application/json", "AssembleWith": "None"}
    name = batch.start(model, {"a.json": "[1,\n2]"}, given=given, kept=kept)
    assert batch.ended(name)["TransformJobStatus"] == "Completed"
    assert batch.outputs(name) == {"a.json.out": '{"predictions": [2.0, 4.0]}'}


def test_compressed_objects_are_read_and_outputs_are_encrypted_with_the_key(
    batch: Batch, model: str, client: Callable[[str], Any]
) -> None:
    shared, key = f"in-{uuid.uuid4().hex[:8]}", client("kms").create_key()["KeyMetadata"]["Arn"]
    statement = {"Effect": "Allow", "Action": "kms:*", "Resource": key}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    client("iam").put_role_policy(RoleName=batch.bucket, PolicyName="key", PolicyDocument=document)
    batch.s3.put_object(Bucket=batch.bucket, Key=f"{shared}/a.gz", Body=gzip.compress(b"1\n2\n"))
    batch.s3.put_object(Bucket=batch.bucket, Key=f"{shared}/b.gz", Body=b"not compressed")
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{batch.bucket}/{shared}/"}
    name = batch.start(model, {}, source=source, given={"CompressionType": "Gzip"}, kept={"KmsKeyId": key})
    assert batch.ended(name)["FailureReason"] == "ClientError: See job logs for more information"
    assert batch.outputs(name) == {"a.gz.out": "2.0\n4.0\n"}
    stored = batch.s3.head_object(Bucket=batch.bucket, Key=f"out-{name}/a.gz.out")
    assert stored["SSEKMSKeyId"] == key


def test_one_bad_object_fails_the_job_and_the_others_are_stored(batch: Batch, model: str) -> None:
    name = batch.start(model, {"a": "[1]", "b": "[", "c": "[3]"}, given={"ContentType": "application/json"})
    job = batch.ended(name)
    assert job["TransformJobStatus"] == "Failed"
    assert job["FailureReason"] == "ClientError: See job logs for more information"
    assert sorted(batch.outputs(name)) == ["a.out", "c.out"]
    assert f"{batch.bucket}/in-{name}/b: ClientError: 400" in batch.log(name)


def test_a_failing_model_is_the_algorithm_s_fault_after_retries(batch: Batch, model: str) -> None:
    name = batch.start(model, {"a": "no number"}, ModelClientConfig={"InvocationsMaxRetries": 1})
    assert batch.ended(name)["FailureReason"] == "AlgorithmError: See job logs for more information"
    assert "Bad HTTP status received from algorithm: 500" in batch.log(name)
    assert batch.outputs(name) == {}


def test_a_record_above_the_payload_is_the_client_s_fault(batch: Batch, model: str) -> None:
    name = batch.start(model, {"a": "1" * (1 << 20) + "0"}, MaxPayloadInMB=1)
    assert batch.ended(name)["FailureReason"].startswith("ClientError")
    assert "Too much data for max payload size" in batch.log(name)


def test_a_prefix_without_objects_fails_in_aws_s_words(batch: Batch, model: str) -> None:
    job = batch.ended(batch.start(model, {}))
    assert job["TransformJobStatus"] == "Failed"
    assert job["FailureReason"].startswith("ClientError: No S3 objects found under S3 URL")


def test_the_model_s_role_reads_and_writes(batch: Batch, model: str) -> None:
    kept = {"S3OutputPath": f"s3://{batch.bucket}/elsewhere"}
    job = batch.ended(batch.start(model, {"a": "1"}, kept=kept))
    assert job["TransformJobStatus"] == "Failed"
    assert "AccessDenied" in job["FailureReason"]


def test_a_stopped_job_stores_nothing_and_leaves_no_process(batch: Batch, cloud: Place) -> None:
    before = servers(cloud)
    slow = batch.model(batch.store(seconds=0.3))
    name = batch.start(slow, {"a": "1\n" * 100}, BatchStrategy="SingleRecord")
    assert eventually(lambda: servers(cloud) - before)
    batch.sagemaker.stop_transform_job(TransformJobName=name)
    assert batch.ended(name)["TransformJobStatus"] == "Stopped"
    assert batch.outputs(name) == {}
    assert servers(cloud) == before
    with pytest.raises(ClientError, match="is in status Stopped"):
        batch.sagemaker.stop_transform_job(TransformJobName=name)


def test_a_server_that_is_killed_is_started_again_and_no_record_is_lost(
    batch: Batch, cloud: Place, tmp_path: Path
) -> None:
    before, asked = servers(cloud), tmp_path / "asked"
    program = PROGRAM.replace("time.sleep(", f"open({str(asked)!r}, 'w').close(); time.sleep(")
    slow = batch.model(batch.store(program=program, seconds=0.1))
    name = batch.start(slow, {"a": "1\n" * 20}, BatchStrategy="SingleRecord")
    assert eventually(asked.exists, 30)
    os.kill(min(servers(cloud) - before), signal.SIGKILL)
    assert batch.ended(name)["TransformJobStatus"] == "Completed"
    assert batch.outputs(name) == {"a.out": "2.0\n" * 20}


def test_who_starts_a_job_with_encrypted_volumes_may_grant_their_key(
    batch: Batch, model: str, client: Callable[[str], Any]
) -> None:
    name = f"s{uuid.uuid4().hex[:8]}"
    letters, letters_arn = queue(client, name, [])
    allowed = [
        {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": letters_arn},
        {"Effect": "Allow", "Action": "sagemaker:CreateTransformJob", "Resource": "*"},
    ]
    key = client("kms").create_key()["KeyMetadata"]["Arn"]
    request = asked(batch, model, name)
    request["TransformResources"]["VolumeKmsKeyId"] = key
    schedule(client, name, allowed, request, DeadLetterConfig={"Arn": letters_arn})
    [letter, *_] = messages(client, letters)
    client("scheduler").delete_schedule(Name=name)
    assert "kms:DescribeKey" in letter["MessageAttributes"]["ERROR_MESSAGE"]["StringValue"]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"MaxPayloadInMB": 51, "MaxConcurrentTransforms": 2}, "must not exceed 100 MB"),
    ({"DataProcessing": {"InputFilter": "$.id"}}, "only indexes can be applied to text/csv"),
    ({"DataProcessing": {"InputFilter": "id"}}, "does not begin with"),
    (
        {"DataProcessing": {"JoinSource": "Input"}, "kept": {"Accept": "application/json"}},
        "to be the same of",
    ),
    ({"DataProcessing": {"JoinSource": "Input"}, "given": {"SplitType": "None"}}, "to be Line"),
    ({"given": {"SplitType": "TFRecord"}}, "SplitType TFRecord is unsupported"),
    ({"MaxPayloadInMB": 0}, "MaxPayloadInMB 0 .* is unsupported"),
    ({"DataCaptureConfig": {"DestinationS3Uri": "s3://b/c"}}, "DataCaptureConfig is unsupported"),
    ({"ModelName": "nobody"}, "Could not find model"),
]


@pytest.mark.parametrize(("asked", "reason"), REFUSED, ids=[reason for _, reason in REFUSED])
def test_what_aws_refuses_or_is_missing_here_is_refused_at_once(
    batch: Batch, model: str, asked: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ClientError, match=f"ValidationException.*{reason}"):
        batch.start(model, {"a": "1"}, **asked)


def test_every_state_is_an_event(batch: Batch, model: str, client: Callable[[str], Any]) -> None:
    rule = f"r{uuid.uuid4().hex[:8]}"
    url, target = queue(client, rule, [rule_arn(rule)])
    pattern = {"source": ["aws.sagemaker"], "detail-type": ["SageMaker Transform Job State Change"]}
    client("events").put_rule(Name=rule, EventPattern=json.dumps(pattern))
    client("events").put_targets(Rule=rule, Targets=[{"Id": "Target", "Arn": target}])
    name = batch.start(model, {"a": "1"}, Tags=[{"Key": "k", "Value": "v"}])
    batch.ended(name)

    def told() -> dict[str, Any]:
        found = [json.loads(message["Body"])["detail"] for message in messages(client, url)]
        return {it["TransformJobStatus"]: it for it in found if it["TransformJobName"] == name}

    assert eventually(lambda: set(told()) == {"InProgress", "Completed"})
    assert told()["Completed"]["Tags"] == {"k": "v"}
    assert told()["Completed"]["TransformResources"]["InstanceCount"] == 1
    client("events").remove_targets(Rule=rule, Ids=["Target"])
    client("events").delete_rule(Name=rule)


def schedule(
    client: Callable[[str], Any], name: str, statements: list[Any], request: Any, **target: Any
) -> None:
    iam = client("iam")
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust("scheduler"))["Role"]["Arn"]
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=document)
    client("scheduler").create_schedule(
        Name=name,
        ScheduleExpression="rate(1 minute)",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={
            "Arn": "arn:aws:scheduler:::aws-sdk:sagemaker:createTransformJob",
            "RoleArn": role,
            "Input": json.dumps(request),
            **target,
        },
    )


def asked(batch: Batch, model: str, prefix: str) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": f"s3://{batch.bucket}/in-{prefix}/"}
    return {
        "TransformJobName": f"{prefix}-<aws.scheduler.execution-id>",
        "ModelName": model,
        "TransformInput": {"DataSource": {"S3DataSource": source}, **LINES},
        "TransformOutput": {"S3OutputPath": f"s3://{batch.bucket}/out-{prefix}", "Accept": "text/csv"},
        "TransformResources": {"InstanceType": "ml.m5.large", "InstanceCount": 1},
    }


def test_a_schedule_s_universal_target_creates_jobs_with_ids_of_their_own(
    batch: Batch, model: str, client: Callable[[str], Any]
) -> None:
    name = f"s{uuid.uuid4().hex[:8]}"
    batch.s3.put_object(Bucket=batch.bucket, Key=f"in-{name}/a", Body=b"4\n")
    allowed = {"Effect": "Allow", "Action": "sagemaker:CreateTransformJob", "Resource": "*"}
    schedule(client, name, [allowed], asked(batch, model, name))

    def jobs() -> list[str]:
        listed = batch.sagemaker.list_transform_jobs(NameContains=name)["TransformJobSummaries"]
        return [job["TransformJobName"] for job in listed]

    assert eventually(lambda: len(jobs()) >= 2)
    client("scheduler").delete_schedule(Name=name)
    names = jobs()
    assert len(set(names)) == len(names)
    assert all(len(job.removeprefix(f"{name}-")) == 16 for job in names)
    assert batch.ended(names[-1])["TransformJobStatus"] == "Completed"
    for job in names:
        batch.ended(job)


def test_a_schedule_that_may_not_create_the_job_leaves_a_letter(
    batch: Batch, model: str, client: Callable[[str], Any]
) -> None:
    name = f"s{uuid.uuid4().hex[:8]}"
    letters, letters_arn = queue(client, name, [])
    allowed = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": letters_arn}
    schedule(client, name, [allowed], asked(batch, model, name), DeadLetterConfig={"Arn": letters_arn})
    [letter, *_] = messages(client, letters)
    client("scheduler").delete_schedule(Name=name)
    assert letter["MessageAttributes"]["ERROR_CODE"]["StringValue"] == "NO_PERMISSIONS"
    assert "sagemaker:CreateTransformJob" in letter["MessageAttributes"]["ERROR_MESSAGE"]["StringValue"]
