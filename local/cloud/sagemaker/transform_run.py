"""A transform job at work: objects are dealt to instances by key, each instance is a model server of the job's own.

What an object's requests answer is stored, as `.out`, only if all of them succeeded; the other objects go on
("Batch Transform Errors", SageMaker AI Developer Guide).
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime as dt
import gzip
import http
import itertools
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from local.cloud.extensions import Cloud
from local.cloud.place import REGION
from local.cloud.sagemaker.fleet import Fleet, FleetError, Variant
from local.cloud.sagemaker.instance import Answer
from local.cloud.sagemaker.models import Runnable
from local.cloud.sagemaker.parallel import side_by_side
from local.cloud.sagemaker.split import (
    Processing,
    RecordError,
    TooLargeError,
    assemble,
    batches,
    lines,
    payload,
)
from local.cloud.sagemaker.store import Record
from local.runner import storage

LOG_GROUP = "/aws/sagemaker/TransformJobs"
_MEBIBYTE = 1 << 20
_RETRIES = 3  # "ModelClientConfig": the default of InvocationsMaxRetries
_PAUSE_SECONDS = 1.5  # in which a server that died is started again


class StoppedError(Exception):
    """The job was asked to end."""


class _ObjectError(Exception):
    """An object that cannot be transformed: `fault` is ClientError or AlgorithmError, the text is for the log."""

    def __init__(self, fault: str, text: str) -> None:
        super().__init__(text)
        self.fault = fault


@dataclasses.dataclass(frozen=True)
class Source:
    """An input object, and where below the output path its answers go."""

    bucket: str
    key: str
    target: str


class _Server(Fleet):
    """The model server of one instance; its output lands where a transform job's does."""

    def __init__(self, cloud: Cloud, job: str, model: Runnable) -> None:
        super().__init__(cloud, Variant(job, job, job, model), 1.0)
        try:
            self.scale(1)
        except FleetError:
            self.close()
            raise

    def ask(self, body: bytes, headers: Mapping[str, str]) -> Answer | None:
        """The container's answer; None if there is none, as while a server that died is started again."""
        if (instance := self.take()) is None:
            return None
        try:
            return instance.post(body, headers)
        except OSError:
            instance.doubt()
            return None
        finally:
            self.leave(instance)

    @property
    def log_group(self) -> str:
        return LOG_GROUP


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of a job's (checked) request; `log` takes a line, `stop()` is asked between requests."""

    name: str
    request: Record
    processing: Processing
    s3: Any
    log: Callable[[str], None]
    stop: Callable[[], bool]

    def through(self, cloud: Cloud, runnable: Runnable) -> str | None:
        """Transform every object: whose fault it is if one failed. `StorageError`, `FleetError`: none was begun."""
        sources = list(self._sources())
        if not sources:
            uri = self._from["S3Uri"]
            raise storage.StorageError(
                f'No S3 objects found under S3 URL "{uri}" given in input data source. Please ensure that the bucket '
                f"exists in the selected region ({REGION}), that objects exist under that S3 prefix, and that the role "
                f'"{runnable.role}" has "s3:ListBucket" permissions on bucket "{storage.split(uri)[0]}".'
            )
        self._say(
            f"MaxConcurrentTransforms={self.request['MaxConcurrentTransforms']}, MaxPayloadInMB="
            f"{self.request['MaxPayloadInMB']}, BatchStrategy={_constant(self.request['BatchStrategy'])}"
        )
        model = dataclasses.replace(runnable, environment=self._environment(runnable.environment))
        shares = [sources[place :: self._instances] for place in range(self._instances)]
        found = side_by_side(
            lambda share: self._instance(cloud, model, share), shares, at_once=len(shares), name="transform"
        )
        faults = [fault for share in found for fault in share]
        return min(faults) if faults else None  # AlgorithmError before ClientError

    @property
    def _from(self) -> Mapping[str, Any]:
        source: Mapping[str, Any] = self.request["TransformInput"]["DataSource"]["S3DataSource"]
        return source

    @property
    def _instances(self) -> int:
        count: int = self.request["TransformResources"]["InstanceCount"]
        return count

    def _sources(self) -> Iterator[Source]:
        uri = self._from["S3Uri"]
        if self._from["S3DataType"] == "ManifestFile":
            first, *rest = storage.read_json(self.s3, uri)
            bucket, prefix = storage.split(first["prefix"])
            yield from (Source(bucket, prefix + path, path) for path in rest)
            return
        bucket, prefix = storage.split(uri)
        for shown in self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
            for item in shown.get("Contents", []):
                if not (key := item["Key"]).endswith("/"):  # the console's empty folder
                    inside = key.removeprefix(prefix)
                    folder = (
                        prefix
                        if prefix.endswith("/") or inside.startswith("/")
                        else prefix.rpartition("/")[0]
                    )
                    yield Source(bucket, key, key.removeprefix(folder).lstrip("/"))

    def _environment(self, model: Mapping[str, str]) -> dict[str, str]:
        """As "How SageMaker AI Runs Your Inference Image" (batch transform) lists it."""
        return {
            **model,
            **self.request.get("Environment", {}),
            "SAGEMAKER_BATCH": "true",
            "SAGEMAKER_MAX_PAYLOAD_IN_MB": str(self.request["MaxPayloadInMB"]),
            "SAGEMAKER_BATCH_STRATEGY": _constant(self.request["BatchStrategy"]),
            "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": str(self.request["MaxConcurrentTransforms"]),
        }

    def _instance(self, cloud: Cloud, model: Runnable, sources: Sequence[Source]) -> list[str]:
        """Transform one instance's objects, one after the other: the faults of those that failed."""
        if not sources:
            return []
        server = _Server(cloud, self.name, model)
        faults = []
        with contextlib.closing(server):
            for source in sources:
                try:
                    self._object(server, source)
                except _ObjectError as error:
                    for line in str(error).splitlines():
                        self._say(f"{source.bucket}/{source.key}: {line}")
                    faults.append(error.fault)
        return faults

    def _object(self, server: _Server, source: Source) -> None:
        body = self.s3.get_object(Bucket=source.bucket, Key=source.key)["Body"].read()
        try:
            if self.request["TransformInput"].get("CompressionType") == "Gzip":
                body = gzip.decompress(body)
            split = self.request["TransformInput"].get("SplitType", "None") == "Line"
            records = lines(body) if split else [body]
            sent = [self.processing.sent(record) for record in records]
            limit = self.request["MaxPayloadInMB"] * _MEBIBYTE
            single = split and self.request["BatchStrategy"] == "SingleRecord"
            requests = list(batches(sent, single=single, limit=limit))
            answers = side_by_side(
                lambda batch: self._answer(server, batch, split=split),
                requests,
                at_once=self.request["MaxConcurrentTransforms"],
                name="transform",
            )
            given, parts = iter(records), []
            for batch, answer in zip(requests, answers, strict=True):
                parts += self.processing.stored(list(itertools.islice(given, len(batch))), answer)
        except (TooLargeError, RecordError, gzip.BadGzipFile, EOFError) as error:
            raise _ObjectError("ClientError", str(error)) from None
        by_line = self.request["TransformOutput"].get("AssembleWith") == "Line"
        self._store(f"{source.target}.out", assemble(parts, by_line=by_line))

    def _answer(self, server: _Server, batch: list[bytes], *, split: bool) -> bytes:
        """What the model answers to one request, tried again if that may help."""
        given = (
            self.request["TransformInput"].get("ContentType"),
            self.request["TransformOutput"].get("Accept"),
        )
        headers = {
            name: value for name, value in zip(("Content-Type", "Accept"), given, strict=True) if value
        }
        body = payload(batch) if split else b"".join(batch)
        retries = self.request.get("ModelClientConfig", {}).get("InvocationsMaxRetries", _RETRIES)
        for attempt in range(retries + 1):
            if self.stop():
                raise StoppedError
            answer = server.ask(body, headers)
            if answer is None:
                if attempt < retries:
                    time.sleep(_PAUSE_SECONDS)
            elif answer.status < http.HTTPStatus.BAD_REQUEST:
                return answer.body
            elif answer.status < http.HTTPStatus.INTERNAL_SERVER_ERROR:
                text = answer.body.decode(errors="replace")
                raise _ObjectError("ClientError", f"ClientError: {answer.status}\nMessage:\n{text}")
        if answer is None:
            raise _ObjectError("AlgorithmError", "Unable to get response from algorithm")
        text = answer.body.decode(errors="replace")
        raise _ObjectError(
            "AlgorithmError", f"Bad HTTP status received from algorithm: {answer.status}\n{text}"
        )

    def _store(self, target: str, body: bytes) -> None:
        output = self.request["TransformOutput"]
        bucket, prefix = storage.split(output["S3OutputPath"])
        key_id = output.get("KmsKeyId")
        self.s3.put_object(
            Bucket=bucket,
            Key=f"{prefix.rstrip('/')}/{target}".lstrip("/"),
            Body=body,
            **({"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key_id} if key_id else {}),
        )

    def _say(self, line: str) -> None:
        at = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds").removesuffix("+00:00")
        self.log(f"{at}:[sagemaker logs]: {line}")


def _constant(strategy: str) -> str:
    """MultiRecord as containers and logs spell it: MULTI_RECORD."""
    return {"MultiRecord": "MULTI_RECORD", "SingleRecord": "SINGLE_RECORD"}[strategy]
