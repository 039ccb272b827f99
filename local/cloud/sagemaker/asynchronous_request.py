"""One asynchronous request from its body in S3 to the answer there, and the message that tells of it.

Reading, writing and telling is done with the model's role. Sources: "Asynchronous inference" with "Check prediction
results" and "Alarms and logs for tracking metrics from asynchronous endpoints" (SageMaker AI Developer Guide).
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import http
import json
import threading
import time
import weakref
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local.cloud.place import REGION, Place
from local.cloud.sagemaker import measure
from local.cloud.sagemaker.fleet import Fleet
from local.cloud.sagemaker.instance import Answer, BrokenError, Instance
from local.cloud.sagemaker.store import Record
from local.runner import storage

# Bytes of an answer that a message may carry ("AsyncInferenceNotificationConfig", API Reference).
_TOLD = 128 * 1024


@dataclasses.dataclass
class Request:
    """What `InvokeEndpointAsync` accepted: `body`, or `location` in S3; `ttl` in seconds here, `timeout` in real ones.

    Places, key and topics are those of the configuration that was in service then: the caller was told them.
    """

    endpoint: str
    inference: str
    body: bytes | None
    location: str
    headers: Mapping[str, str]
    output: str
    failure: str
    ttl: float
    timeout: float
    config: Record
    received: dt.datetime = dataclasses.field(default_factory=lambda: dt.datetime.now(dt.UTC))
    since: float = dataclasses.field(default_factory=time.monotonic)
    tried: bool = False  # a connection broke before any answer

    @property
    def age(self) -> float:
        """Seconds since it was accepted."""
        return time.monotonic() - self.since


class FailedError(Exception):
    """A request that got no answer; the text is the message's `failureReason`, `answer` what the container said."""

    def __init__(self, reason: str, answer: Answer | None = None) -> None:
        super().__init__(reason)
        self.answer = answer


class Clients:
    """S3 and SNS with the role of a fleet's model: made once a fleet."""

    def __init__(self, place: Place) -> None:
        self._place, self._lock = place, threading.Lock()
        self._made: weakref.WeakKeyDictionary[Fleet, dict[str, Any]] = weakref.WeakKeyDictionary()

    def get(self, fleet: Fleet, service: str) -> Any:
        """The client of a service."""
        with self._lock:
            made = self._made.setdefault(fleet, {})
            if service not in made:
                made[service] = fleet.session.client(service, self._place)
            return made[service]


def process(request: Request, fleet: Fleet, instance: Instance, clients: Clients) -> None:
    """Carry it out on an instance. `BrokenError` if that one has not answered at all: it may be asked once more."""
    s3 = clients.get(fleet, "s3")
    values: measure.Values = {"TimeInBacklog": (request.age * 1e3, "Milliseconds")}
    answer: Answer | None = None
    reason = ""
    try:
        body = _download(request, s3, values)
        answer = _ask(request, instance, body, values)
        _upload(request, s3, request.output, answer, values)
    except FailedError as failed:
        answer, reason = failed.answer, str(failed)
        values["InvocationFailures"] = (1.0, "Count")
        if answer and request.failure:
            try:
                _upload(request, s3, request.failure, answer, values)
            except FailedError as lost:
                reason = f"{reason} {lost}"
    _tell(request, fleet, clients, answer, reason, values)
    values["InvocationsProcesssed"] = (1.0, "Count")  # the name has three s in the guide
    values["TotalProcessingTime"] = (request.age * 1e3, "Milliseconds")
    measure.publish(fleet, values)


def expire(request: Request, fleet: Fleet, clients: Clients) -> None:
    """It waited too long: nobody is asked, the error topic is told."""
    values: measure.Values = {"ExpiredRequests": (1.0, "Count")}
    _tell(
        request,
        fleet,
        clients,
        None,
        "ClientError: The request expired in the queue (RequestTTLSeconds).",
        values,
    )
    measure.publish(fleet, values)


def _download(request: Request, s3: Any, values: measure.Values) -> bytes:
    if request.body is not None:
        return request.body
    began = time.perf_counter()
    try:
        bucket, key = storage.split(request.location)
        body: bytes = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    except (ClientError, BotoCoreError, storage.StorageError) as error:
        values["RequestDownloadFailures"] = (1.0, "Count")
        raise FailedError(
            f"ClientError: Failed to download the request from {request.location}: {error}"
        ) from None
    values["RequestDownloadLatency"] = ((time.perf_counter() - began) * 1e6, "Microseconds")
    return body


def _ask(request: Request, instance: Instance, body: bytes, values: measure.Values) -> Answer:
    began, answer = time.perf_counter(), None
    try:
        answer = instance.post(body, request.headers, request.timeout)
    except BrokenError:
        instance.doubt()
        if not request.tried:
            raise
    except OSError:
        pass
    status = answer.status if answer else http.HTTPStatus.INTERNAL_SERVER_ERROR
    values |= {
        "ModelLatency": ((time.perf_counter() - began) * 1e6, "Microseconds"),
        "Invocation4XXErrors": (float(status // 100 == 4), "None"),
        "Invocation5XXErrors": (float(status // 100 == 5), "None"),
    }
    if answer is None:
        raise FailedError(
            f"InternalServerError: The model did not answer within {request.timeout:g} seconds (InvocationTimeoutSeconds), "
            "or broke the connection. See the SageMaker Endpoint logs in your account for more information."
        )
    if status >= http.HTTPStatus.BAD_REQUEST:
        side = "client" if status < http.HTTPStatus.INTERNAL_SERVER_ERROR else "server"
        raise FailedError(
            f"ClientError: Received {side} error ({status}) from model. See the SageMaker Endpoint logs in your account "
            "for more information.",
            answer,
        )
    return answer


def _upload(request: Request, s3: Any, location: str, answer: Answer, values: measure.Values) -> None:
    bucket, key = storage.split(location)
    wanted = {"Bucket": bucket, "Key": key, "Body": answer.body, "ContentType": answer.content_type}
    if encrypting := request.config["OutputConfig"].get("KmsKeyId"):
        wanted |= {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": encrypting}
    began = time.perf_counter()
    try:
        s3.put_object(**wanted)
    except (ClientError, BotoCoreError) as error:
        values["ResponseUploadFailures"] = (1.0, "Count")
        raise FailedError(f"ClientError: Failed to upload the response to {location}: {error}") from None
    values["ResponseUploadLatency"] = ((time.perf_counter() - began) * 1e6, "Microseconds")


def _tell(
    request: Request,
    fleet: Fleet,
    clients: Clients,
    answer: Answer | None,
    reason: str,
    values: measure.Values,
) -> None:
    """Publish the result, on the error topic if there is a `reason`."""
    wanted = request.config["OutputConfig"].get("NotificationConfig", {})
    topic = wanted.get("ErrorTopic" if reason else "SuccessTopic")
    if not topic:
        return
    included = f"{'ERROR' if reason else 'SUCCESS'}_NOTIFICATION_TOPIC" in wanted.get(
        "IncludeInferenceResponseIn", []
    )
    text = json.dumps(message(request, answer, reason, included=included))
    try:
        clients.get(fleet, "sns").publish(TopicArn=topic, Message=text)
    except (ClientError, BotoCoreError) as error:
        values["NotificationFailures"] = (1.0, "Count")
        print(f"{request.endpoint}: {request.inference}: not told to {topic}: {error}", flush=True)


def message(request: Request, answer: Answer | None, reason: str, *, included: bool) -> Record:
    """What a topic is told; with the answer itself if that is `included` and not larger than 128 KB.

    The guide shows no message with an answer in it: that `responseBody` is ours.
    """
    sent = {"contentType": request.headers.get("content-type"), "endpointName": request.endpoint}
    sent["inputLocation"] = request.location or None
    told: Record = {
        "awsRegion": REGION,
        "eventTime": _time(dt.datetime.now(dt.UTC)),
        "receivedTime": _time(request.received),
        "invocationStatus": "Failed" if reason else "Completed",
    }
    if reason:
        told["failureReason"] = reason
    told["requestParameters"] = {name: value for name, value in sent.items() if value}
    if answer:
        place = {"failureLocation": request.failure} if reason else {"outputLocation": request.output}
        told["responseParameters"] = {"contentType": answer.content_type, **place}
        if included and len(answer.body) <= _TOLD:
            content = base64.b64encode(answer.body).decode()
            told["responseBody"] = {"content": content, "encoding": "BASE64"}
    return told | {
        "inferenceId": request.inference,
        "eventVersion": "1.0",
        "eventSource": "aws:sagemaker",
        "eventName": "InferenceResult",
    }


def _time(moment: dt.datetime) -> str:
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
