"""The local model server keeps the container contract, refuses what the contract refuses, and stops cleanly."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from local import server as serving

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json, time

class Refused(ValueError):
    def __init__(self, status, reason):
        super().__init__(reason)
        self.status = status

def model_fn(directory):
    with open(directory + "/factor.json") as file:
        return json.load(file)

def input_fn(body, content_type):
    if content_type == "text/csv":
        assert isinstance(body, str)
        return [float(line) for line in body.splitlines()]
    if content_type != "application/json":
        raise Refused(415, f"Content-Type {content_type}: send application/json or text/csv.")
    try:
        return [float(x) for x in json.loads(body)]
    except json.JSONDecodeError as error:
        raise Refused(400, f"not JSON: {error.msg}") from error

def predict_fn(data, model):
    time.sleep(model.get("seconds", 0))
    return [x * model["factor"] for x in data]

def output_fn(prediction, accept):
    if accept == "text/csv":
        return "\\n".join(str(x) for x in prediction), accept
    return json.dumps({"predictions": prediction}), "application/json"
"""

Answer = tuple[int, dict[str, str], Any]


@pytest.fixture
def make_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A model directory whose model multiplies by `factor`; what importing it changes is undone."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "inference", raising=False)

    def make(*, program: str = PROGRAM, **model: float) -> Path:
        (tmp_path / "code").mkdir(exist_ok=True)
        (tmp_path / "code" / "inference.py").write_text(program)
        (tmp_path / "factor.json").write_text(json.dumps({"factor": 2, **model}))
        return tmp_path

    yield make
    sys.modules.pop("inference", None)


@pytest.fixture
def start() -> Iterator[Callable[..., serving.Server]]:
    running: list[tuple[serving.Server, threading.Thread]] = []

    def run(model: Path, *, probe: bytes | None = None) -> serving.Server:
        server = serving.Server(serving.load(model, {}), probe=probe)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        running.append((server, thread))
        return server

    yield run
    for server, thread in running:
        server.stop()
        thread.join(10)


def ask(
    server: serving.Server,
    body: bytes | str = "[1, 2]",
    *,
    path: str = "/invocations",
    method: str = "POST",
    **headers: str,
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    try:
        return exchange(connection, body, path=path, method=method, **headers)
    finally:
        connection.close()


def exchange(
    connection: http.client.HTTPConnection,
    body: bytes | str,
    *,
    path: str = "/invocations",
    method: str = "POST",
    **headers: str,
) -> Answer:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body=body or None, headers=names)
    response = connection.getresponse()
    raw = response.read()
    kind = response.headers.get("Content-Type", "")
    return (
        response.status,
        dict(response.headers),
        json.loads(raw) if kind == "application/json" and raw else raw,
    )


def raw_exchange(server: serving.Server, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        answer = b""
        while more := connection.recv(65536):
            answer += more
        return answer


def test_server_predicts_json_and_csv_and_answers_in_the_accepted_type(make_model, start) -> None:
    server = start(make_model())
    assert ask(server, Content_Type="application/json")[2] == {"predictions": [2.0, 4.0]}
    assert ask(server, "1\n2", Content_Type="text/csv", Accept="text/csv")[2] == b"2.0\n4.0"
    assert ask(server, "1\n2", Content_Type="text/csv", Accept="*/*")[2] == {"predictions": [2.0, 4.0]}


def test_server_answers_many_requests_on_one_connection(make_model, start) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", start(make_model()).server_port, timeout=10)
    connection.connect()
    own_port = connection.sock.getsockname()
    for number in range(20):
        status, headers, answer = exchange(connection, f"[{number}]")
        assert (status, headers["Connection"], answer) == (200, "keep-alive", {"predictions": [2.0 * number]})
    assert connection.sock.getsockname() == own_port
    connection.close()


@pytest.mark.parametrize(
    ("request_", "status", "reason"),
    [
        ({"body": "[1,"}, 400, "not JSON"),
        ({"Content_Type": "image/png"}, 415, "image/png"),
        ({"path": "/elsewhere"}, 404, "/elsewhere"),
        ({"path": "/elsewhere", "method": "GET", "body": ""}, 404, "/elsewhere"),
        ({"path": "/ping"}, 405, "GET"),
        ({"method": "GET", "body": ""}, 405, "POST"),
        ({"method": "DELETE"}, 501, "DELETE"),
        ({"Content_Length": "two"}, 400, "Content-Length = two"),
        ({"Transfer_Encoding": "chunked", "body": "0\r\n\r\n"}, 411, "Content-Length"),
    ],
)
def test_server_refuses_a_bad_request_with_a_reason(
    make_model, start, request_: dict[str, str], status: int, reason: str
) -> None:
    server = start(make_model())
    code, _, answer = ask(server, **request_)
    assert code == status
    assert reason in answer["error"]
    assert ask(server)[0] == 200


def test_server_refuses_a_body_above_the_limit_and_takes_one_at_the_limit(make_model, start) -> None:
    server = start(make_model())
    at_limit = b"[1" + b" " * (serving.BODY_LIMIT - 3) + b"]"
    assert ask(server, at_limit)[2] == {"predictions": [2.0]}
    status, headers, answer = ask(server, at_limit + b" ")
    assert (status, headers["Connection"]) == (413, "close")
    assert "6,291,456" in answer["error"]


def test_server_refuses_an_oversize_body_before_it_is_sent_to_a_client_that_asks_first(
    make_model, start
) -> None:
    head = b"POST /invocations HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    answer = raw_exchange(start(make_model()), head % (serving.BODY_LIMIT + 1))
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_server_asks_for_the_body_of_a_client_that_waits_for_it(make_model, start) -> None:
    request = b"POST /invocations HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n[1]"
    answer = raw_exchange(start(make_model()), request)
    assert answer.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 ")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /invocations HTTP/1.1\r\n\r\n", b"411"),
        (b"POST /invocations HTTP/1.1\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n", b"413"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", b"414"),
        (b"GET /ping HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", b"431"),
    ],
)
def test_server_answers_a_malformed_request_in_json(
    make_model, start, request_: bytes, status: bytes
) -> None:
    head, _, body = raw_exchange(start(make_model()), request_).partition(b"\r\n\r\n")
    assert head.split()[1] == status
    assert json.loads(body)["error"]


def test_server_drops_a_request_whose_body_never_arrives(make_model, start) -> None:
    server = start(make_model())
    assert raw_exchange(server, b"POST /invocations HTTP/1.1\r\nContent-Length: 10\r\n\r\n[1]") == b""
    assert ask(server)[0] == 200


def test_server_is_healthy_when_the_probe_predicts(make_model, start) -> None:
    status, _, body = ask(start(make_model(), probe=b"[3]"), "", path="/ping", method="GET")
    assert (status, body) == (200, b"")


@pytest.mark.parametrize(("factor", "probe"), [("two", b"[3]"), (2, b"not a request")])
def test_server_is_unhealthy_when_the_probe_fails(make_model, start, factor: Any, probe: bytes) -> None:
    status, _, answer = ask(start(make_model(factor=factor), probe=probe), "", path="/ping", method="GET")
    assert status == 503
    assert answer["error"]


def test_server_without_a_probe_is_unhealthy_after_the_model_failed_until_it_predicts(
    make_model, start
) -> None:
    server = start(make_model(factor="two"))
    assert ask(server, "", path="/ping", method="GET")[0] == 200
    status, _, answer = ask(server)
    assert status == 500
    assert "TypeError" in answer["error"]
    assert ask(server, "", path="/ping", method="GET")[0] == 503
    assert ask(server, "[]")[0] == 200
    assert ask(server, "", path="/ping", method="GET")[0] == 200


def test_a_refused_request_leaves_the_model_healthy(make_model, start) -> None:
    server = start(make_model())
    assert ask(server, "[1,")[0] == 400
    assert ask(server, "", path="/ping", method="GET")[0] == 200


def test_server_holds_a_bounded_number_of_connections(make_model, start, monkeypatch) -> None:
    monkeypatch.setattr(serving, "CONNECTIONS", 2)
    server = start(make_model())
    held = [http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10) for _ in range(2)]
    for connection in held:
        assert exchange(connection, "[1]")[0] == 200
    status, _, answer = ask(server)
    assert (status, "2 connections" in answer["error"]) == (503, True)
    held.pop().close()
    deadline = time.monotonic() + 5
    while (status := ask(server)[0]) != 200 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert status == 200
    held.pop().close()


def test_server_answers_many_clients_at_once(make_model, start) -> None:
    server = start(make_model())

    def talk(client: int) -> list[Any]:
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
        answers = [exchange(connection, f"[{client}, {number}]")[2] for number in range(12)]
        connection.close()
        return answers

    with ThreadPoolExecutor(16) as pool:
        for client, answers in enumerate(pool.map(talk, range(16))):
            assert answers == [{"predictions": [2.0 * client, 2.0 * number]} for number in range(12)]


def test_server_closes_a_connection_that_stays_idle(make_model, start, monkeypatch) -> None:
    monkeypatch.setattr(serving.Handler, "timeout", 0.1)
    server = start(make_model())
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=5) as connection:
        assert connection.recv(1) == b""


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import a_module_nobody_ships", "No module named 'a_module_nobody_ships'"),
        ("def model_fn(directory): return 1", "does not define input_fn, predict_fn, output_fn"),
        (PROGRAM.replace("factor.json", "absent.json"), "model_fn failed: FileNotFoundError"),
    ],
)
def test_loading_a_broken_model_says_what_is_wrong(make_model, program: str, message: str) -> None:
    with pytest.raises(serving.LoadError, match=message):
        serving.load(make_model(program=program), {})


def test_loading_takes_the_program_and_directory_of_the_environment(make_model) -> None:
    model = make_model()
    with pytest.raises(serving.LoadError, match=r"code/other\.py: no such file"):
        serving.load(model, {"SAGEMAKER_PROGRAM": "other.py"})
    with pytest.raises(serving.LoadError, match="only code inside the model"):
        serving.load(model, {"SAGEMAKER_SUBMIT_DIRECTORY": "s3://bucket/code.tar.gz"})
    environ = {
        "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
        "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "text/csv",
    }
    assert serving.load(model, environ).answer(b"[1]", "application/json", "") == (b"2.0", "text/csv")


@pytest.fixture
def launch() -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    started: list[subprocess.Popen[str]] = []

    def run(*arguments: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "local.server", *arguments],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()


def port_of(process: "subprocess.Popen[str]") -> int:
    line = process.stdout.readline()
    assert line.startswith("listening on http://127.0.0.1:"), process.stderr.read()
    return int(line.rsplit(":", 1)[1])


def test_server_process_answers_the_request_in_flight_before_it_stops(make_model, launch) -> None:
    process = launch("--model", str(make_model(seconds=0.5)), "--port", "0", "--stop-with-parent")
    port = port_of(process)
    idle = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    idle.connect()
    busy = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(exchange, busy, "[1]")
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        status, headers, body = answer.result()
    assert (status, headers["Connection"], body) == (200, "close", {"predictions": [2]})
    assert process.wait(5) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    idle.close()
    busy.close()


def test_server_process_stops_when_its_parent_is_gone(make_model, launch) -> None:
    process = launch("--model", str(make_model()), "--port", "0", "--stop-with-parent")
    port_of(process)
    process.stdin.close()
    assert process.wait(5) == 0


def test_server_process_that_is_still_loading_stops_when_its_parent_is_gone(make_model, launch) -> None:
    process = launch("--model", str(make_model(program="import time\ntime.sleep(60)")), "--stop-with-parent")
    process.stdin.close()
    assert process.wait(10) == -signal.SIGTERM


def test_server_process_sees_only_the_modules_the_model_ships(make_model, launch) -> None:
    model = make_model(program="import pipeline.schema\n" + PROGRAM)
    process = launch("--model", str(model), "--port", "0")
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert errors.count("\n") == 1
    assert "No module named 'pipeline'" in errors


def test_server_process_names_a_port_that_is_taken_and_a_probe_that_is_missing(make_model, launch) -> None:
    model = str(make_model())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        _, errors = launch("--model", model, "--port", port).communicate(timeout=20)
    assert f"127.0.0.1:{port}: Address already in use" in errors
    _, errors = launch("--model", model, "--port", "0", "--probe", "absent.json").communicate(timeout=20)
    assert "absent.json: No such file" in errors


def test_main_serves_until_it_is_asked_to_stop(make_model, monkeypatch, capsys) -> None:
    """In this process, so that the start and the stop are measured too."""
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM))
    timer.start()
    try:
        serving.main(["--model", str(make_model()), "--port", "0"])
    finally:
        timer.join()
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert capsys.readouterr().out.startswith("listening on")
