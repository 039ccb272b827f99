"""Heads of requests are read strictly, and answers are whole."""

from http import HTTPStatus

import pytest

from local.serving.messages import Answer, RequestError, parse, render


def head(*lines: str) -> bytes:
    return "\r\n".join(lines).encode("latin-1")


def test_a_head_is_read() -> None:
    read = parse(head("POST /invocations?x=1 HTTP/1.1", "Content-Type:\ttext/csv ", "content-length: 7"))
    assert (read.method, read.path, read.length, read.last, read.waits) == (
        "POST",
        "/invocations",
        7,
        False,
        False,
    )
    assert read.headers["content-type"] == "text/csv"


@pytest.mark.parametrize(
    ("version", "connection", "answered"),
    [
        ("HTTP/1.1", "keep-alive", "many"),
        ("HTTP/1.1", "Close", "one"),
        ("HTTP/1.0", "", "one"),
        ("HTTP/1.0", "Keep-Alive", "many"),
    ],
)
def test_the_client_says_how_many_requests_it_sends(version: str, connection: str, answered: str) -> None:
    read = parse(head(f"GET /ping {version}", f"Connection: {connection}"))
    assert read.last == (answered == "one")


@pytest.mark.parametrize(
    ("lines", "status"),
    [
        (["GET /ping"], 400),
        (["GET  /ping HTTP/1.1"], 400),
        (["GET /ping HTTP/2.0"], 505),
        (["PUT /ping HTTP/1.1"], 501),
        (["GET /ping HTTP/1.1", "no colon"], 400),
        (["GET /ping HTTP/1.1", ": nameless"], 400),
        (["GET /ping HTTP/1.1", "Content-Length : 3"], 400),
        (["GET /ping HTTP/1.1", "Accept: a", " folded"], 400),
        (["GET /ping HTTP/1.1", "Content-Length: 3", "Content-Length: 4"], 400),
        (["GET /ping HTTP/1.1", "Content-Length: +3"], 400),
        (["GET /ping HTTP/1.1", "Content-Length: "], 400),
        (["GET /ping HTTP/1.1", "Transfer-Encoding: chunked"], 411),
        (["POST /ping HTTP/1.1"], 411),
        (["POST /ping HTTP/1.1", "Content-Length: 6291457"], 413),
        (["GET /ping HTTP/1.1", *["A: b"] * 101], 431),
    ],
)
def test_a_head_that_could_be_read_in_two_ways_is_refused(lines: list[str], status: int) -> None:
    with pytest.raises(RequestError) as error:
        parse(head(*lines))
    assert error.value.status == status


def test_a_length_given_twice_and_alike_is_one() -> None:
    assert parse(head("POST / HTTP/1.1", "Content-Length: 3", "Content-Length: 3")).length == 3


def test_an_answer_names_its_length_and_when_to_come_back() -> None:
    assert render(Answer(HTTPStatus.OK, b"1\n2", "text/csv"), last=False) == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nContent-Length: 3\r\nConnection: keep-alive\r\n\r\n1\n2"
    )
    busy = Answer(HTTPStatus.SERVICE_UNAVAILABLE, b"", retry_after=4)
    assert b"\r\nRetry-After: 4\r\nConnection: close\r\n\r\n" in render(busy, last=True)
