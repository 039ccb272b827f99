"""A service that MiniStack lacks, from botocore's own model: requests are checked by it, answers are written by it.

An operation is a function `(caller, request) -> answer` on plain dictionaries in the API's own names. What no function
answers is an explicit "unsupported", never an empty success.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from collections.abc import Callable, Mapping
from typing import Any

import botocore.session

from local.cloud import roles, seams
from local.cloud.place import ACCOUNT, REGION
from local.runner import shapes

Operation = Callable[["Caller", dict[str, Any]], Mapping[str, Any] | None]

# What is served, by service (`make operations`).
OPERATIONS: dict[str, list[str]] = {}


class ApiError(Exception):
    """An error of the API: its code, its message, and the HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.status = code, status


@dataclasses.dataclass(frozen=True)
class Caller:
    """Who calls. The service checks each action itself, because only it knows the resource's ARN."""

    access_key_id: str

    def authorize(self, action: str, resource: str, context: Mapping[str, Any] | None = None) -> None:
        """Raise the API's AccessDeniedException unless the caller may do `action` on `resource`."""
        try:
            roles.authorize(self.access_key_id, action, resource, context)
        except roles.AccessDeniedError as denied:
            raise ApiError("AccessDeniedException", str(denied)) from None

    def pass_role(self, role_arn: str, service: str) -> None:
        """Raise unless the caller may pass `role_arn` to `service` (such as "sagemaker.amazonaws.com")."""
        self.authorize("iam:PassRole", role_arn, {"iam:PassedToService": service})


def register(service: str, target_prefix: str, operations: Mapping[str, Operation]) -> None:
    """Serve a JSON API by these operations; every call runs on a thread of its own, so it may wait."""
    model = botocore.session.get_session().get_service_model(service)
    OPERATIONS[service] = sorted(operations)

    def answer(name: str, caller: Caller, body: bytes) -> tuple[int, dict[str, str], bytes]:
        try:
            return 200, dict(_HEADERS), _encode(_call(model, operations, name, caller, _decode(body)))
        except ApiError as error:
            status: int
            headers: dict[str, str]
            text: bytes
            status, headers, text = seams.responses.error_response_json(error.code, str(error), error.status)
            return status, headers, text

    async def handle(
        _method: str, _path: str, headers: dict[str, str], body: bytes, query: dict[str, list[str]]
    ) -> tuple[int, dict[str, str], bytes]:
        name = headers.get("x-amz-target", "").rpartition(".")[2]
        caller = Caller(seams.router.extract_access_key_id(headers, query) or "")
        result: tuple[int, dict[str, str], bytes] = await seams.concurrency.run_reentrant(
            answer, name, caller, body, thread_name=f"{service}.{name}"
        )
        return result

    seams.service(service, target_prefix, handle)


def arn(service: str, resource: str) -> str:
    """The ARN of a resource of this cloud."""
    return f"arn:aws:{service}:{REGION}:{ACCOUNT}:{resource}"


# Copied for each answer: MiniStack adds to it.
_HEADERS = {"Content-Type": "application/x-amz-json-1.1"}


def _call(
    model: Any, operations: Mapping[str, Operation], name: str, caller: Caller, request: dict[str, Any]
) -> Mapping[str, Any]:
    if name not in model.operation_names:
        raise ApiError(
            "UnknownOperationException", f"{model.service_name} has no operation {name or '(none)'}."
        )
    if name not in operations:
        raise ApiError("UnsupportedOperation", f"{name} is unsupported in the embedded cloud.", 501)
    wanted = model.operation_model(name).input_shape
    if wanted and (found := list(shapes.violations(wanted, request))):
        raise ApiError("ValidationException", shapes.api_message(found))
    return operations[name](caller, request) or {}


def _decode(body: bytes) -> dict[str, Any]:
    try:
        request = json.loads(body or b"{}")
    except ValueError as error:
        raise ApiError("SerializationException", f"The request is not JSON: {error}.") from None
    if not isinstance(request, dict):
        raise ApiError("SerializationException", "The request is not a JSON object.")
    return request


def _encode(answer: Mapping[str, Any]) -> bytes:
    return json.dumps(
        {key: value for key, value in answer.items() if value is not None}, default=_plain
    ).encode()


def _plain(value: object) -> object:
    if isinstance(value, dt.datetime):
        return value.timestamp()  # timestamps travel as epoch seconds in the JSON protocols
    raise TypeError(f"{value!r} is not JSON")
