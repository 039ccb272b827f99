"""Lambda's event source mapping of Kinesis: every shard in order, failures split, retried, bounded, and kept.

MiniStack's own poller asks no permission, ignores failed items and repeats a failing batch for ever; it is switched off.
Record age and retention are real seconds, not scaled: how many records fit into a second is real too.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import threading
import time
import uuid
import zlib
from collections.abc import Iterator
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local.cloud import clock, roles, seams
from local.cloud.extensions import Cloud
from local.cloud.place import ACCOUNT, REGION
from local.cloud.shard import Reader, Record, announce, stream

PAYLOAD_BYTES = 6 * 1024 * 1024 - 64 * 1024  # of an invocation, less what surrounds the data
_SWEEP_SECONDS = 0.5  # how soon a new mapping, shard or setting is seen
_stopped = threading.Event()


def install(cloud: Cloud) -> None:
    """Follow every mapping of a Kinesis stream from a thread of its own."""
    seams.replace(seams.lambda_svc, "_poll_kinesis", lambda _original: lambda: False)
    seams.replace(seams.firehose, "ingest_from_kinesis_source", lambda _original: announce)
    cloud.closing.callback(_stopped.set)
    threading.Thread(target=_watch, args=(cloud,), name="stream", daemon=True).start()


def stopped(seconds: float) -> bool:
    """Wait so long; whether the cloud ends."""
    return _stopped.wait(seconds)


def _watch(cloud: Cloud) -> None:
    lanes: dict[tuple[str, str, int], threading.Thread] = {}
    widths: dict[str, int] = {}  # a mapping keeps the parallelization that it began with
    while not stopped(_SWEEP_SECONDS):
        for (_account, _region, identifier), mapping in list(seams.lambda_svc._esms._data.items()):
            if ":kinesis:" not in mapping["EventSourceArn"] or not mapping.get("Enabled", True):
                continue
            width = widths.setdefault(identifier, mapping.get("ParallelizationFactor") or 1)
            for shard in list(stream(mapping["EventSourceArn"]).get("shards", {})):
                for number in range(width):
                    name = (identifier, shard, number)
                    if name not in lanes:
                        lane = Lane(identifier, shard, (number, width), cloud)
                        lanes[name] = threading.Thread(target=lane.run, name=f"lane {name}", daemon=True)
                        lanes[name].start()
        lanes = {name: thread for name, thread in lanes.items() if name[0] in _mappings()}


def _mappings() -> set[str]:
    return {identifier for _account, _region, identifier in seams.lambda_svc._esms._data}


class Lane:
    """One consumer of a shard: the records whose partition key falls to it, one batch after the other."""

    def __init__(self, identifier: str, shard_id: str, part: tuple[int, int], cloud: Cloud) -> None:
        self._identifier, self._shard_id, self._part, self._cloud = identifier, shard_id, part, cloud
        self._waiting: list[Record] = []

    def run(self) -> None:
        """Read and deliver until the mapping is deleted or the cloud ends."""
        reader: Reader | None = None
        while not _stopped.is_set() and (mapping := self._mapping()):
            function = seams.lambda_svc._get_func_record_for_qualifier(
                mapping["FunctionName"], mapping.get("Qualifier")
            )[0]
            if function is None or not mapping.get("Enabled", True):
                stopped(_SWEEP_SECONDS)
                continue
            try:
                if reader is None or reader.session.role_arn != function["config"]["Role"]:
                    reader = self._reader(mapping, function, reader.position if reader else "")
                if batch := self._collect(mapping, function, reader):
                    Delivery(mapping, function, reader, self._cloud).deliver(batch)
            except roles.AccessDeniedError as denied:
                mapping["LastProcessingResult"] = f"PROBLEM: {denied}"
                stopped(_SWEEP_SECONDS)

    def _reader(self, mapping: dict[str, Any], function: dict[str, Any], position: str) -> Reader:
        session = roles.assume(function["config"]["Role"], "lambda", mapping["FunctionName"][:64])
        reader = Reader(mapping["EventSourceArn"], self._shard_id, session, position)
        reader.open()
        if not position and mapping.get("StartingPosition") == "LATEST":
            reader.skip_before(time.time())
        return reader

    def _collect(self, mapping: dict[str, Any], function: dict[str, Any], reader: Reader) -> list[Record]:
        """The next batch: full by records or bytes, or what came within the window after its first record.

        Nothing if the mapping ends, or the function gets another role: the reader has to be of that role.
        """
        size = mapping.get("BatchSize") or 100
        deadline: float | None = None
        while (
            not _stopped.is_set()
            and self._identifier in _mappings()
            and reader.session.role_arn == function["config"]["Role"]
        ):
            if len(self._waiting) < size:
                self._waiting += filter(self._mine, reader.read(size))
            batch = list(_within(self._waiting[:size], PAYLOAD_BYTES))
            full = len(batch) == size or len(batch) < len(self._waiting)
            if batch and deadline is None:
                window = mapping.get("MaximumBatchingWindowInSeconds") or 0
                deadline = time.monotonic() + clock.scaled(window)
            if full or (deadline is not None and time.monotonic() >= deadline):
                self._waiting = self._waiting[len(batch) :]
                return batch
            reader.wait(
                _SWEEP_SECONDS if deadline is None else min(0.05, max(0.0, deadline - time.monotonic()))
            )
        return []

    def _mine(self, record: Record) -> bool:
        number, width = self._part
        return zlib.crc32(record["PartitionKey"].encode()) % width == number

    def _mapping(self) -> dict[str, Any] | None:
        found: dict[str, Any] | None = seams.lambda_svc._esms.get_scoped(ACCOUNT, REGION, self._identifier)
        return found


def _within(records: list[Record], limit: int) -> Iterator[Record]:
    total = 0
    for place, record in enumerate(records):
        total += len(record["Data"]) + 512
        if place and total > limit:
            return
        yield record


@dataclasses.dataclass
class Delivery:
    """A batch on its way to the function; when it ends, every record is processed, discarded, or in S3."""

    mapping: dict[str, Any]
    function: dict[str, Any]
    reader: Reader
    cloud: Cloud
    calls: int = 0

    def deliver(self, records: list[Record]) -> None:
        """Invoke until all records are done with. Splitting a batch is no retry."""
        retries = 0
        while records and not _stopped.is_set():
            records = self._without_old(records)
            if not records:
                return
            failed_from = self._invoke(records)
            if failed_from is None:
                return
            if failed_from:  # everything before the lowest returned sequence number is done with
                records, retries = records[failed_from:], 0
                continue
            if len(records) > 1 and self.mapping.get("BisectBatchOnFunctionError"):
                middle = len(records) // 2
                self.deliver(records[:middle])
                records, retries = records[middle:], 0
                continue
            limit = self.mapping.get("MaximumRetryAttempts")
            if limit is not None and 0 <= limit <= retries:
                self._discard(records, "RetryAttemptsExhausted")
                return
            stopped(max(0.05, clock.scaled(min(2**retries, 60))))
            retries += 1

    def _invoke(self, records: list[Record]) -> int | None:
        """Where the records begin that failed; None if all succeeded."""
        self.calls += 1
        age = 1000 * (time.time() - records[-1]["ApproximateArrivalTimestamp"])
        seams.cloudwatch.record_metric(
            "AWS/Lambda", "IteratorAge", max(0.0, age), "Milliseconds", {"FunctionName": self._name}
        )
        result = seams.lambda_svc._execute_function(self.function, self._event(records))
        failed = None if not result.get("error") else 0
        if failed is None and "ReportBatchItemFailures" in (self.mapping.get("FunctionResponseTypes") or []):
            failed = _first_failed(records, result.get("body"))
        self.mapping["LastProcessingResult"] = "OK" if failed is None else "PROBLEM: Function call failed"
        return failed

    def _without_old(self, records: list[Record]) -> list[Record]:
        limit = self.mapping.get("MaximumRecordAgeInSeconds") or -1
        oldest = time.time() - limit if limit > 0 else 0.0
        old = [record for record in records if record["ApproximateArrivalTimestamp"] < oldest]
        if old:
            self._discard(old, "MaxRecordAgeExceeded")
        return records[len(old) :]

    @property
    def _name(self) -> str:
        return str(self.mapping["FunctionName"])

    def _event(self, records: list[Record]) -> dict[str, Any]:
        return {
            "Records": [
                {
                    "kinesis": {
                        "kinesisSchemaVersion": "1.0",
                        "partitionKey": record["PartitionKey"],
                        "sequenceNumber": record["SequenceNumber"],
                        "data": record["Data"],
                        "approximateArrivalTimestamp": record["ApproximateArrivalTimestamp"],
                    },
                    "eventSource": "aws:kinesis",
                    "eventVersion": "1.0",
                    "eventID": f"{self.reader.shard_id}:{record['SequenceNumber']}",
                    "eventName": "aws:kinesis:record",
                    "invokeIdentityArn": self.reader.session.role_arn,
                    "awsRegion": REGION,
                    "eventSourceARN": self.reader.stream_arn,
                }
                for record in records
            ]
        }

    def _discard(self, records: list[Record], condition: str) -> None:
        """Write them whole to the failure destination as the function's role, where and as Lambda does.

        "Retain discarded batch records for a Kinesis Data Streams event source in Lambda", AWS Lambda Developer Guide.
        """
        destination = ((self.mapping.get("DestinationConfig") or {}).get("OnFailure") or {}).get(
            "Destination", ""
        )
        if not destination.startswith("arn:aws:s3:::"):
            print(f"{self._name}: {len(records)} records discarded: {condition}", flush=True)
            return
        now = dt.datetime.now(dt.UTC)
        identifier, shard = self.mapping["UUID"], self.reader.shard_id
        try:
            self.reader.session.client("s3", self.cloud.place).put_object(
                Bucket=destination.removeprefix("arn:aws:s3:::"),
                Key=f"aws/lambda/{identifier}/{shard}/{now:%Y/%m/%d}/{now:%Y-%m-%dT%H.%M.%S}-{uuid.uuid4()}",
                Body=json.dumps(self._letter(records, condition, now)).encode(),
            )
        except (ClientError, BotoCoreError) as error:
            seams.cloudwatch.record_metric(
                "AWS/Lambda", "DestinationDeliveryFailures", 1, "Count", {"FunctionName": self._name}
            )
            print(f"{self._name}: {len(records)} records lost: {error}", flush=True)

    def _letter(self, records: list[Record], condition: str, now: dt.datetime) -> dict[str, Any]:
        return {
            "requestContext": {
                "requestId": str(uuid.uuid4()),
                "functionArn": self.mapping["FunctionArn"],
                "condition": condition,
                "approximateInvokeCount": self.calls,
            },
            "responseContext": {
                "statusCode": 200,
                "executedVersion": "$LATEST",
                "functionError": "Unhandled",
            },
            "version": "1.0",
            "timestamp": _instant(now.timestamp()),
            "KinesisBatchInfo": {
                "shardId": self.reader.shard_id,
                "startSequenceNumber": records[0]["SequenceNumber"],
                "endSequenceNumber": records[-1]["SequenceNumber"],
                "approximateArrivalOfFirstRecord": _instant(records[0]["ApproximateArrivalTimestamp"]),
                "approximateArrivalOfLastRecord": _instant(records[-1]["ApproximateArrivalTimestamp"]),
                "batchSize": len(records),
                "streamArn": self.reader.stream_arn,
            },
            "payload": json.dumps(self._event(records)),
        }


def _first_failed(records: list[Record], answer: object) -> int | None:
    """The place of the lowest returned sequence number; 0 if the answer names none of the records."""
    failures = answer.get("batchItemFailures") if isinstance(answer, dict) else None
    if not failures:
        return None
    places = {record["SequenceNumber"]: place for place, record in enumerate(records)}
    named = [failure.get("itemIdentifier") for failure in failures]
    return min(places.get(name, 0) for name in named)


def _instant(seconds: float) -> str:
    return (
        dt.datetime.fromtimestamp(seconds, dt.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )
