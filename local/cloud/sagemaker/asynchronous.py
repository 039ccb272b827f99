"""InvokeEndpointAsync, and what an endpoint configuration may say for it."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from typing import Any

import botocore.session

from local.cloud import clock, protocol
from local.cloud.place import ACCOUNT
from local.cloud.sagemaker.asynchronous_request import Request
from local.cloud.sagemaker.endpoints import Endpoints, endpoint_arn
from local.cloud.sagemaker.invoke import InvokeError, Response
from local.cloud.sagemaker.store import Record

_TTL, _TIMEOUT = 21_600, 900  # seconds; the defaults of the API's own model
_PREFIX = "x-amzn-sagemaker-"
# To the container under these names, as a request of InvokeEndpoint has them.
_PASSED = {"ContentType": "content-type", "Accept": "accept"} | {
    "CustomAttributes": f"{_PREFIX}custom-attributes"
}


class AsyncRuntime:
    """Answers the path of one operation; every limit of a member comes from the API's own model."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints
        model = botocore.session.get_session().get_service_model("sagemaker-runtime")
        self._members: Mapping[str, Any] = model.operation_model("InvokeEndpointAsync").input_shape.members

    def invoke(self, caller: protocol.Caller, name: str, headers: Mapping[str, str], body: bytes) -> Response:
        """The request's place in the queue, or the API's error."""
        try:
            caller.authorize("sagemaker:InvokeEndpointAsync", endpoint_arn(name))
        except protocol.ApiError as denied:
            return InvokeError(denied.code, 403, str(denied)).response()
        try:
            request = self._request(name, headers, body)
        except InvokeError as error:
            return error.response()
        places = {"X-Amzn-SageMaker-OutputLocation": request.output}
        if request.failure:
            places["X-Amzn-SageMaker-FailureLocation"] = request.failure
        text = json.dumps({"InferenceId": request.inference}).encode()
        return 202, {"content-type": "application/json", **places}, text

    def _request(self, name: str, headers: Mapping[str, str], body: bytes) -> Request:
        given = self._members_of(headers)
        if bool(body) == ("InputLocation" in given):
            raise _invalid("Exactly one of Body and InputLocation must be given.")
        if len(body) > (limit := self._members["Body"].metadata["max"]):
            raise InvokeError("413", 413, f"HTTP content length exceeded {limit} bytes.")
        queue = self._endpoints.queue(name)
        if queue is None:
            if self._endpoints.routing(name):
                raise _invalid(
                    f"Endpoint {name} of account {ACCOUNT} is not asynchronous: use InvokeEndpoint."
                )
            raise _invalid(f"Endpoint {name} of account {ACCOUNT} not found.")
        config, generated = queue.config, str(uuid.uuid4())
        output = config["OutputConfig"]
        request = Request(
            endpoint=name,
            inference=given.get("InferenceId", generated),
            body=body or None,
            location=given.get("InputLocation", ""),
            headers={header: given[member] for member, header in _PASSED.items() if member in given},
            output=_place(output["S3OutputPath"], given, f"{generated}.out"),
            failure=_place(output.get("S3FailurePath", ""), given, f"{generated}-error.out"),
            ttl=clock.scaled(int(given.get("RequestTTLSeconds", _TTL))),
            timeout=float(given.get("InvocationTimeoutSeconds", _TIMEOUT)),
            config=config,
        )
        queue.put(request)
        return request

    def _members_of(self, headers: Mapping[str, str]) -> Record:
        """The members that travel as headers; `InvokeError` for a value that the API's model does not allow."""
        given: Record = {}
        for member, shape in self._members.items():
            value = headers.get(shape.serialization.get("name", "").lower())
            if shape.serialization.get("location") != "header" or value is None:
                continue
            if constraint := _broken(shape, value):
                key = member[0].lower() + member[1:]
                raise _invalid(
                    f"1 validation error detected: Value at '{key}' failed to satisfy constraint: {constraint}"
                )
            given[member] = value
        return given


def _broken(shape: Any, value: str) -> str | None:
    """The constraint of the API's model that a value breaks; the text of the value is not told, it may be secret."""
    least, most = shape.metadata.get("min", 0), shape.metadata.get("max")
    if shape.type_name == "integer":
        if not value.isdigit():
            return "Member must be a number"
        number, what = int(value), "value"
    else:
        number, what = len(value), "length"
    if number < least:
        return f"Member must have {what} greater than or equal to {least}"
    if most is not None and number > most:
        return f"Member must have {what} less than or equal to {most}"
    pattern = shape.metadata.get("pattern", "")
    if not value.isascii():
        return r"Member must satisfy regular expression pattern: \p{ASCII}*"
    if "s3)://" in pattern and not re.fullmatch(r"s3://[^/]+/.+", value):  # no https:// here
        return f"Member must satisfy regular expression pattern: {pattern}"
    return None


def _place(path: str, given: Record, generated: str) -> str:
    """Where an answer will lie; empty without a path."""
    if not path:
        return ""
    extension = given.get("S3OutputPathExtension", "").strip("/")
    return "/".join(part for part in (path.rstrip("/"), extension, given.get("Filename", generated)) if part)


def _invalid(message: str) -> InvokeError:
    return InvokeError("ValidationError", 400, message)
