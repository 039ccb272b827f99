"""The stream, its archive, and the consumer: bounded failures, no record lost, nothing out of reach in reach."""

import dataclasses
import importlib
import re
from typing import Any

from lambdas.stream_consumer import Settings
from pipeline import schema
from stacks.config import load
from tests.support import grants
from tests.support.intrinsics import Resolver
from tools.assembly import Assembly, context


def _only(assembly: Assembly, kind: str) -> dict[str, Any]:
    properties: dict[str, Any] = assembly.template("Ingestion").only(kind)["Properties"]
    return properties


def _destination(assembly: Assembly) -> dict[str, Any]:
    found: dict[str, Any] = _only(assembly, "AWS::KinesisFirehose::DeliveryStream")[
        "ExtendedS3DestinationConfiguration"
    ]
    return found


def test_the_stream_keeps_records_longer_than_the_consumer_tries(each_assembly: Assembly) -> None:
    hours = _only(each_assembly, "AWS::Kinesis::Stream")["RetentionPeriodHours"]
    seconds = _only(each_assembly, "AWS::Lambda::EventSourceMapping")["MaximumRecordAgeInSeconds"]
    assert seconds <= hours * 3600


def test_stream_and_archive_use_the_one_key(each_assembly: Assembly) -> None:
    stream = _only(each_assembly, "AWS::Kinesis::Stream")["StreamEncryption"]["KeyId"]
    archive = _destination(each_assembly)["EncryptionConfiguration"]["KMSEncryptionConfig"]["AWSKMSKeyARN"]
    assert stream == archive
    assert "Key" in stream["Fn::ImportValue"]


def test_the_archive_is_compressed_json_lines_in_a_folder_an_hour(each_assembly: Assembly) -> None:
    destination = _destination(each_assembly)
    assert destination["CompressionFormat"] == "GZIP"
    assert destination["Prefix"] == (
        "stream/arrived_year=!{timestamp:yyyy}/arrived_month=!{timestamp:MM}/"
        "arrived_day=!{timestamp:dd}/arrived_hour=!{timestamp:HH}/"
    )
    (processor,) = destination["ProcessingConfiguration"]["Processors"]
    assert destination["ProcessingConfiguration"]["Enabled"] is True
    assert processor["Type"] == "AppendDelimiterToRecord"


def test_no_partition_of_the_archive_has_the_name_of_a_column(each_assembly: Assembly) -> None:
    partitions = set(re.findall(r"(\w+)=", _destination(each_assembly)["Prefix"]))
    columns = {column.name for column in schema.load(load(context(each_assembly.stage)).dataset).columns}
    assert len(partitions) == 4
    assert partitions & columns == set()


def test_what_firehose_cannot_deliver_is_kept_where_no_job_reads_it(each_assembly: Assembly) -> None:
    destination = _destination(each_assembly)
    error = destination["ErrorOutputPrefix"]
    assert error.startswith("stream-errors/")
    assert not error.startswith(destination["Prefix"].split("/")[0] + "/")


def test_firehose_knows_two_prefixes_and_deletes_nothing(each_assembly: Assembly) -> None:
    for action in ("s3:GetObject", "s3:PutObject"):
        assert grants.keys(each_assembly, "Ingestion", "ArchiveRole", action) == {
            "stream/*",
            "stream-errors/*",
        }
    assert grants.keys(each_assembly, "Ingestion", "ArchiveRole", "s3:DeleteObject") == set()


def test_a_failed_batch_is_split_retried_a_bounded_number_of_times_and_then_kept_whole(
    each_assembly: Assembly,
) -> None:
    settings = load(context(each_assembly.stage)).ingestion
    mapping = _only(each_assembly, "AWS::Lambda::EventSourceMapping")
    assert mapping["BisectBatchOnFunctionError"] is True
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    assert mapping["MaximumRetryAttempts"] == settings.consumer_retry_attempts
    # S3 gets the records; a queue or topic would get their position in the stream only.
    resolver = Resolver(each_assembly, each_assembly.template("Ingestion"))
    (kept,) = resolver.strings(mapping["DestinationConfig"]["OnFailure"]["Destination"])
    assert kept.startswith("arn:aws:s3:::raw")


def test_the_consumer_starts_with_the_oldest_record(each_assembly: Assembly) -> None:
    assert _only(each_assembly, "AWS::Lambda::EventSourceMapping")["StartingPosition"] == "TRIM_HORIZON"


def test_the_consumer_invokes_one_endpoint(each_assembly: Assembly) -> None:
    endpoints = grants.resources(
        each_assembly, "Ingestion", "ConsumerPredictRole", "sagemaker:InvokeEndpoint"
    )
    assert endpoints == {f"arn:aws:sagemaker:us-east-1:111122223333:endpoint/flights-{each_assembly.stage}"}


def test_the_consumer_writes_three_prefixes_and_reads_and_deletes_no_object(each_assembly: Assembly) -> None:
    role = "ConsumerPredictRole"
    assert grants.keys(each_assembly, "Ingestion", role, "s3:PutObject") == {
        "predictions/*",
        "quarantine/*",
        "aws/lambda/*",
    }
    for action in ("s3:GetObject", "s3:DeleteObject"):
        assert grants.keys(each_assembly, "Ingestion", role, action) == set()


def test_the_consumer_finds_every_setting_it_asks_for(each_assembly: Assembly) -> None:
    function = _only(each_assembly, "AWS::Lambda::Function")
    variables = function["Environment"]["Variables"]
    assert {field.name.upper() for field in dataclasses.fields(Settings)} <= variables.keys()
    module, handler = function["Handler"].rsplit(".", 1)
    assert callable(getattr(importlib.import_module(module), handler))


def test_the_consumers_prefixes_are_those_it_may_write(each_assembly: Assembly) -> None:
    variables = _only(each_assembly, "AWS::Lambda::Function")["Environment"]["Variables"]
    allowed = grants.keys(each_assembly, "Ingestion", "ConsumerPredictRole", "s3:PutObject")
    for name in ("PREDICTIONS_PREFIX", "QUARANTINE_PREFIX"):
        assert f"{variables[name]}*" in allowed
