"""Data capture: requests and answers as JSON lines in S3, as "Capture data from real-time endpoint" describes them."""

from __future__ import annotations

import base64
import datetime as dt
import json
import random
import threading
import uuid
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local.cloud import clock
from local.cloud.sagemaker.instance import Answer
from local.runner import storage

# How long captured records wait for company. AWS does not say how often it writes.
SECONDS = 60.0


class Capture:
    """What one variant captures, written to S3 some time later by one object for all that came meanwhile."""

    def __init__(self, config: Mapping[str, Any], s3: Any, endpoint: str, variant: str) -> None:
        self._config, self._s3 = config, s3
        self._where = f"{endpoint}/{variant}"
        self._waiting: list[str] = []
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()

    @property
    def described(self) -> dict[str, Any]:
        """The configuration as DescribeEndpoint shows it."""
        shown = {
            "EnableCapture": True,
            "CaptureStatus": "Started",
            "CurrentSamplingPercentage": self._config["InitialSamplingPercentage"],
            "DestinationS3Uri": self._config["DestinationS3Uri"],
        }
        return shown | ({"KmsKeyId": self._config["KmsKeyId"]} if "KmsKeyId" in self._config else {})

    def sampled(self) -> bool:
        """Whether this request is one of those to capture."""
        percent: int = self._config["InitialSamplingPercentage"]
        return random.random() * 100 < percent  # noqa: S311 - a sample

    def keep(self, headers: Mapping[str, str], body: bytes, answer: Answer) -> None:
        """One request, by the headers and body of its caller, and its answer, if it is one of those to capture."""
        if not self.sampled():
            return
        metadata: dict[str, Any] = {
            "eventId": str(uuid.uuid4()),
            "inferenceTime": f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}",
        }
        if attributes := headers.get("x-amzn-sagemaker-custom-attributes"):
            metadata["customAttributes"] = [attributes]
        if inference := headers.get("x-amzn-sagemaker-inference-id"):
            metadata["inferenceId"] = inference
        sent = (headers.get("content-type", ""), body)
        self.add(sent, (answer.content_type, answer.body), metadata)

    def add(self, request: tuple[str, bytes], answer: tuple[str, bytes], metadata: Mapping[str, Any]) -> None:
        """Keep one request and its answer, each as (content type, body)."""
        line = json.dumps(record(self._config, request, answer, metadata))
        with self._lock:
            self._waiting.append(line)
            if self._timer is None:
                self._timer = threading.Timer(clock.scaled(SECONDS), self.flush)
                self._timer.daemon = True
                self._timer.start()

    def flush(self) -> None:
        """Write what waits."""
        with self._lock:
            lines, self._waiting = self._waiting, []
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None
        if not lines:
            return
        now = dt.datetime.now(dt.UTC)
        bucket, prefix = storage.split(self._config["DestinationS3Uri"])
        name = f"{now:%M-%S}-{now.microsecond // 1000:03}-{uuid.uuid4()}.jsonl"
        key = self._config.get("KmsKeyId")
        try:
            self._s3.put_object(
                Bucket=bucket,
                Key=f"{prefix.rstrip('/')}/{self._where}/{now:%Y/%m/%d/%H}/{name}".lstrip("/"),
                Body="".join(f"{line}\n" for line in lines).encode(),
                **({"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key} if key else {}),
            )
        except (ClientError, BotoCoreError) as error:
            # A capture that cannot be written never fails a prediction.
            print(f"data capture of {self._where}: {len(lines)} records lost: {error}", flush=True)


def record(
    config: Mapping[str, Any],
    request: tuple[str, bytes],
    answer: tuple[str, bytes],
    metadata: Mapping[str, Any],
) -> dict[str, Any]:
    """One line: the sides that the configuration asks for, each in the encoding that its content type has there."""
    modes = {option["CaptureMode"] for option in config["CaptureOptions"]}
    types = config.get("CaptureContentTypeHeader", {})
    sides = {"Input": ("endpointInput", request), "Output": ("endpointOutput", answer)}
    return {
        "captureData": {
            name: _side(types, mode.upper(), *sent)
            for mode, (name, sent) in sides.items()
            if modes & {mode, "InputAndOutput"}
        },
        "eventMetadata": dict(metadata),
        "eventVersion": "0",
    }


def _side(types: Mapping[str, list[str]], mode: str, content_type: str, body: bytes) -> dict[str, str]:
    plain = content_type.partition(";")[0].strip().lower()
    encoding = "BASE64"
    for name, known in (("CSV", "CsvContentTypes"), ("JSON", "JsonContentTypes")):
        if plain in types.get(known, []):
            encoding = name
    data = base64.b64encode(body).decode() if encoding == "BASE64" else body.decode(errors="replace")
    return {"observedContentType": content_type, "mode": mode, "data": data, "encoding": encoding}
