"""The deployed sandbox: flights into the stream come out archived, judged by the consumer, counted and watched."""

import base64
import gzip
import json
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.local.cloud.conftest import Cdk
from tests.local.cloud.test_metrics import values
from tests.local.cloud.test_stream import eventually
from tools import replay

Client = Callable[[str], Any]
METRICS = (
    "RecordsReceived",
    "RecordsPredicted",
    "RecordsQuarantined",
    "RecordsDuplicated",
    "NoModelYet",
    "RecordsReturned",
)


def of_the_sandbox(name: str) -> bool:
    return name.startswith("flights-sandbox-")


class Flow:
    """The stream, the raw bucket and the consumer's metrics of the deployed sandbox."""

    def __init__(self, client: Client) -> None:
        self.client = client
        # Other tests have streams of their own.
        [self.stream] = filter(of_the_sandbox, client("kinesis").list_streams()["StreamNames"])
        [delivery] = filter(of_the_sandbox, client("firehose").list_delivery_streams()["DeliveryStreamNames"])
        described = client("firehose").describe_delivery_stream(DeliveryStreamName=delivery)
        destination = described["DeliveryStreamDescription"]["Destinations"][0]
        self.raw = destination["ExtendedS3DestinationDescription"]["BucketARN"].rpartition(":")[2]

    def send(self, records: list[bytes]) -> None:
        entries = [{"Data": data, "PartitionKey": "k"} for data in records]
        self.client("kinesis").put_records(StreamName=self.stream, Records=entries)

    def objects(self, prefix: str) -> Iterator[tuple[str, bytes]]:
        s3 = self.client("s3")
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=self.raw, Prefix=prefix)
        for page in pages:
            for found in page.get("Contents", []):
                yield found["Key"], s3.get_object(Bucket=self.raw, Key=found["Key"])["Body"].read()

    def archived(self) -> Counter[bytes]:
        return Counter(
            line for _, body in self.objects("stream/") for line in gzip.decompress(body).splitlines()
        )

    def quarantined(self) -> dict[bytes, list[str]]:
        lines = [json.loads(line) for _, body in self.objects("quarantine/") for line in body.splitlines()]
        return {base64.b64decode(line["data"]): line["reasons"] for line in lines}

    def counted(self) -> dict[str, int]:
        dimensions = {"service": "stream-consumer"}
        return {
            name: int(sum(values(self.client, "flights-sandbox", name, dimensions, "Sum")))
            for name in METRICS
        }

    def state(self, alarm: str) -> str:
        found = self.client("cloudwatch").describe_alarms()["MetricAlarms"]
        [state] = [a["StateValue"] for a in found if alarm in a["AlarmName"]]
        return str(state)


@pytest.fixture(scope="module")
def flow(deployed: Cdk, client: Client) -> Flow:
    return Flow(client)


@pytest.fixture(scope="module")
def sent(flow: Flow) -> list[replay.Event]:
    """Flights with their usual faults, put by the replay tool itself."""
    events = replay.events(flights=2_000)
    for _ in replay.send(flow.client("kinesis"), flow.stream, events):
        continue
    return events


def test_every_record_is_archived_once_compressed_and_delimited(flow: Flow, sent: list[replay.Event]) -> None:
    expected = Counter(event.json().encode() for event in sent)
    assert eventually(lambda: flow.archived() >= expected, seconds=20)
    assert flow.archived() == expected
    key, _ = next(flow.objects("stream/"))
    assert key.startswith(
        time.strftime("stream/arrived_year=%Y/arrived_month=%m/arrived_day=", time.gmtime())
    )
    assert flow.client("s3").head_object(Bucket=flow.raw, Key=key)["ServerSideEncryption"] == "aws:kms"


def test_every_record_is_accounted_for(flow: Flow, sent: list[replay.Event]) -> None:
    assert eventually(lambda: flow.counted()["RecordsReceived"] >= len(sent), seconds=30)
    counted = flow.counted()
    assert counted.pop("RecordsReceived") == len(sent) == sum(counted.values())
    assert counted["RecordsPredicted"] == 0
    assert counted["NoModelYet"] > 0.9 * len(sent)  # nothing has been approved


def test_poison_is_kept_whole_with_its_reason_and_blocks_nothing(
    flow: Flow, sent: list[replay.Event]
) -> None:
    poison = {event.json().encode() for event in sent if event.fault in {"malformed", "wrong_type"}}
    assert eventually(lambda: flow.quarantined().keys() >= poison, seconds=20)
    assert all(flow.quarantined()[data] for data in poison)
    received = flow.counted()["RecordsReceived"]
    flow.send([b"\xff\x00 no text", sent[0].json().encode()])
    assert eventually(lambda: flow.counted()["RecordsReceived"] == received + 2)
    assert flow.quarantined()[b"\xff\x00 no text"] == ["not_utf8"]
    assert list(flow.objects("aws/lambda/")) == []


def test_an_event_that_comes_twice_is_counted_as_such(flow: Flow, sent: list[replay.Event]) -> None:
    before = flow.counted()
    data = next(event.json().encode() for event in sent if event.fault is None)
    flow.send([data, data])
    assert eventually(lambda: flow.counted()["RecordsReceived"] == before["RecordsReceived"] + 2)
    after = flow.counted()
    assert after["RecordsDuplicated"] - before["RecordsDuplicated"] == 1
    assert after["NoModelYet"] - before["NoModelYet"] == 1


def test_the_share_of_refused_records_raises_an_alarm_and_good_ones_end_it(
    flow: Flow, sent: list[replay.Event]
) -> None:
    assert eventually(lambda: flow.state("RecordsRefused") == "OK")
    flow.send([b"no flight"] * 200)
    assert eventually(lambda: flow.state("RecordsRefused") == "ALARM")
    for _ in replay.send(flow.client("kinesis"), flow.stream, sent * 3):
        continue
    assert eventually(lambda: flow.state("RecordsRefused") == "OK", seconds=30)


def test_an_upload_reaches_its_target_as_the_rule_s_role_or_waits_for_a_person(flow: Flow) -> None:
    """Without its one permission the role cannot start the workflow: the event is kept, with AWS's reason."""
    rules, iam, sqs = (flow.client(service) for service in ("events", "iam", "sqs"))
    [name] = [
        rule["Name"] for rule in rules.list_rules()["Rules"] if "batch/" in rule.get("EventPattern", "")
    ]
    [target] = rules.list_targets_by_rule(Rule=name)["Targets"]
    role = target["RoleArn"].rpartition("/")[2]
    [policy] = iam.list_role_policies(RoleName=role)["PolicyNames"]
    document = iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"]
    letters = sqs.get_queue_url(QueueName=target["DeadLetterConfig"]["Arn"].rpartition(":")[2])["QueueUrl"]
    rules.enable_rule(Name=name)
    iam.delete_role_policy(RoleName=role, PolicyName=policy)
    try:
        flow.client("s3").put_object(Bucket=flow.raw, Key="batch/flights.csv", Body=b"year\n")
        [letter] = eventually(
            lambda: sqs.receive_message(QueueUrl=letters, MessageAttributeNames=["All"]).get("Messages")
        )
    finally:
        iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(document))
        rules.disable_rule(Name=name)
    sqs.delete_message(QueueUrl=letters, ReceiptHandle=letter["ReceiptHandle"])
    attributes = {key: value["StringValue"] for key, value in letter["MessageAttributes"].items()}
    assert attributes["ERROR_CODE"] == "NO_PERMISSIONS"
    assert attributes["TARGET_ARN"] == target["Arn"]
    assert "glue:NotifyEvent" in attributes["ERROR_MESSAGE"]
    assert json.loads(letter["Body"])["detail"]["object"]["key"] == "batch/flights.csv"
