"""inference.py under two servers: AWS's own code (sagemaker-containers, which the XGBoost image runs), and ours."""

import csv
import http.client
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest

from local import endpoint
from pipeline import inference

SERVER = Path(__file__).with_name("aws_server.py")


class Answer(NamedTuple):
    """As a client gets it; `headers` are their names in lower case."""

    status: int
    type: str
    body: str
    headers: list[str]


class Server(Protocol):
    """What both servers are asked by."""

    def ask(
        self, body: bytes | str, method: str = "POST", path: str = "/invocations", **headers: str
    ) -> Answer: ...


class AwsServer:
    """A client of the process that runs AWS's code."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def ask(
        self, body: bytes | str, method: str = "POST", path: str = "/invocations", **headers: str
    ) -> Answer:
        content = body.encode() if isinstance(body, str) else body
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        line = json.dumps({"method": method, "path": path, "body": content.hex(), "headers": named})
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        for answer in self._process.stdout:
            if answer.startswith("answer:"):
                return Answer(**json.loads(answer.removeprefix("answer:")))
        raise AssertionError("the server ended; its trace is on standard error")


class OurServer:
    """A client of the process that runs ours."""

    def __init__(self, url: str) -> None:
        self._address = url.removeprefix("http://")

    def ask(
        self, body: bytes | str, method: str = "POST", path: str = "/invocations", **headers: str
    ) -> Answer:
        connection = http.client.HTTPConnection(self._address, timeout=60)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body.encode() if isinstance(body, str) else body, named)
        response = connection.getresponse()
        names = sorted(name.lower() for name in response.headers)
        answer = Answer(response.status, response.headers["Content-Type"], response.read().decode(), names)
        connection.close()
        return answer


@pytest.fixture(scope="module", params=["AWS's", "ours"])
def server(
    request: pytest.FixtureRequest, xgboost_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    if request.param == "ours":
        with endpoint.start(xgboost_model, environment={}) as running:
            yield OurServer(running.url)
        return
    base = tmp_path_factory.mktemp("container")
    shutil.copytree(xgboost_model, base / "model")
    command = [sys.executable, str(SERVER), str(base), str(base / "model" / "code")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=base
    ) as process:
        yield AwsServer(process)
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(scope="module")
def expected(xgboost_model: Path, request_record: dict[str, Any]) -> dict[str, Any]:
    """What the same functions answer when called directly."""
    model = inference.model_fn(str(xgboost_model))
    request = inference.input_fn(json.dumps(request_record), inference.JSON)
    answer: dict[str, Any] = json.loads(
        inference.output_fn(inference.predict_fn(request, model), inference.JSON)[0]
    )
    return answer


def test_ping_is_healthy(server: Server) -> None:
    assert server.ask(b"", "GET", "/ping").status == 200


def test_json_is_answered_as_the_functions_answer_it(
    server: Server, request_record: dict[str, Any], expected: dict[str, Any]
) -> None:
    for body in (request_record, [request_record], {"instances": [request_record]}):
        answer = server.ask(json.dumps(body), Content_Type="application/json")
        assert (answer.status, answer.type) == (200, "application/json")
        assert json.loads(answer.body) == expected


def test_a_content_type_with_charset_and_none_at_all_are_json(
    server: Server, request_record: dict[str, Any], expected: dict[str, Any]
) -> None:
    body = json.dumps(request_record)
    assert json.loads(server.ask(body, Content_Type="application/json; charset=utf-8").body) == expected
    assert json.loads(server.ask(body).body) == expected


def test_csv_is_answered_as_csv(
    server: Server, request_record: dict[str, Any], expected: dict[str, Any]
) -> None:
    body = ",".join("" if value is None else str(value) for value in request_record.values())
    answer = server.ask(body, Content_Type="text/csv", Accept="text/csv")
    assert (answer.status, answer.type.partition(";")[0]) == (200, "text/csv")
    (prediction,) = expected["predictions"]
    assert answer.body == f"{prediction['score']},{prediction['label']}"


@pytest.mark.parametrize(
    ("body", "headers", "status", "reason"),
    [
        ("", {}, 400, "malformed JSON"),
        ("", {"Content_Type": "text/csv"}, 400, "no record"),
        ("{", {}, 400, "malformed JSON"),
        ("[]", {}, 400, "no record"),
        ('{"altitude": 1}', {}, 400, "unknown column"),
        ("{}", {}, 400, "carrier is missing or null"),
        ("a;b", {"Content_Type": "text/csv"}, 400, "1 values; expected 18"),
        (b"\xff", {"Content_Type": "application/json; charset=utf-8"}, 400, "not UTF-8"),
        (
            "AA,LGA,DFW,,2013-11-07T12:00:00Z," + "9" * 400 + ",5,955,1389" + "," * 9,
            {"Content_Type": "text/csv"},
            400,
            "column hour = ",
        ),
        ("{}", {"Content_Type": "application/x-npy"}, 415, "send application/json or text/csv"),
        (b'{"carrier": "\xd6"}', {"Content_Type": "application/json"}, 400, "not UTF-8 at character 13"),
        ("\xd6,LGA".encode("latin-1"), {"Content_Type": "text/csv"}, 400, "not UTF-8 at character 0"),
        (b" " * (inference.MAX_BODY_BYTES + 1), {}, 413, "the limit is 6"),
        ("[" + "{}," * inference.DEFAULT_MAX_RECORDS + "{}]", {}, 413, "10001 records; the limit is 10000"),
    ],
)
def test_a_clients_fault_comes_out_as_4xx_with_its_reason(
    server: Server, body: str | bytes, headers: dict[str, str], status: int, reason: str
) -> None:
    answer = server.ask(body, **headers)
    assert (answer.status, answer.type) == (status, "application/json")
    assert reason in json.loads(answer.body)["error"]


@pytest.mark.parametrize("charset", ["", "; charset=utf-8"])
def test_a_byte_order_mark_is_no_part_of_the_request(
    server: Server, request_record: dict[str, Any], expected: dict[str, Any], charset: str
) -> None:
    lines = io.StringIO()
    csv.writer(lines).writerows([request_record, request_record.values()])
    for body, kind in ((json.dumps(request_record), "application/json"), (lines.getvalue(), "text/csv")):
        answer = server.ask("\ufeff" + body, Content_Type=kind + charset, Accept="application/json")
        assert (answer.status, json.loads(answer.body)) == (200, expected)


def test_an_accept_that_we_do_not_have_is_406(server: Server, request_record: dict[str, Any]) -> None:
    answer = server.ask(json.dumps(request_record), Content_Type="application/json", Accept="image/png")
    assert answer.status == 406
    assert "can answer" in json.loads(answer.body)["error"]


@pytest.mark.parametrize(
    ("accept", "type_"),
    [
        ("text/csv, application/json;q=0.9", "text/csv"),
        ("image/png, application/json", "application/json"),
        ("application/*", "application/json"),
        ("*/*", "application/json"),
        ("", "application/json"),
    ],
)
def test_of_several_accepted_types_the_first_that_we_have_is_answered(
    server: Server, request_record: dict[str, Any], accept: str, type_: str
) -> None:
    answer = server.ask(json.dumps(request_record), Content_Type="application/json", Accept=accept)
    assert (answer.status, answer.type.partition(";")[0]) == (200, type_)


def test_as_many_records_as_one_request_may_carry_are_all_answered(
    server: Server, request_record: dict[str, Any], expected: dict[str, Any]
) -> None:
    records = [request_record] * inference.DEFAULT_MAX_RECORDS
    answer = server.ask(json.dumps(records), Content_Type="application/json")
    assert answer.status == 200
    assert json.loads(answer.body)["predictions"] == expected["predictions"] * inference.DEFAULT_MAX_RECORDS


def test_a_category_that_training_never_saw_is_answered(
    server: Server, request_record: dict[str, Any]
) -> None:
    unseen = request_record | {"carrier": "never seen"}
    answer = server.ask(json.dumps(unseen), Content_Type="application/json")
    assert answer.status == 200
    (prediction,) = json.loads(answer.body)["predictions"]
    assert 0 <= prediction["score"] <= 1


def test_custom_attributes_change_no_answer_and_are_not_sent_back(
    server: Server, request_record: dict[str, Any], expected: dict[str, Any]
) -> None:
    answer = server.ask(
        json.dumps(request_record),
        Content_Type="application/json",
        X_Amzn_SageMaker_Custom_Attributes="trace=1",
    )
    assert (answer.status, json.loads(answer.body)) == (200, expected)
    assert not [name for name in answer.headers if name.startswith("x-amzn")]


def test_it_answers_on_after_refusals(
    server: Server, request_record: dict[str, Any], expected: dict[str, Any]
) -> None:
    for _ in range(3):
        assert server.ask("{").status == 400
    assert server.ask("", "GET", "/ping").status == 200
    assert json.loads(server.ask(json.dumps(request_record)).body) == expected
