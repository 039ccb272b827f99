"""Firehose: one compressed object a buffer, in folders by time, written as its role."""

import gzip
import json
import time
import uuid
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local.cloud.test_stream import ACCOUNT, READER, eventually
from tests.support.trust import trust

Client = Callable[[str], Any]

# As the template has it: the account is the external id.
TRUST = trust("firehose", condition={"StringEquals": {"sts:ExternalId": ACCOUNT}})


class Delivery:
    """A stream and its archive in a bucket."""

    def __init__(
        self, client: Client, actions: list[str], seconds: int = 60, before: str = "", **settings: Any
    ) -> None:
        self.client, self.name = client, f"f{uuid.uuid4().hex[:8]}"
        self.stream_arn = f"arn:aws:kinesis:us-east-1:{ACCOUNT}:stream/{self.name}"
        self.bucket_arn = f"arn:aws:s3:::{self.name}"
        client("s3").create_bucket(Bucket=self.name)
        client("kinesis").create_stream(StreamName=self.name, ShardCount=2)
        if before:
            self.put(before)
        client("logs").create_log_group(logGroupName=self.name)
        client("logs").create_log_stream(logGroupName=self.name, logStreamName="s")
        client("iam").create_role(RoleName=self.name, AssumeRolePolicyDocument=TRUST)
        self.allow("logs:PutLogEvents", *actions)
        role = f"arn:aws:iam::{ACCOUNT}:role/{self.name}"
        client("firehose").create_delivery_stream(
            DeliveryStreamName=self.name,
            DeliveryStreamType="KinesisStreamAsSource",
            KinesisStreamSourceConfiguration={"KinesisStreamARN": self.stream_arn, "RoleARN": role},
            ExtendedS3DestinationConfiguration={
                "BucketARN": self.bucket_arn,
                "RoleARN": role,
                "Prefix": "stream/hour=!{timestamp:HH}/",
                "CompressionFormat": "GZIP",
                "BufferingHints": {"IntervalInSeconds": seconds, "SizeInMBs": 1},
                "ProcessingConfiguration": {
                    "Enabled": True,
                    "Processors": [{"Type": "AppendDelimiterToRecord"}],
                },
                "CloudWatchLoggingOptions": {
                    "Enabled": True,
                    "LogGroupName": self.name,
                    "LogStreamName": "s",
                },
                **settings,
            },
        )

    def allow(self, *actions: str, resources: Sequence[str] = ()) -> None:
        own = [self.stream_arn, f"{self.bucket_arn}/stream/*", "arn:aws:logs:*:*:*"]
        statement = {"Effect": "Allow", "Action": actions, "Resource": [*own, *resources]}
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.client("iam").put_role_policy(RoleName=self.name, PolicyName="p", PolicyDocument=document)

    def put(self, *data: str) -> None:
        records = [{"Data": text.encode(), "PartitionKey": text[:9]} for text in data]
        self.client("kinesis").put_records(StreamName=self.name, Records=records)

    def objects(self) -> dict[str, bytes]:
        s3 = self.client("s3")
        found = s3.list_objects_v2(Bucket=self.name).get("Contents", [])
        return {o["Key"]: s3.get_object(Bucket=self.name, Key=o["Key"])["Body"].read() for o in found}


def test_a_buffer_of_two_minutes_becomes_one_object_after_two_seconds(client: Client) -> None:
    delivery = Delivery(client, [*READER, "s3:PutObject"], seconds=120)
    delivery.put("a", "b")
    time.sleep(1)  # it has read these two, and waits for more
    delivery.put("c")
    [(key, body)] = eventually(delivery.objects).items()
    assert key.startswith("stream/hour=")
    assert key.endswith(".gz")
    assert sorted(gzip.decompress(body).splitlines()) == [b"a", b"b", b"c"]
    assert gzip.decompress(body).endswith(b"\n")


def test_it_begins_with_what_comes_after_it_was_created(client: Client) -> None:
    delivery = Delivery(client, [*READER, "s3:PutObject"], before="old")
    delivery.put("new")
    [body] = eventually(delivery.objects).values()
    assert gzip.decompress(body) == b"new\n"


def test_objects_are_encrypted_with_the_key_of_the_delivery_stream(client: Client) -> None:
    key = client("kms").create_key()["KeyMetadata"]["Arn"]
    settings = {"EncryptionConfiguration": {"KMSEncryptionConfig": {"AWSKMSKeyARN": key}}}
    delivery = Delivery(client, [*READER, "s3:PutObject"], **settings)
    delivery.allow("logs:PutLogEvents", *READER, "s3:PutObject", "kms:GenerateDataKey", resources=[key])
    delivery.put("a")
    [name] = eventually(delivery.objects)
    assert client("s3").head_object(Bucket=delivery.name, Key=name)["SSEKMSKeyId"] == key


def test_a_full_buffer_is_written_before_its_time(client: Client) -> None:
    delivery = Delivery(client, [*READER, "s3:PutObject"], seconds=900)
    delivery.put(*[letter * 300_000 for letter in "abcd"])
    assert eventually(delivery.objects)


def test_records_come_from_the_stream_alone(client: Client) -> None:
    name, firehose = Delivery(client, [*READER, "s3:PutObject"]).name, client("firehose")
    refused = r"InvalidArgumentException.*not permitted on KinesisStreamAsSource delivery stream type\."
    with pytest.raises(ClientError, match=refused):
        firehose.put_record(DeliveryStreamName=name, Record={"Data": b"{}"})
    with pytest.raises(ClientError, match=refused):
        firehose.put_record_batch(DeliveryStreamName=name, Records=[{"Data": b"{}"}])


def test_without_permission_the_log_says_so_and_nothing_is_lost(client: Client) -> None:
    delivery = Delivery(client, READER)
    delivery.put("a")

    def log() -> list[str]:
        events = client("logs").get_log_events(logGroupName=delivery.name, logStreamName="s")["events"]
        return [event["message"] for event in events]

    assert eventually(lambda: [line for line in log() if "s3:PutObject" in line])
    assert delivery.objects() == {}
    delivery.allow("logs:PutLogEvents", "s3:PutObject", *READER)
    [body] = eventually(delivery.objects).values()
    assert gzip.decompress(body) == b"a\n"


@pytest.mark.parametrize("unknown", ["DataFormatConversionConfiguration"])
def test_what_is_not_implemented_is_named(client: Client, unknown: str) -> None:
    delivery = Delivery(client, [*READER, "s3:PutObject"], **{unknown: {"Enabled": True}})

    def log() -> list[str]:
        events = client("logs").get_log_events(logGroupName=delivery.name, logStreamName="s")["events"]
        return [event["message"] for event in events]

    assert eventually(lambda: [line for line in log() if unknown in line])
