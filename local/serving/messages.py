"""HTTP/1.1 as bytes: a request's head read, an answer written. Pure, and no more of HTTP than the contract needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

# InvokeEndpoint's limit, in bytes ("Body", API_runtime_InvokeEndpoint).
BODY_LIMIT = 6_291_456
HEAD_LIMIT = 65_536
HEADERS = 100
JSON = "application/json"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_START = {status: f"HTTP/1.1 {status.value} {status.phrase}\r\n" for status in HTTPStatus}


class RequestError(Exception):
    """A request that the server itself refuses, with an HTTP status and a reason."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@dataclass(frozen=True, slots=True)
class Head:
    """A request without its body: header names in lower case, `length` of the body in bytes."""

    method: str
    path: str
    headers: Mapping[str, str]
    length: int
    # The client takes no second answer on this connection.
    last: bool
    # The client sends its body only when it is asked to (Expect: 100-continue).
    waits: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as the client gets it; `retry_after` is whole seconds."""

    status: HTTPStatus
    body: bytes
    type: str = JSON
    retry_after: int | None = None


def refusal(status: HTTPStatus, reason: str, *, retry_after: int | None = None) -> Answer:
    """An answer that says why there is no prediction: `{"error": reason}`."""
    return Answer(status, json.dumps({"error": reason}).encode(), JSON, retry_after)


def parse(raw: bytes) -> Head:
    """The head of a request, given without the empty line that ends it; `RequestError` says what is wrong with it."""
    line, *fields = raw.decode("latin-1").split("\r\n")
    try:
        method, target, version = line.split(" ")
    except ValueError:
        raise RequestError(
            HTTPStatus.BAD_REQUEST, f"request line {line[:50]!r}: must be METHOD PATH HTTP/1.1."
        ) from None
    if version not in {"HTTP/1.1", "HTTP/1.0"}:
        raise RequestError(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, f"{version[:20]}: send HTTP/1.1.")
    headers = _headers(fields)
    if method not in {"GET", "POST"}:
        raise RequestError(HTTPStatus.NOT_IMPLEMENTED, f"{method[:20]}: there are only GET and POST.")
    connection = headers.get("connection", "").lower()
    return Head(
        method=method,
        path=target.partition("?")[0],
        headers=headers,
        length=_length(method, headers),
        last=connection == "close" or (version == "HTTP/1.0" and connection != "keep-alive"),
        waits=headers.get("expect", "").lower() == "100-continue",
    )


def render(answer: Answer, *, last: bool) -> bytes:
    """The bytes of an answer; `last` tells the client that the connection ends with it."""
    retry = "" if answer.retry_after is None else f"Retry-After: {answer.retry_after}\r\n"
    connection = "close" if last else "keep-alive"
    head = (
        f"{_START[answer.status]}Content-Type: {answer.type}\r\nContent-Length: {len(answer.body)}\r\n"
        f"{retry}Connection: {connection}\r\n\r\n"
    )
    return head.encode("latin-1") + answer.body


def _headers(fields: list[str]) -> dict[str, str]:
    if len(fields) > HEADERS:
        reason = f"{len(fields)} headers; the limit is {HEADERS}."
        raise RequestError(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, reason)
    headers: dict[str, str] = {}
    for field in fields:
        name, colon, value = field.partition(":")
        # A name beside white space could be read as another header by what stands before this server.
        if not colon or not name or name != name.strip():
            raise RequestError(HTTPStatus.BAD_REQUEST, f"header {field[:50]!r}: must be Name: value.")
        name, value = name.lower(), value.strip(" \t")
        if name in headers and (name != "content-length" or headers[name] != value):
            value = f"{headers[name]}, {value}"
        headers[name] = value
    return headers


def _length(method: str, headers: Mapping[str, str]) -> int:
    """The announced length of the body in bytes; `RequestError` if there is none or it is above the limit."""
    if "transfer-encoding" in headers:
        raise RequestError(HTTPStatus.LENGTH_REQUIRED, "a chunked body is not taken: send Content-Length.")
    text = headers.get("content-length", "0" if method == "GET" else None)
    if text is None:
        raise RequestError(HTTPStatus.LENGTH_REQUIRED, "no Content-Length header.")
    if not (text.isascii() and text.isdigit()):
        raise RequestError(HTTPStatus.BAD_REQUEST, f"Content-Length = {text[:50]}: must be a whole number.")
    # Python refuses to convert thousands of digits: their number tells enough.
    if len(text.lstrip("0")) > len(str(BODY_LIMIT)) or int(text) > BODY_LIMIT:
        reason = f"the body is {text[:20]} bytes; the limit is {BODY_LIMIT:,}. Send fewer records a request."
        raise RequestError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, reason)
    return int(text)
