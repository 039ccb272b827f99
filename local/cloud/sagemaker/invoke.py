"""InvokeEndpoint: one request to one of the endpoint's fleets, its errors, its metrics, its capture."""

from __future__ import annotations

import dataclasses
import http
import time
from collections.abc import Mapping
from typing import Any

import botocore.session

from local.cloud import protocol, seams
from local.cloud.place import ACCOUNT, REGION
from local.cloud.sagemaker import measure, router
from local.cloud.sagemaker.endpoints import Endpoints, endpoint_arn
from local.cloud.sagemaker.fleet import Fleet
from local.cloud.sagemaker.instance import Answer
from local.cloud.sagemaker.serverless import BODY_BYTES, ThrottledError

Response = tuple[int, dict[str, str], bytes]

_PREFIX = "x-amzn-sagemaker-"
_UNSUPPORTED = ("target-model", "target-container-hostname", "inference-component", "session-id")
_ATTRIBUTES = 1024  # characters of ASCII ("CustomAttributes", API_runtime_InvokeEndpoint)
# Passed to the container as they come ("Custom Inference Code with Hosting Services").
_PASSED = ("content-type", "accept", f"{_PREFIX}custom-attributes")


@dataclasses.dataclass
class InvokeError(Exception):
    """An error of the runtime API: its code, HTTP status, message, and the members that a model error adds."""

    code: str
    status: int
    message: str
    members: dict[str, Any] = dataclasses.field(default_factory=dict)

    def response(self) -> Response:
        """As it travels."""
        status: int
        headers: dict[str, str]
        body: bytes
        status, headers, body = seams.responses.error_response_json(
            self.code,
            self.message,
            self.status,
            self.members,
            message_key="Message",
            content_type="application/json",
        )
        return status, headers, body


class Runtime:
    """Answers the path of one operation; the API's limit of a body comes from its own model."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        model = botocore.session.get_session().get_service_model("sagemaker-runtime")
        self._limit: int = model.operation_model("InvokeEndpoint").input_shape.members["Body"].metadata["max"]

    def invoke(self, caller: protocol.Caller, name: str, headers: Mapping[str, str], body: bytes) -> Response:
        """One prediction, or the API's error."""
        started = time.perf_counter()
        try:
            target = self._allowed(caller, name, headers, body)
            passed = {header: headers[header] for header in _PASSED if header in headers}
            reply = router.ask(lambda: self._endpoints.routing(name), body, passed, target)
        except InvokeError as error:
            return error.response()
        except ThrottledError:
            # No metric: its page counts what the model answered. Code and status: "Common Errors" of the runtime's API.
            message = "The request was denied due to request throttling."
            return InvokeError("ThrottlingException", 400, message).response()
        except router.NobodyError as nobody:
            measure.unanswered(nobody.fleet)
            return InvokeError("ServiceUnavailable", 503, str(nobody)).response()
        answer = reply.answer
        if answer is not None and answer.status < http.HTTPStatus.BAD_REQUEST:
            response = self._answered(reply.fleet, headers, body, answer)
        else:
            response = _model_error(reply.fleet, answer).response()
        measure.measure(reply, time.perf_counter() - started - reply.seconds)
        if reply.fleet.mirror:
            reply.fleet.mirror.offer(reply.fleet.weight, body, headers, passed)
        return response

    def _allowed(
        self, caller: protocol.Caller, name: str, headers: Mapping[str, str], body: bytes
    ) -> str | None:
        """The variant that the request asks for, None for any; `InvokeError` if the request may not pass."""
        try:
            caller.authorize("sagemaker:InvokeEndpoint", endpoint_arn(name))
        except protocol.ApiError as denied:
            raise InvokeError(denied.code, 403, str(denied)) from None
        _check_length(body, self._limit)
        for header in _UNSUPPORTED:
            if f"{_PREFIX}{header}" in headers:
                raise InvokeError(
                    "ValidationError", 400, f"{_PREFIX}{header} is unsupported in the embedded cloud."
                )
        _check_attributes(headers.get(f"{_PREFIX}custom-attributes", ""))
        routing = self._endpoints.routing(name)
        if not routing:
            raise InvokeError("ValidationError", 400, f"Endpoint {name} of account {ACCOUNT} not found.")
        if routing[0].fleet.on_demand:
            _check_length(body, BODY_BYTES)
        if self._endpoints.queue(name):
            raise InvokeError(
                "ValidationError",
                400,
                f"Endpoint {name} of account {ACCOUNT} is asynchronous: use InvokeEndpointAsync.",
            )
        target = headers.get(f"{_PREFIX}target-variant")
        if target and target not in {share.fleet.variant.name for share in routing}:
            raise InvokeError("ValidationError", 400, f"Variant {target} not found for endpoint {name}.")
        return target

    @staticmethod
    def _answered(fleet: Fleet, headers: Mapping[str, str], body: bytes, answer: Answer) -> Response:
        if fleet.capture:
            fleet.capture.keep(headers, body, answer)
        more = {"X-Amzn-SageMaker-Custom-Attributes": answer.attributes} if answer.attributes else {}
        variant = {"x-Amzn-Invoked-Production-Variant": fleet.variant.name}
        # In lower case, or MiniStack would make a JSON answer's type that of the SageMaker API.
        return 200, {"content-type": answer.content_type, **variant, **more}, answer.body


def _check_length(body: bytes, limit: int) -> None:
    if len(body) > limit:
        raise InvokeError("413", 413, f"HTTP content length exceeded {limit} bytes.")


def _check_attributes(given: str) -> None:
    """Raise unless `CustomAttributes` are what the API's model allows; their text is not told, it may be secret."""
    if len(given) > _ATTRIBUTES:
        constraint = f"Member must have length less than or equal to {_ATTRIBUTES}"
    elif not given.isascii():
        constraint = r"Member must satisfy regular expression pattern: \p{ASCII}*"
    else:
        return
    message = (
        f"1 validation error detected: Value at 'customAttributes' failed to satisfy constraint: {constraint}"
    )
    raise InvokeError("ValidationError", 400, message)


def _model_error(fleet: Fleet, answer: Answer | None) -> InvokeError:
    if answer is None:
        status, text = (
            0,
            (
                "Your invocation timed out while waiting for a response from container primary. Review the latency "
                "metrics for each container in Amazon CloudWatch, resolve the issue, and try again."
            ),
        )
    else:
        status, text = answer.status, answer.body.decode(errors="replace")
    client = http.HTTPStatus.BAD_REQUEST <= status < http.HTTPStatus.INTERNAL_SERVER_ERROR
    logs = f"https://{REGION}.console.aws.amazon.com/cloudwatch/home?region={REGION}#logEventViewer:group={fleet.log_group}"
    message = (
        f'Received {"client" if client else "server"} error ({status}) from primary with message "{text}". '
        f"See {logs} in account {ACCOUNT} for more information."
    )
    members = {
        "OriginalStatusCode": status,
        "OriginalMessage": text,
        "LogStreamArn": f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{fleet.log_group}",
    }
    return InvokeError("ModelError", 424, message, members)
