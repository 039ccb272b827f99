"""Batch transform's API: what a job may ask, how it is created, listed, told about, and how it ended.

Sources: "Use Batch Transform" (SageMaker AI Developer Guide), `CreateTransformJob` (API Reference).
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

from botocore.exceptions import ClientError

from local.cloud import events, logs, roles
from local.cloud.extensions import Cloud
from local.cloud.protocol import ApiError, Caller, Operation
from local.cloud.sagemaker import models
from local.cloud.sagemaker.fleet import FleetError
from local.cloud.sagemaker.jobs import Jobs, Kind
from local.cloud.sagemaker.jsonpath import Path, PathError
from local.cloud.sagemaker.split import FORMATS, Processing
from local.cloud.sagemaker.store import Record, Store, authorize_volume_key, invalid, iso, now, only, page
from local.cloud.sagemaker.transform_run import LOG_GROUP, Run, StoppedError
from local.runner import storage

KIND = Kind("TransformJob", "transform-job")
_KNOWN = (
    *("TransformJobName", "ModelName", "MaxConcurrentTransforms", "ModelClientConfig", "MaxPayloadInMB"),
    *("BatchStrategy", "Environment", "TransformInput", "TransformOutput", "TransformResources"),
    "DataProcessing",
)
# Values of an enumeration that are not implemented here, by the member.
_UNSUPPORTED = {
    "SplitType": {"RecordIO", "TFRecord"},
    "S3DataType": {"AugmentedManifestFile", "Converse"},
}
_INSTANCES = 10  # each is a process on this machine
_LIMIT_MB = 100
_LISTED = (
    *("TransformJobName", "TransformJobArn", "CreationTime", "TransformEndTime", "LastModifiedTime"),
    *("TransformJobStatus", "FailureReason"),
)


def operations(cloud: Cloud, store: Store) -> dict[str, Operation]:
    """Create, Describe, Stop and List."""
    transform = _Transform(cloud, store)
    return {**Jobs(cloud, store, transform).operations(), "ListTransformJobs": transform.listed}


class _Transform:
    """The performer of transform jobs; all they read and write they do as the model's role."""

    kind = KIND

    def __init__(self, cloud: Cloud, store: Store) -> None:
        self._cloud, self._store = cloud, store

    def admit(self, caller: Caller, request: Record) -> Record:
        models.model(self._store, request["ModelName"])
        authorize_volume_key(caller, request["TransformResources"].get("VolumeKmsKeyId", ""))
        return checked(request)

    def perform(self, name: str, record: Record, stop: Callable[[], bool]) -> Record:
        try:
            runnable = models.runnable(self._store, models.model(self._store, record["ModelName"]))
            session = roles.assume(runnable.role, "sagemaker", "SageMaker")
        except (ApiError, roles.AccessDeniedError) as error:
            return _ended("Failed", f"ClientError: {error}")
        stream = f"{name}/i-{uuid.uuid4().hex[:17]}-{int(time.time())}/data-log"
        log = logs.Stream(session, self._cloud.place, LOG_GROUP, stream)
        s3 = session.client("s3", self._cloud.place)
        try:
            failed = Run(name, record, processing(record), s3, log.write, stop).through(self._cloud, runnable)
        except StoppedError:
            return _ended("Stopped")
        except (FleetError, storage.StorageError, ClientError) as error:
            log.write(str(error))
            return _ended("Failed", f"ClientError: {error}")
        finally:
            log.close()
            s3.close()
        # "A transform job creates a log file, which includes error messages" (DescribeTransformJob).
        return (
            _ended("Failed", f"{failed}: See job logs for more information")
            if failed
            else _ended("Completed")
        )

    def changed(self, resource: str) -> None:
        """The event "SageMaker Transform Job State Change", in the shape of the SageMaker AI Developer Guide."""
        if record := self._store.find(resource):
            detail = iso(record) | {"Tags": self._store.tags(resource)}
            events.emit("aws.sagemaker", "SageMaker Transform Job State Change", detail, [resource])

    def listed(self, caller: Caller, request: Record) -> Record:
        """One page of jobs; ten unless asked otherwise."""
        caller.authorize("sagemaker:ListTransformJobs", "*")
        named, status = request.get("NameContains", ""), request.get("StatusEquals")
        found = [
            it
            for it in self._store.all(KIND.resource).values()
            if named in it["TransformJobName"] and status in {None, it[KIND.status]}
        ]
        shown, token = page(
            found, {"MaxResults": 10, **request}, order="Descending", supported=("StatusEquals",)
        )
        summaries = [{name: it[name] for name in _LISTED if name in it} for it in shown]
        return {"TransformJobSummaries": summaries, "NextToken": token}


def checked(request: Record) -> Record:
    """The request with AWS's defaults; `ApiError` for what AWS refuses, and for what is not implemented here."""
    only(request, _KNOWN)
    if "InvocationsTimeoutInSeconds" in request.get("ModelClientConfig", {}):
        raise _unsupported("ModelClientConfig.InvocationsTimeoutInSeconds")
    given = request["TransformInput"]
    for name, value in {**given, **given["DataSource"]["S3DataSource"]}.items():
        if name in _UNSUPPORTED and value in _UNSUPPORTED[name]:
            raise _unsupported(f"{name} {value}")
    instances = request["TransformResources"]["InstanceCount"]
    if instances > _INSTANCES:
        raise invalid(
            f"InstanceCount {instances}: more than {_INSTANCES} are unsupported in the embedded cloud."
        )
    record = {"MaxPayloadInMB": 6, "BatchStrategy": "MultiRecord", **request}
    record["MaxConcurrentTransforms"] = request.get("MaxConcurrentTransforms") or 1
    payload = record["MaxPayloadInMB"]
    if payload == 0:
        raise _unsupported("MaxPayloadInMB 0 (HTTP chunked encoding)")
    if payload * record["MaxConcurrentTransforms"] > _LIMIT_MB:
        raise invalid(
            f"MaxConcurrentTransforms ({record['MaxConcurrentTransforms']}) * MaxPayloadInMB ({payload}) must not "
            f"exceed {_LIMIT_MB} MB."
        )
    processing(record)
    return record


def processing(record: Record) -> Processing:
    """`DataProcessing` as it is applied; `ApiError` unless it fits the formats and the way records are split."""
    asked = record.get("DataProcessing", {})
    content, accept = record["TransformInput"].get("ContentType"), record["TransformOutput"].get("Accept")
    try:
        filters = {name: Path(asked.get(name) or "$") for name in ("InputFilter", "OutputFilter")}
    except PathError as error:
        raise invalid(str(error)) from None
    join = asked.get("JoinSource") == "Input"
    rules = Processing(FORMATS.get(_plain(content)), filters["InputFilter"], filters["OutputFilter"], join)
    if not rules.by_record and rules.input_filter.whole:
        return rules
    if rules.format is None or (rules.by_record and _plain(accept) != _plain(content)):
        raise invalid(
            f"DataProcessing needs ContentType and Accept to be the same of {', '.join(FORMATS)}; they are {content} "
            f"and {accept}."
        )
    if rules.format == "csv":
        ways = record["TransformInput"].get("SplitType"), record["TransformOutput"].get("AssembleWith")
        if ways != ("Line", "Line"):
            raise invalid("DataProcessing of text/csv needs SplitType and AssembleWith to be Line.")
        for name, path in filters.items():
            if not path.by_index:
                raise invalid(
                    f"{name} {path.wanted}: only indexes can be applied to text/csv, such as $[1:]."
                )
    return rules


def _plain(content_type: str | None) -> str:
    return (content_type or "").partition(";")[0].strip().lower()


def _unsupported(what: str) -> ApiError:
    return invalid(f"{what} is unsupported in the embedded cloud.")


def _ended(status: str, reason: str = "") -> dict[str, Any]:
    failure = {"FailureReason": reason[:1024]} if reason else {}
    return {KIND.status: status, "TransformEndTime": now(), **failure}
