"""Lambda's mapping of a Kinesis stream: order, partial failures, bisection, limits, and what cannot be processed."""

import base64
import io
import json
import time
import uuid
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

Client = Callable[[str], Any]
ACCOUNT = "000000000000"

# Notes every call in the bucket; "crash…" raises, "refuse…" is returned as failed.
FUNCTION = """
import base64, boto3, json, os, time
s3 = boto3.client("s3")
def handler(event, context):
    data = [base64.b64decode(r["kinesis"]["data"]).decode() for r in event["Records"]]
    s3.put_object(Bucket=os.environ["BUCKET"], Key=f"calls/{time.time_ns():020d}", Body=json.dumps(data))
    name = {"Namespace": "tests", "Dimensions": [["function"]], "Metrics": [{"Name": "Called", "Unit": "Count"}]}
    metrics = {"Timestamp": 0, "CloudWatchMetrics": [name]}
    print(json.dumps({"_aws": metrics, "function": context.function_name, "Called": 2}))
    if any(d.startswith("crash") for d in data):
        raise ValueError("crash")
    failed = [r["kinesis"]["sequenceNumber"] for r, d in zip(event["Records"], data) if d.startswith("refuse")]
    return {"batchItemFailures": [{"itemIdentifier": s} for s in failed]}
"""


class Flow:
    """A stream, a function with a role of its own, and the mapping between them."""

    def __init__(self, client: Client, actions: list[str], *resources: str) -> None:
        self.resources = resources
        self.client, self.name = client, f"s{uuid.uuid4().hex[:8]}"
        self.stream_arn = f"arn:aws:kinesis:us-east-1:{ACCOUNT}:stream/{self.name}"
        client("s3").create_bucket(Bucket=self.name)
        client("kinesis").create_stream(StreamName=self.name, ShardCount=1)
        client("iam").create_role(
            RoleName=self.name,
            AssumeRolePolicyDocument=json.dumps(
                {
                    "Version": "2012-10-17",
                    "Statement": [
                        {
                            "Effect": "Allow",
                            "Principal": {"Service": "lambda.amazonaws.com"},
                            "Action": "sts:AssumeRole",
                        }
                    ],
                }
            ),
        )
        self.allow("s3:PutObject", *actions)
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("index.py", FUNCTION)
        client("lambda").create_function(
            FunctionName=self.name,
            Runtime="python3.11",
            Role=f"arn:aws:iam::{ACCOUNT}:role/{self.name}",
            Handler="index.handler",
            Code={"ZipFile": packed.getvalue()},
            Environment={"Variables": {"BUCKET": self.name}},
        )

    def allow(self, *actions: str) -> None:
        statement = {
            "Effect": "Allow",
            "Action": actions,
            "Resource": [self.stream_arn, f"arn:aws:s3:::{self.name}/*", *self.resources],
        }
        self.client("iam").put_role_policy(
            RoleName=self.name,
            PolicyName="p",
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [statement]}),
        )

    def map(self, **settings: Any) -> None:
        self.mapping = self.client("lambda").create_event_source_mapping(
            FunctionName=self.name,
            EventSourceArn=self.stream_arn,
            FunctionResponseTypes=["ReportBatchItemFailures"],
            DestinationConfig={"OnFailure": {"Destination": f"arn:aws:s3:::{self.name}"}},
            **{"StartingPosition": "TRIM_HORIZON"} | settings,
        )["UUID"]

    def result(self) -> str:
        """How the last batch went, as the mapping tells it."""
        return str(self.client("lambda").get_event_source_mapping(UUID=self.mapping)["LastProcessingResult"])

    def put(self, *data: str) -> None:
        records = [{"Data": text.encode(), "PartitionKey": "k"} for text in data]
        self.client("kinesis").put_records(StreamName=self.name, Records=records)

    def calls(self) -> list[list[str]]:
        return [json.loads(body) for _, body in self.objects("calls/")]

    def letters(self) -> list[tuple[str, dict[str, Any]]]:
        return [(key, json.loads(body)) for key, body in self.objects("aws/lambda/")]

    def objects(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        s3 = self.client("s3")
        for found in s3.list_objects_v2(Bucket=self.name, Prefix=prefix).get("Contents", []):
            yield found["Key"], s3.get_object(Bucket=self.name, Key=found["Key"])["Body"].read()


def eventually(check: Callable[[], Any], seconds: float = 30) -> Any:
    """What `check` answers as soon as it is true, or at the end of the time."""
    deadline = time.monotonic() + seconds
    while not (found := check()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return found


READ = ("DescribeStream", "DescribeStreamSummary", "ListShards", "GetShardIterator", "GetRecords")
READER = [f"kinesis:{action}" for action in READ]


@pytest.fixture
def flow(client: Client) -> Iterator[Flow]:
    flow = Flow(client, READER)
    yield flow
    for mapping in client("lambda").list_event_source_mappings(FunctionName=flow.name)["EventSourceMappings"]:
        client("lambda").delete_event_source_mapping(UUID=mapping["UUID"])


def test_records_come_in_order_and_in_batches(flow: Flow) -> None:
    flow.put(*"abcde")
    flow.map(BatchSize=2)
    assert eventually(lambda: len(flow.calls()) >= 3)
    assert flow.calls() == [["a", "b"], ["c", "d"], ["e"]]


def test_a_window_of_a_minute_collects_for_a_second(flow: Flow) -> None:
    flow.map(BatchSize=100, MaximumBatchingWindowInSeconds=60)
    flow.put("a")
    flow.put("b")
    assert eventually(flow.calls) == [["a", "b"]]


def test_from_a_refused_record_on_the_batch_comes_again_and_ends_in_s3(flow: Flow) -> None:
    flow.put("a", "refuse", "b")
    flow.map(BatchSize=10, MaximumRetryAttempts=1)
    [(key, letter)] = eventually(flow.letters)
    assert flow.calls() == [["a", "refuse", "b"], ["refuse", "b"], ["refuse", "b"]]
    today = time.strftime("%Y/%m/%d", time.gmtime())
    assert key.startswith(f"aws/lambda/{flow.mapping}/shardId-000000000000/{today}/")
    assert letter["requestContext"]["condition"] == "RetryAttemptsExhausted"
    assert letter["KinesisBatchInfo"]["batchSize"] == 2
    records = json.loads(letter["payload"])["Records"]
    assert [base64.b64decode(record["kinesis"]["data"]) for record in records] == [b"refuse", b"b"]


def test_a_crash_is_split_until_the_record_at_fault_stands_alone_and_the_shard_goes_on(flow: Flow) -> None:
    flow.put("a", "b", "crash", "c")
    flow.map(BatchSize=4, MaximumRetryAttempts=0, BisectBatchOnFunctionError=True)
    [(_, letter)] = eventually(flow.letters)
    assert letter["KinesisBatchInfo"]["batchSize"] == 1
    flow.put("d")
    assert eventually(lambda: ["d"] in flow.calls())
    assert flow.calls() == [["a", "b", "crash", "c"], ["a", "b"], ["crash", "c"], ["crash"], ["c"], ["d"]]


def test_parallel_consumers_of_a_shard_share_its_keys_and_lose_nothing(flow: Flow) -> None:
    data = [f"{number:02d}" for number in range(40)]
    records = [{"Data": text.encode(), "PartitionKey": text[1]} for text in data]
    flow.client("kinesis").put_records(StreamName=flow.name, Records=records)
    flow.map(BatchSize=100, ParallelizationFactor=2)
    assert eventually(lambda: sum(map(len, flow.calls())) >= 40)
    assert sorted(text for call in flow.calls() for text in call) == data
    assert len(flow.calls()) == 2
    assert all(call == sorted(call) for call in flow.calls())


def test_a_record_that_has_grown_too_old_is_discarded_to_s3(flow: Flow) -> None:
    flow.put("crash")
    flow.map(BatchSize=1, MaximumRecordAgeInSeconds=1)  # AWS asks for at least a minute
    [(_, letter)] = eventually(flow.letters)
    assert letter["requestContext"]["condition"] == "MaxRecordAgeExceeded"
    assert len(flow.calls()) >= 1


def test_an_invocation_carries_six_megabytes_at_most(flow: Flow) -> None:
    for _ in range(2):
        flow.put(*["x" * 1_000_000] * 3)
    flow.map(BatchSize=100)
    assert eventually(lambda: sum(map(len, flow.calls())) == 6)
    assert [len(call) for call in flow.calls()] == [4, 2]


def test_from_the_latest_record_on_the_older_ones_do_not_come(flow: Flow) -> None:
    flow.put("old")
    flow.map(BatchSize=1, StartingPosition="LATEST")

    def called() -> list[list[str]]:
        flow.put("new")
        return flow.calls()

    assert eventually(called)
    assert ["old"] not in flow.calls()


def test_a_function_s_new_role_is_the_reader_s(flow: Flow, client: Client) -> None:
    flow.put("a")
    flow.map(BatchSize=1)
    assert eventually(flow.calls) == [["a"]]
    other = Flow(client, [])
    client("lambda").update_function_configuration(
        FunctionName=flow.name, Role=f"arn:aws:iam::{ACCOUNT}:role/{other.name}"
    )
    assert eventually(lambda: f"assumed-role/{other.name}/" in flow.result()), flow.result()


def test_lambda_s_own_metrics_are_counted(flow: Flow, client: Client) -> None:
    flow.put("crash")
    flow.map(BatchSize=1, MaximumRetryAttempts=0)
    assert eventually(flow.letters)
    now = time.time()

    def metric(name: str, statistic: str) -> float:
        points = client("cloudwatch").get_metric_statistics(
            Namespace="AWS/Lambda",
            MetricName=name,
            Dimensions=[{"Name": "FunctionName", "Value": flow.name}],
            StartTime=now - 60,
            EndTime=now + 60,
            Period=300,
            Statistics=[statistic],
        )["Datapoints"]
        return float(points[0][statistic])

    assert metric("Invocations", "Sum") == 1
    assert metric("Errors", "Sum") == 1
    assert metric("IteratorAge", "Maximum") > 0


def test_without_permission_nothing_is_read_and_the_mapping_says_why(client: Client) -> None:
    flow = Flow(client, READER[:-1])
    flow.put("a")
    flow.map(BatchSize=1)
    assert eventually(lambda: "kinesis:GetRecords" in flow.result())
    assert flow.calls() == []
    flow.allow("s3:PutObject", *READER)
    assert eventually(flow.calls) == [["a"]]


def test_an_encrypted_stream_needs_its_key_too(client: Client) -> None:
    key = client("kms").create_key()["KeyMetadata"]["Arn"]
    flow = Flow(client, READER)
    client("kinesis").start_stream_encryption(StreamName=flow.name, EncryptionType="KMS", KeyId=key)
    flow.put("a")
    flow.map(BatchSize=1)
    assert eventually(lambda: "PROBLEM" in flow.result())
    assert flow.calls() == []
    flow.resources = (key,)
    flow.allow("s3:PutObject", "kms:Decrypt", *READER)
    assert eventually(flow.calls) == [["a"]]
