"""The local model server keeps the container contract, refuses what the contract refuses, and stops cleanly."""

import http.client
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from local.serving import model as models
from local.serving.limits import Limits
from local.serving.messages import BODY_LIMIT
from local.serving.server import Server

ROOT = Path(__file__).parents[2]
# It multiplies; [-1] fails, [-2] answers its process, [-3, code] ends that by a code, [-4, signal] by a signal; and [0] is
# not answered before the file `gate` exists.
PROGRAM = """
import json, os, time

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
    if data == [-1]:
        raise RuntimeError("it cannot predict -1")
    if data == [-2]:
        return [os.getpid()]
    if data[:1] == [-3]:
        os._exit(int(data[1]))
    if data[:1] == [-4]:
        os.kill(os.getpid(), int(data[1]))
    while data == [0] and "gate" in model and not os.path.exists(model["gate"]):
        open(model["gate"] + " is closed", "w").close()
        time.sleep(0.01)
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

    def make(*, program: str = PROGRAM, **model: Any) -> Path:
        (tmp_path / "code").mkdir(exist_ok=True)
        (tmp_path / "code" / "inference.py").write_text(program)
        (tmp_path / "factor.json").write_text(json.dumps({"factor": 2, **model}))
        return tmp_path

    yield make
    sys.modules.pop("inference", None)


@pytest.fixture
def start() -> Iterator[Callable[..., Server]]:
    """A server in this process, with a worker for each of four requests unless a test asks for fewer."""
    running: list[tuple[Server, threading.Thread]] = []

    def run(model: Path, *, probe: bytes | None = None, workers: int = 4, **limits: float) -> Server:
        server = Server(
            models.load(model, {}),
            probe=probe,
            limits=Limits(workers=workers, **limits),
        )
        thread = threading.Thread(target=server.run)
        thread.start()
        running.append((server, thread))
        return server

    yield run
    for server, thread in running:
        server.stop()
        server.stop()
        thread.join(10)
        assert not thread.is_alive()


def ask(
    server: Server,
    body: bytes | str = "[1, 2]",
    *,
    path: str = "/invocations",
    method: str = "POST",
    **headers: str,
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
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


def raw_exchange(server: Server, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
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
    connection = http.client.HTTPConnection("127.0.0.1", start(make_model()).port, timeout=10)
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
    at_limit = b"[1" + b" " * (BODY_LIMIT - 3) + b"]"
    assert ask(server, at_limit)[2] == {"predictions": [2.0]}
    status, headers, answer = ask(server, at_limit + b" ")
    assert (status, headers["Connection"]) == (413, "close")
    assert "6,291,456" in answer["error"]


def test_server_refuses_an_oversize_body_before_it_is_sent_to_a_client_that_asks_first(
    make_model, start
) -> None:
    head = b"POST /invocations HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: %d\r\n\r\n"
    answer = raw_exchange(start(make_model()), head % (BODY_LIMIT + 1))
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


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """The file that lets the request [0] be answered, once it exists."""
    return tmp_path / "gate"


def send(server: Server, body: str = "[1]") -> http.client.HTTPConnection:
    """A request whose answer is not awaited; the server has taken it up when this returns."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("POST", "/invocations", body=body)
    ask(server, "", path="/ping", method="GET")
    return connection


def receive(connection: http.client.HTTPConnection) -> Answer:
    response = connection.getresponse()
    answer = response.status, dict(response.headers), json.loads(response.read())
    connection.close()
    return answer


def partly(server: Server, sent: bytes) -> socket.socket:
    """A connection over which a part of a request was sent."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    connection.sendall(sent)
    return connection


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_server_loads_the_model_once_for_64_clients(make_model, start, tmp_path: Path) -> None:
    once = PROGRAM.replace(
        "def model_fn(directory):", "def model_fn(directory):\n    print('loaded', file=LOG)"
    )
    server = start(make_model(program=f"LOG = open({str(tmp_path / 'log')!r}, 'a', 1)\n{once}"))

    def talk(client: int) -> list[Any]:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        answers = [exchange(connection, f"[{client}, {number + 1}]")[2] for number in range(5)]
        connection.close()
        return answers

    with ThreadPoolExecutor(64) as pool:
        for client, answers in enumerate(pool.map(talk, range(64))):
            assert answers == [{"predictions": [2.0 * client, 2.0 * number + 2]} for number in range(5)]
    assert (tmp_path / "log").read_text() == "loaded\n"


def test_server_answers_requests_sent_at_once_on_one_connection_in_their_order(make_model, start) -> None:
    requests = b"".join(
        b"POST /invocations HTTP/1.1\r\nContent-Length: 3\r\n\r\n[%d]" % number for number in range(1, 9)
    )
    answers = raw_exchange(start(make_model()), requests)
    assert re.findall(rb"\[(\d+)\.0\]", answers) == [b"%d" % (2 * number) for number in range(1, 9)]


def test_server_holds_a_bounded_number_of_connections(make_model, start) -> None:
    server = start(make_model(), connections=2)
    held = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=10) for _ in range(2)]
    for connection in held:
        assert exchange(connection, "[1]")[0] == 200
    status, headers, answer = ask(server)
    assert (status, headers["Retry-After"], headers["Connection"]) == (503, "1", "close")
    assert "2 connections" in answer["error"]
    held.pop().close()
    until(lambda: ask(server)[0] == 200)
    held.pop().close()


def test_an_idle_connection_takes_no_worker(make_model, start) -> None:
    server = start(make_model(), workers=1)
    idle = [partly(server, b"") for _ in range(20)]
    assert ask(server)[0] == 200
    for connection in idle:
        connection.close()


def test_server_closes_a_connection_that_stays_idle(make_model, start) -> None:
    server = start(make_model(), idle=0.1)
    with partly(server, b"") as connection:
        assert connection.recv(1) == b""


def test_a_full_queue_answers_503_and_when_to_come_back(make_model, start, gate: Path) -> None:
    server = start(make_model(gate=str(gate)), workers=1, queue=2)
    accepted = [send(server, "[0]"), send(server, "[1]"), send(server, "[2]")]
    status, headers, answer = ask(server)
    assert (status, headers["Retry-After"], headers["Connection"]) == (503, "2", "keep-alive")
    assert answer["error"] == "1 requests are predicted and 2 wait, which is the limit. Try again later."
    gate.touch()
    assert [receive(connection)[2] for connection in accepted] == [
        {"predictions": [2.0 * number]} for number in range(3)
    ]
    assert ask(server)[0] == 200


def test_a_client_that_is_gone_leaves_its_place_in_the_queue(make_model, start, gate: Path) -> None:
    server = start(make_model(gate=str(gate)), workers=1, queue=1)
    running, gone = send(server, "[0]"), send(server)
    gone.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing resets
    gone.close()
    assert ask(server, "", path="/ping", method="GET")[0] == 200
    next_ = send(server, "[2]")
    gate.touch()
    assert [receive(connection)[2] for connection in (running, next_)] == [
        {"predictions": [0]},
        {"predictions": [4]},
    ]


@pytest.mark.parametrize("probe", [None, b"[1]"])
def test_a_ping_waits_neither_for_a_worker_nor_in_the_queue(make_model, start, gate: Path, probe) -> None:
    server = start(make_model(gate=str(gate)), workers=1, queue=1, probe=probe, probe_kept=0)
    accepted = [send(server, "[0]"), send(server)]
    assert ask(server)[0] == 503
    assert ask(server, "", path="/ping", method="GET")[0] == 200
    gate.touch()
    assert [receive(connection)[0] for connection in accepted] == [200, 200]


SLOW = [
    b"POST /invocations HTTP/1.1\r\nContent-Le",
    b"POST /invocations HTTP/1.1\r\nContent-Length: 10\r\n\r\n[1",
]


@pytest.mark.parametrize("sent", SLOW)
def test_clients_that_send_slowly_hold_up_nobody(make_model, start, sent: bytes) -> None:
    server = start(make_model(), workers=1)
    slow = [partly(server, sent) for _ in range(20)]
    assert ask(server)[0] == 200
    for connection in slow:
        connection.close()


@pytest.mark.parametrize("sent", SLOW)
def test_a_request_that_does_not_arrive_in_time_is_told_so(make_model, start, sent: bytes) -> None:
    with partly(start(make_model(), request=0.2), sent) as connection:
        answer = connection.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"did not arrive within 0.2 s" in answer


LARGE = PROGRAM.replace('json.dumps({"predictions": prediction})', '"x" * 20_000_000')


def test_a_client_that_takes_its_answer_slowly_holds_up_nobody_and_gets_it_whole(make_model, start) -> None:
    server = start(make_model(program=LARGE), workers=1)
    slow = partly(server, b"POST /invocations HTTP/1.1\r\nContent-Length: 3\r\n\r\n[1]")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    connection.request("POST", "/invocations", body="[1]")
    assert len(connection.getresponse().read()) == 20_000_000
    connection.close()
    slow.shutdown(socket.SHUT_WR)
    with slow, slow.makefile("rb") as answer:
        assert len(answer.read().partition(b"\r\n\r\n")[2]) == 20_000_000


def test_a_client_that_does_not_take_its_answer_is_dropped(make_model, start) -> None:
    server = start(make_model(program=LARGE), request=0.2, connections=1)
    with partly(server, b"POST /invocations HTTP/1.1\r\nContent-Length: 3\r\n\r\n[1]"):
        until(lambda: ask(server, "", path="/ping", method="GET")[0] == 200)


def test_a_request_without_an_answer_in_time_is_told_so_and_its_late_answer_reaches_nobody(
    make_model, start, gate: Path
) -> None:
    server = start(make_model(gate=str(gate)), workers=2, answer=0.2)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    status, headers, answer = exchange(connection, "[0]")
    assert (status, headers["Retry-After"]) == (503, "1")
    assert "no answer within 0.2 s" in answer["error"]
    assert ask(server, "", path="/ping", method="GET")[0] == 200
    gate.touch()
    for number in range(1, 10):
        assert exchange(connection, f"[{number}]")[2] == {"predictions": [2.0 * number]}
    connection.close()


def worker_of(server: Server) -> int:
    """The process that answers the next request, if no other is under way."""
    return ask(server, "[-2]")[2]["predictions"][0]


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_prediction_past_its_time_is_ended_and_the_next_one_is_answered_without_loading_again(
    make_model, start, gate: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    once = PROGRAM.replace(
        "def model_fn(directory):", f"def model_fn(directory):\n    print(file=open({str(log)!r}, 'a'))"
    )
    server = start(make_model(program=once, gate=str(gate)), workers=1, answer=0.2)
    first = worker_of(server)
    late, waiting = send(server, "[0]"), send(server, "[0]")
    assert [receive(connection)[0] for connection in (late, waiting)] == [503, 503]
    assert gone(first)
    assert ask(server, "", path="/ping", method="GET")[0] == 200
    assert ask(server)[2] == {"predictions": [2.0, 4.0]}
    assert worker_of(server) != first
    assert log.read_text() == "\n"


@pytest.mark.parametrize(
    ("request_", "how"),
    [("[-3, 7]", "with exit code 7"), (f"[-4, {int(signal.SIGKILL)}]", "by signal 9 (Killed")],
)
def test_a_worker_that_dies_fails_its_own_request_and_nobody_elses(
    make_model, start, gate: Path, request_: str, how: str
) -> None:
    server = start(make_model(gate=str(gate)), workers=2)
    other = send(server, "[0]")
    status, _, answer = ask(server, request_)
    assert status == 500
    assert f"the process that predicted this request ended {how}" in answer["error"]
    status, _, told = ask(server, "", path="/ping", method="GET")
    assert (status, told["error"], told["cause"]) == (503, answer["error"], "model")
    assert ask(server)[2] == {"predictions": [2.0, 4.0]}
    assert ask(server, "", path="/ping", method="GET")[0] == 200
    gate.touch()
    assert receive(other)[2] == {"predictions": [0]}


def test_a_worker_that_dies_while_it_is_idle_costs_no_request(make_model, start) -> None:
    server = start(make_model(), workers=1)
    first = worker_of(server)
    os.kill(first, signal.SIGKILL)
    until(lambda: gone(first))
    assert ask(server)[0] == 200
    assert ask(server, "", path="/ping", method="GET")[0] == 200


def test_a_worker_that_is_stopped_holds_up_nobody_and_its_request_is_not_lost(make_model, start) -> None:
    server = start(make_model(), workers=2)
    stopped = worker_of(server)
    os.kill(stopped, signal.SIGSTOP)
    waiting = send(server, "[1]")
    for _ in range(20):
        assert ask(server)[0] == 200
    assert worker_of(server) != stopped
    os.kill(stopped, signal.SIGCONT)
    assert receive(waiting)[2] == {"predictions": [2.0]}


def test_a_connection_whose_client_is_gone_is_closed_though_a_worker_was_forked_meanwhile(
    make_model, start, gate: Path
) -> None:
    server = start(make_model(gate=str(gate)), workers=2, idle=0.3)
    with partly(server, b"") as idle:
        assert ask(server)[0] == 200
        busy = [send(server, "[0]"), send(server, "[0]")]  # the second gets a process of its own
        assert idle.recv(1) == b""
    gate.touch()
    assert [receive(connection)[0] for connection in busy] == [200, 200]


def noted(tmp_path: Path) -> tuple[str, Callable[[], list[int]]]:
    """A program that notes which process predicts, and those it noted."""
    log = tmp_path / "processes"
    body = f"def predict_fn(data, model):\n    print(os.getpid(), file=open({str(log)!r}, 'a'))"
    program = PROGRAM.replace("def predict_fn(data, model):", body)
    return program, lambda: [int(line) for line in log.read_text().split()]


def test_no_worker_outlives_its_server(make_model, gate: Path, tmp_path: Path) -> None:
    program, processes = noted(tmp_path)
    model = models.load(make_model(program=program, gate=str(gate)), {})
    server = Server(model, limits=Limits(workers=2), probe=b"[1]")
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(server.run)
        lost = send(server, "[0]")  # with a probe
        assert ask(server)[0] == 200
        server.stop()
        server.stop()
        assert ended.result(10) == 1
    lost.close()
    assert len(set(processes())) == 3
    assert all(map(gone, processes()))


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (PROGRAM + "\ndef output_fn(prediction, accept):\n    return None, accept\n", "NoneType"),
        (PROGRAM + "\ndef output_fn(prediction, accept):\n    return '', 'text/\u20ac'\n", "latin-1"),
        (
            PROGRAM + "\ndef input_fn(body, content_type):\n    raise Refused(499, 'a status of nobody')\n",
            "of nobody",
        ),
    ],
)
def test_what_the_model_answers_wrongly_is_its_failure(make_model, start, program: str, reason: str) -> None:
    status, _, answer = ask(start(make_model(program=program)))
    assert status == 500
    assert reason in answer["error"]
    assert "the process" not in answer["error"]


def counted(tmp_path: Path) -> tuple[str, Callable[[], int]]:
    """A program that counts its predictions, and the count."""
    log = tmp_path / "predicted"
    body = f"def predict_fn(data, model):\n    print(file=open({str(log)!r}, 'a'))"
    return PROGRAM.replace("def predict_fn(data, model):", body), lambda: log.read_text().count("\n")


def test_a_storm_of_pings_predicts_once(make_model, start, tmp_path: Path) -> None:
    program, predictions = counted(tmp_path)
    server = start(make_model(program=program), probe=b"[1]", probe_kept=60)
    with ThreadPoolExecutor(8) as pool:
        pings = pool.map(lambda _: ask(server, "", path="/ping", method="GET")[0], range(100))
        assert set(pings) == {200}
    assert predictions() == 1


def test_a_probe_is_predicted_again_when_its_time_is_over(make_model, start, tmp_path: Path) -> None:
    program, predictions = counted(tmp_path)
    server = start(make_model(program=program), probe=b"[1]", probe_kept=0)
    for _ in range(3):
        assert ask(server, "", path="/ping", method="GET")[0] == 200
    assert predictions() >= 3


def test_server_is_unhealthy_while_the_probe_has_no_answer(make_model, start, gate: Path) -> None:
    server = start(make_model(gate=str(gate)), probe=b"[0]", ping=0.2)
    for _ in range(2):
        status, _, answer = ask(server, "", path="/ping", method="GET")
        assert (status, answer["cause"]) == (503, "model")
        assert "the probe is not answered after 0.2 s" in answer["error"]
    gate.touch()
    until(lambda: ask(server, "", path="/ping", method="GET")[0] == 200)


def test_a_probe_that_is_late_is_ended_and_the_next_one_gets_another_process(
    make_model, start, tmp_path: Path
) -> None:
    program, processes = noted(tmp_path)
    server = start(
        make_model(program=program, gate=str(tmp_path / "gate")), probe=b"[0]", ping=0.2, probe_kept=0
    )
    for _ in range(2):
        assert ask(server, "", path="/ping", method="GET")[0] == 503
    assert len(set(processes())) == 2
    assert all(map(gone, processes()))


def test_a_server_whose_probe_ends_its_process_is_unhealthy_and_predicts(make_model, start) -> None:
    server = start(make_model(), probe=b"[-3, 7]", probe_kept=0)
    for _ in range(2):
        status, _, answer = ask(server, "", path="/ping", method="GET")
        assert (status, answer["error"]) == (
            503,
            "the process that predicted the probe ended with exit code 7.",
        )
    assert ask(server)[0] == 200


def test_a_server_that_stops_tells_everybody_and_answers_what_it_predicts(
    make_model, start, gate: Path
) -> None:
    server = start(make_model(gate=str(gate)), workers=1)
    kept = [http.client.HTTPConnection("127.0.0.1", server.port, timeout=10) for _ in range(2)]
    for connection in kept:
        assert exchange(connection, "", path="/ping", method="GET")[0] == 200
    half = partly(server, SLOW[1])
    running, waiting = send(server, "[0]"), send(server)
    server.stop()
    status, headers, answer = receive(waiting)
    assert (status, headers["Connection"], headers["Retry-After"]) == (503, "close", "1")
    assert answer["cause"] == "stopping"
    assert half.makefile("rb").read().startswith(b"HTTP/1.1 503 ")
    half.close()
    for connection, request in zip(
        kept, ({"path": "/ping", "method": "GET", "body": ""}, {"body": "[1]"}), strict=True
    ):
        status, headers, answer = exchange(connection, **request)
        assert (status, headers["Connection"], answer["cause"]) == (503, "close", "stopping")
        connection.close()
    assert ask(server, "", path="/ping", method="GET")[0] == 503
    gate.touch()
    status, headers, answer = receive(running)
    assert (status, headers["Connection"], answer) == (200, "close", {"predictions": [0]})
    until(lambda: refused(server.port))


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    except OSError:  # it was listening still, and closed meanwhile
        return False
    return False


@pytest.mark.parametrize(("drain", "stops"), [(0.2, 1), (60, 2)])
def test_a_server_that_ends_before_its_requests_counts_them(
    make_model, gate: Path, drain: float, stops: int
) -> None:
    limits = Limits(workers=2, drain=drain)
    server = Server(models.load(make_model(gate=str(gate)), {}), limits=limits)
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(server.run)
        lost = [send(server, "[0]"), send(server, "[0]")]
        for _ in range(stops):
            server.stop()
        assert ended.result(10) == 2
    for connection in lost:
        with pytest.raises(ConnectionError):
            connection.getresponse()
        connection.close()
    gate.touch()


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("import a_module_nobody_ships", "No module named 'a_module_nobody_ships'"),
        ("def model_fn(directory): return 1", "does not define input_fn, predict_fn, output_fn"),
        (PROGRAM.replace("factor.json", "absent.json"), "model_fn failed: FileNotFoundError"),
    ],
)
def test_loading_a_broken_model_says_what_is_wrong(make_model, program: str, message: str) -> None:
    with pytest.raises(models.LoadError, match=message):
        models.load(make_model(program=program), {})


def test_loading_takes_the_program_and_directory_of_the_environment(make_model) -> None:
    model = make_model()
    with pytest.raises(models.LoadError, match=r"code/other\.py: no such file"):
        models.load(model, {"SAGEMAKER_PROGRAM": "other.py"})
    with pytest.raises(models.LoadError, match="only code inside the model"):
        models.load(model, {"SAGEMAKER_SUBMIT_DIRECTORY": "s3://bucket/code.tar.gz"})
    environ = {
        "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code",
        "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": "text/csv",
    }
    answer = models.load(model, environ).predict(b"[1]", "application/json", "")
    assert (answer.body, answer.type) == (b"2.0", "text/csv")


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


def test_server_process_answers_the_request_in_flight_before_it_stops(make_model, launch, gate: Path) -> None:
    process = launch("--model", str(make_model(gate=str(gate))), "--port", "0", "--stop-with-parent")
    port = port_of(process)
    idle = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    idle.connect()
    busy = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(exchange, busy, "[0]")
        until(Path(f"{gate} is closed").exists)
        process.send_signal(signal.SIGTERM)
        until(lambda: exchange(idle, "", path="/ping", method="GET")[0] == 503)
        gate.touch()
        status, headers, body = answer.result()
    assert (status, headers["Connection"], body) == (200, "close", {"predictions": [0]})
    assert process.wait(5) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    idle.close()
    busy.close()


def test_a_second_signal_ends_the_process_at_once_and_it_says_what_is_lost(
    make_model, launch, gate: Path
) -> None:
    process = launch("--model", str(make_model(gate=str(gate))), "--port", "0")
    lost = http.client.HTTPConnection("127.0.0.1", port_of(process), timeout=10)
    lost.request("POST", "/invocations", body="[0]")
    until(Path(f"{gate} is closed").exists)
    watcher = http.client.HTTPConnection("127.0.0.1", lost.port, timeout=10)
    assert exchange(watcher, "", path="/ping", method="GET")[0] == 200
    process.send_signal(signal.SIGTERM)
    until(lambda: exchange(watcher, "", path="/ping", method="GET")[0] == 503)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=10)
    assert (process.returncode, errors) == (1, "stopped; requests left without an answer: 1.\n")
    lost.close()
    watcher.close()


def test_a_killed_process_leaves_nobody_waiting_and_its_port_free(make_model, launch, gate: Path) -> None:
    model = str(make_model(gate=str(gate)))
    process = launch("--model", model, "--port", "0")
    port = port_of(process)
    asked = [http.client.HTTPConnection("127.0.0.1", port, timeout=10) for _ in range(8)]
    for connection in asked:
        connection.request("POST", "/invocations", body="[0]")
    until(Path(f"{gate} is closed").exists)
    process.kill()
    for connection in asked:
        with pytest.raises(ConnectionError):
            connection.getresponse()
        connection.close()
    gate.touch()
    assert port_of(launch("--model", model, "--port", str(port))) == port
    answer = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    assert exchange(answer, "[0]")[0] == 200
    answer.close()


def test_a_killed_process_leaves_no_other_though_one_never_answers(
    make_model, launch, tmp_path: Path
) -> None:
    (tmp_path / "probe.json").write_text("[1]")
    model = make_model(gate=str(tmp_path / "gate"))
    process = launch("--model", str(model), "--port", "0", "--probe", str(tmp_path / "probe.json"))
    stuck = http.client.HTTPConnection("127.0.0.1", port_of(process), timeout=10)
    stuck.request("POST", "/invocations", body="[0]")
    until((tmp_path / "gate is closed").exists)
    process.kill()
    process.communicate(timeout=10)  # returns when nobody holds its standard output any more
    stuck.close()


def test_what_a_model_prints_is_written_once_and_at_once(make_model, launch, monkeypatch) -> None:
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
    program = PROGRAM.replace("def model_fn(directory):", "def model_fn(directory):\n    print('loaded')")
    program = program.replace(
        "def predict_fn(data, model):", "def predict_fn(data, model):\n    print('asked')"
    )
    process = launch("--model", str(make_model(program=program)), "--port", "0")
    assert process.stdout.readline() == "loaded\n"
    connection = http.client.HTTPConnection("127.0.0.1", port_of(process), timeout=10)
    assert exchange(connection, "[1]")[0] == 200
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=10)[0] == "asked\n"
    connection.close()


def test_server_process_refuses_a_limit_that_is_none(make_model, launch, monkeypatch) -> None:
    monkeypatch.setenv("SAGEMAKER_MODEL_SERVER_WORKERS", "many")
    _, errors = launch("--model", str(make_model()), "--port", "0").communicate(timeout=20)
    assert errors == (
        "environment variable SAGEMAKER_MODEL_SERVER_WORKERS = many: must be a whole number of at least 1.\n"
    )


def test_server_process_stops_when_its_parent_is_gone(make_model, launch) -> None:
    process = launch("--model", str(make_model()), "--port", "0", "--stop-with-parent")
    port_of(process)
    process.stdin.close()
    assert process.wait(5) == 0


def test_server_process_that_is_still_loading_stops_when_its_parent_is_gone(make_model, launch) -> None:
    process = launch("--model", str(make_model(program="import time\ntime.sleep(60)")), "--stop-with-parent")
    process.stdin.close()
    assert process.wait(10) == -signal.SIGTERM


@pytest.mark.parametrize("package", ["pipeline", "local"])
def test_server_process_sees_only_the_modules_the_model_ships(make_model, launch, package: str) -> None:
    model = make_model(program=f"import {package}.schema\n{PROGRAM}")
    process = launch("--model", str(model), "--port", "0")
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 1
    assert errors.count("\n") == 1
    assert f"No module named '{package}'" in errors


def test_server_process_names_a_port_that_is_taken_and_a_probe_that_is_missing(make_model, launch) -> None:
    model = str(make_model())
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        _, errors = launch("--model", model, "--port", port).communicate(timeout=20)
    assert f"127.0.0.1:{port}: Address already in use" in errors
    _, errors = launch("--model", model, "--port", "0", "--probe", "absent.json").communicate(timeout=20)
    assert "absent.json: No such file" in errors
