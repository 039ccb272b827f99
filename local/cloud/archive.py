"""Firehose from a Kinesis stream to S3: buffered by size and time, delimited, compressed, written as its role.

MiniStack's own writes an object a record, asks no permission and compresses nothing. What our template leaves out
(Lambda processors, format conversion, dynamic partitioning) is refused by name; so nothing ever has to go to the error
prefix, which Firehose uses for records that it cannot process, not for a bucket that it cannot write to.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import gzip
import re
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local.cloud import clock, roles, seams
from local.cloud.extensions import Cloud
from local.cloud.shard import Reader, Record, stream
from local.cloud.stream import stopped

_SWEEP_SECONDS, _PAUSE_SECONDS, _RETRY_SECONDS = 0.5, 0.25, 5.0
_RECORDS = 10_000  # of one read
_SUPPORTED = {
    "BucketARN",
    "RoleARN",
    "Prefix",
    "ErrorOutputPrefix",
    "CompressionFormat",
    "EncryptionConfiguration",
    "BufferingHints",
    "ProcessingConfiguration",
    "CloudWatchLoggingOptions",
}
# Java's date patterns, as far as folders need them ("Custom prefixes for Amazon S3 objects", Firehose).
_JAVA = {"yyyy": "%Y", "MM": "%m", "dd": "%d", "HH": "%H", "mm": "%M", "ss": "%S"}


def install(cloud: Cloud) -> None:
    """Follow every delivery stream whose source is a Kinesis stream, and refuse records from elsewhere."""
    handlers = seams.firehose._HANDLERS
    handlers |= {name: _refusing(handlers[name]) for name in ("PutRecord", "PutRecordBatch")}
    threading.Thread(target=_watch, args=(cloud,), name="archive", daemon=True).start()


def folder(prefix: str, moment: dt.datetime) -> str:
    """A prefix with its `!{timestamp:…}` filled in."""

    def fill(found: re.Match[str]) -> str:
        pattern = re.sub("|".join(_JAVA), lambda letters: _JAVA[letters[0]], found[1])
        return moment.strftime(pattern)

    return re.sub(r"!\{timestamp:([^}]+)\}", fill, prefix)


def _refusing(original: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    """Only a stream of the type DirectPut takes records from its callers ("PutRecord", Firehose API Reference)."""

    def put(request: dict[str, Any]) -> Any:
        delivery = seams.firehose._streams.get(request.get("DeliveryStreamName"))
        if delivery and delivery["type"] == "KinesisStreamAsSource":
            return seams.responses.error_response_json(
                "InvalidArgumentException",
                "This operation is not permitted on KinesisStreamAsSource delivery stream type.",
                400,
            )
        return original(request)

    return put


def _watch(cloud: Cloud) -> None:
    running: dict[str, threading.Thread] = {}
    while not stopped(_SWEEP_SECONDS):
        for delivery in list(seams.firehose._streams.values()):
            if delivery["type"] == "KinesisStreamAsSource" and delivery["arn"] not in running:
                worker = threading.Thread(target=Archive(delivery, cloud).run, name="archive", daemon=True)
                running[delivery["arn"]] = worker
                worker.start()
        running = {arn: worker for arn, worker in running.items() if worker.is_alive()}


@dataclasses.dataclass
class _Buffer:
    """Records on their way: their bytes as they will be written, and when the first of them arrived."""

    data: bytearray = dataclasses.field(default_factory=bytearray)
    arrived: float = 0.0
    since: float = 0.0

    def add(self, record: Record, delimiter: bytes) -> None:
        if not self.data:
            self.arrived, self.since = record["ApproximateArrivalTimestamp"], time.monotonic()
        self.data += base64.b64decode(record["Data"]) + delimiter


class Archive:
    """One delivery stream: its readers, its buffer, its objects."""

    def __init__(self, delivery: dict[str, Any], cloud: Cloud) -> None:
        self._delivery, self._cloud = delivery, cloud
        self._readers: dict[str, Reader] = {}
        self._buffer = _Buffer()
        self._reported = 0.0
        self._clients: dict[tuple[str, str], Any] = {}

    def run(self) -> None:
        """Read, buffer and write until the delivery stream is deleted or the cloud ends."""
        while not stopped(_PAUSE_SECONDS) and self._exists():
            try:
                self._step()
            except (roles.AccessDeniedError, ClientError, BotoCoreError, ValueError) as error:
                self._report_failure(error)
                stopped(_RETRY_SECONDS)

    def _exists(self) -> bool:
        return seams.firehose._streams.get(self._delivery["name"]) is self._delivery

    @property
    def _settings(self) -> dict[str, Any]:
        settings: dict[str, Any] = self._delivery["destinations"][0]["config"]
        return settings

    def _step(self) -> None:
        settings = self._settings
        if unknown := settings.keys() - _SUPPORTED:
            raise ValueError(f"{sorted(unknown)} of a delivery stream are unsupported in the embedded cloud")
        hints = settings.get("BufferingHints") or {}
        size = int(hints.get("SizeInMBs", 5)) * 1024 * 1024
        seconds = clock.scaled(int(hints.get("IntervalInSeconds", 300)))
        delimiter = _delimiter(settings.get("ProcessingConfiguration") or {})
        for reader in self._open():
            while len(self._buffer.data) < size and (records := reader.read(_RECORDS)):
                for record in records:
                    self._buffer.add(record, delimiter)
        full = len(self._buffer.data) >= size or time.monotonic() - self._buffer.since >= seconds
        if self._buffer.data and full:
            self._write()
        elif time.monotonic() - self._reported > clock.scaled(60):
            self._report(self._age())

    def _open(self) -> list[Reader]:
        source = self._delivery["kinesis_source"]
        arn = source["KinesisStreamARN"]
        for shard in stream(arn).get("shards", {}):
            if shard not in self._readers:
                reader = Reader(arn, shard, roles.assume(source["RoleARN"], "firehose", "AWSFirehose"))
                reader.open()
                reader.skip_before(source["DeliveryStartTimestamp"])
                self._readers[shard] = reader
        return list(self._readers.values())

    def _write(self) -> None:
        settings, arrived = self._settings, dt.datetime.fromtimestamp(self._buffer.arrived, dt.UTC)
        name, version = self._delivery["name"], self._delivery["version"]
        key = folder(settings.get("Prefix", "!{timestamp:yyyy/MM/dd/HH/}"), arrived)
        key += f"{name}-{version}-{arrived:%Y-%m-%d-%H-%M-%S}-{uuid.uuid4()}"
        body = bytes(self._buffer.data)
        if settings.get("CompressionFormat") == "GZIP":
            key, body = f"{key}.gz", gzip.compress(body, compresslevel=1)
        headers = {}
        if kms := (settings.get("EncryptionConfiguration") or {}).get("KMSEncryptionConfig"):
            headers = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": kms["AWSKMSKeyARN"]}
        self._client("s3").put_object(
            Bucket=settings["BucketARN"].rpartition(":")[2], Key=key, Body=body, **headers
        )
        self._metric("DeliveryToS3.Success", 1, "Count")
        self._report(self._age())
        self._buffer = _Buffer()

    def _client(self, service: str) -> Any:
        role = self._settings["RoleARN"]
        if (service, role) not in self._clients:
            self._clients[service, role] = roles.assume(role, "firehose", "AWSFirehose").client(
                service, self._cloud.place
            )
        return self._clients[service, role]

    def _age(self) -> float:
        return time.time() - self._buffer.arrived if self._buffer.data else 0.0

    def _report(self, age: float) -> None:
        self._reported = time.monotonic()
        self._metric("DeliveryToS3.DataFreshness", age, "Seconds")

    def _metric(self, name: str, value: float, unit: str) -> None:
        dimensions = {"DeliveryStreamName": self._delivery["name"]}
        seams.cloudwatch.record_metric("AWS/Firehose", name, value, unit, dimensions)

    def _report_failure(self, error: Exception) -> None:
        """Tell the metric, and the log stream that the template names, as the role."""
        self._metric("DeliveryToS3.Success", 0, "Count")
        self._report(self._age())
        print(f"{self._delivery['name']}: {error}", flush=True)
        options = self._settings.get("CloudWatchLoggingOptions") or {}
        if not options.get("Enabled"):
            return
        try:
            self._client("logs").put_log_events(
                logGroupName=options["LogGroupName"],
                logStreamName=options["LogStreamName"],
                logEvents=[{"timestamp": int(1000 * time.time()), "message": str(error)}],
            )
        except (roles.AccessDeniedError, ClientError, BotoCoreError) as silenced:
            print(f"{self._delivery['name']}: no log: {silenced}", flush=True)


def _delimiter(processing: dict[str, Any]) -> bytes:
    kinds = [processor["Type"] for processor in processing.get("Processors") or []]
    if processing.get("Enabled") in (None, False, "false") or not kinds:
        return b""
    if kinds != ["AppendDelimiterToRecord"]:
        raise ValueError(f"processors {kinds} are unsupported in the embedded cloud")
    return b"\n"
