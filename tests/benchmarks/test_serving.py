"""The serving benchmark is fair: the same flights for all, every cell measured, and no figure beside a wrong answer."""

import contextlib
import itertools
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import xgboost

from benchmarks import load, output, servers, serving
from benchmarks.load import Measured
from benchmarks.servers import BARE, MLSERVER, MLSERVER_WORKER, OURS, Running
from benchmarks.serving_requests import (
    ASKED,
    BODIES,
    CSV,
    JSON,
    KNOWN,
    OURS_CSV,
    OURS_JSON,
    RECORDS,
    Requests,
    requests,
    scores,
)
from pipeline import curated, inference, predictors, schema
from pipeline.features import Transform
from tests.pipeline.conftest import as_curated, curated_flights

PORTS = {OURS: 1, BARE: 2, MLSERVER: 3, MLSERVER_WORKER: 4}
RUNNING = {server: Running(pid=0, port=port, cold=0.0) for server, port in PORTS.items()}
SCORES = {1: [0.25], 100: [number / 128 for number in range(100)]}


# --- what is asked ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few real flights as a test split, and a linear model of them: a weighted sum tells one flight from another."""
    folder = tmp_path_factory.mktemp("bench")
    flights = schema.load("flights")
    table = as_curated(curated_flights(every=1000), flights)
    transform = Transform.fit(flights, curated.columns(table, flights.request_columns))
    width = len(transform.names)
    linear = {"coefficients": [2.0**-n for n in range(width)], "means": [9.0] * width, "intercept": 0}
    files = {
        "transform.json": transform.to_json(),
        "linear.json": json.dumps({**linear, "problem_type": "regression"}),
        "metadata.json": '{"threshold": null}',
        "schema.json": schema.to_json(flights),
    }
    for name in ("test", "model"):
        (folder / name).mkdir()
    pq.write_table(table, folder / "test" / "part-0.parquet")
    for name, text in files.items():
        (folder / "model" / name).write_text(text)
    return folder


@pytest.fixture(scope="module")
def flight_requests(folder: Path) -> Requests:
    return requests(folder)


@pytest.mark.parametrize("records", RECORDS)
def test_the_nth_request_of_every_server_holds_the_same_flights(
    folder: Path, flight_requests: Requests, records: int
) -> None:
    asked = {name: [_body(request) for request in flight_requests[name, records]] for name in ASKED}
    model = inference.model_fn(str(folder / "model"))
    encoded = predictors.linear(json.loads((folder / "model" / "linear.json").read_text()))
    for number in range(BODIES):
        rows = np.array(json.loads(asked[BARE][number]), dtype=np.float32)
        expected = encoded(rows)
        assert len(expected) == records
        for name, kind in ((OURS_JSON, JSON), (OURS_CSV, CSV)):
            ours = inference.predict_fn(inference.input_fn(asked[name][number], kind), model)
            np.testing.assert_array_equal(ours.values, expected)
        for name in KNOWN:
            (tensor,) = json.loads(asked[name][number])["inputs"]
            data = np.array(tensor["data"], dtype=np.float32).reshape(tensor["shape"])
            np.testing.assert_array_equal(data, rows)
    assert len({tuple(asked[name]) for name in ASKED}) == 4  # MLServer's two rows ask alike
    assert len(set(asked[BARE])) > 1


def _body(request: bytes) -> bytes:
    return request.partition(b"\r\n\r\n")[2]


# --- what may be reported ---------------------------------------------------------------------------------------------


def _answer(name: str, values: list[float]) -> bytes:
    if name == OURS_CSV:
        return "\n".join(f"{value},1" for value in values).encode()
    if name == OURS_JSON:
        return json.dumps({"predictions": [{"score": value, "label": 1} for value in values]}).encode()
    return json.dumps(values if name == BARE else {"outputs": [{"data": values}]}).encode()


@pytest.fixture
def bodies() -> Requests:
    """Two requests a row of the table; each names its row, for a server that is none."""
    return {
        (name, records): [f"{name}/{records}/{number}".encode() for number in range(2)]
        for name, records in itertools.product(ASKED, RECORDS)
    }


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[tuple[int, str]]]:
    """Let all servers answer the same, except for what is given; returns who was asked what."""
    asked: list[tuple[int, str]] = []

    def prepare(**given: tuple[int, list[float]]) -> list[tuple[int, str]]:
        def once(port: int, data: bytes) -> tuple[int, bytes]:
            asked.append((port, data.decode()))
            name, records, number = data.decode().split("/")
            status, values = given.get(f"{name}/{records}/{number}", (200, SCORES[int(records)]))
            return status, _answer(name, values)

        monkeypatch.setattr(load, "once", once)
        return asked

    return prepare


def test_every_request_of_every_server_is_compared_before_anything_is_measured(
    bodies: Requests, answer: Callable[..., list[tuple[int, str]]]
) -> None:
    asked = answer()
    serving.check(RUNNING, bodies)
    assert sorted(asked) == sorted(
        (PORTS[ASKED[name][0]], request.decode()) for (name, _), all_ in bodies.items() for request in all_
    )


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ((200, [0.26]), "request 1 of 1 records is answered"),
        ((200, [0.25, 0.25]), "request 1 of 1 records is answered"),
        ((200, []), "request 1 of 1 records is answered"),
        ((503, [0.25]), "request 1 of 1 records is answered 503"),
    ],
)
def test_there_are_no_figures_beside_a_wrong_answer(
    name: str, given: tuple[int, list[float]], reason: str, bodies: Requests, answer: Callable[..., object]
) -> None:
    answer(**{f"{name}/1/1": given})
    with pytest.raises(SystemExit, match=rf"{reason}.*No figures\."):
        serving.check(RUNNING, bodies)


Loads = Callable[..., list[tuple[int, int]]]


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Loads:
    """Loads that run no server: a port's n-th load of one number of clients is `seen(port, n)`."""
    ran: list[tuple[int, int]] = []

    def prepare(seen: Callable[[int, int], Measured]) -> list[tuple[int, int]]:
        turns: dict[tuple[int, bytes, int], int] = {}

        def run(port: int, requests: list[bytes], *, clients: int, seconds: float) -> Measured:
            assert seconds == 2
            turn = turns.setdefault((port, requests[0], clients), 0)
            turns[port, requests[0], clients] += 1
            ran.append((port, turn))
            return seen(port, turn)

        monkeypatch.setattr(load, "run", run)
        return ran

    return prepare


def test_the_table_has_a_row_for_each_server_and_cell_and_the_warm_up_is_in_none(
    bodies: Requests, loads: Loads
) -> None:
    """The warm-up takes a second an answer, what counts a millisecond; our server answers as often again as the rest."""

    def seen(port: int, turn: int) -> Measured:
        return Measured([0.001 if turn else 1.0] * (200 if port == PORTS[OURS] else 100), 2.0)

    ran = loads(seen)
    rows = serving.measure(RUNNING, bodies, 2)
    assert [(row["records"], row["clients"], row["server"]) for row in rows] == list(
        itertools.product(RECORDS, serving.CLIENTS, ASKED)
    )
    assert {row["p99 ms"] for row in rows} == {1.0}
    assert {row["requests/s"] for row in rows if row["server"] in {OURS_JSON, OURS_CSV}} == {100}
    assert {row["requests/s"] for row in rows if row["server"] in {BARE, *KNOWN}} == {50}
    assert {(row["of bare"], row["of MLServer"]) for row in rows if row["server"] == OURS_JSON} == {(2, 2)}
    turns = [port for port, _ in ran[: len(ASKED)]]
    assert turns == [PORTS[server] for server, *_ in ASKED.values()]  # one after the other


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (Measured([0.001] * 9, 2.0, errors=2), r"9 answers, 2 of them no 200\. No figures"),
        (Measured([], 2.0), r"no answer within 2 s\. Measure for longer: --seconds"),
        (ConnectionError("the server closed it"), r"the server closed it\. No figures"),
    ],
)
def test_there_are_no_figures_beside_a_request_that_failed(
    bodies: Requests, loads: Loads, bad: Measured | ConnectionError, reason: str
) -> None:
    def seen(port: int, turn: int) -> Measured:
        if (port, turn) != (PORTS[BARE], 1):
            return Measured([0.001], 2.0)
        if isinstance(bad, ConnectionError):
            raise bad
        return bad

    loads(seen)
    with pytest.raises(SystemExit, match=rf"bare, 1 clients: {reason}\."):
        serving.measure(RUNNING, bodies, 2)


# --- the client, and the bare server ----------------------------------------------------------------------------------


class Flaky(BaseHTTPRequestHandler):
    """Answers /good; /bad is a 503; /gone ends the connection in the middle of its answer."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(503 if self.path == "/bad" else 200)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"no" if self.path == "/gone" else b"okay")
        self.close_connection = self.path == "/gone"

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class FlakyServer(ThreadingHTTPServer):
    """Says nothing of a client that did not wait."""

    def handle_error(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def flaky() -> Iterator[int]:
    with FlakyServer(("127.0.0.1", 0), Flaky) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def test_every_client_gets_its_own_answer_and_what_is_no_200_counts_as_an_error(flaky: int) -> None:
    asked = [load.request(path, JSON, b"{}") for path in ("/good", "/bad", "/good", "/bad")]
    seen = load.run(flaky, asked, clients=3, seconds=0.1)
    assert len(seen.latencies) > 3
    assert all(latency > 0 for latency in seen.latencies)
    assert abs(seen.errors - len(seen.latencies) / 2) <= 3  # as many as there are clients may be under way
    assert load.run(flaky, asked[:1], clients=3, seconds=0.1).errors == 0


def test_a_connection_that_ends_before_its_answer_ends_the_load(flaky: int) -> None:
    with pytest.raises(ConnectionError, match="before its answer was whole"):
        load.run(flaky, [load.request("/gone", JSON, b"{}")], clients=2, seconds=5)


def test_the_bare_server_answers_the_trees_own_scores(tmp_path: Path) -> None:
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    booster = xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(x, x[:, 0] > 0), 3)
    booster.save_model(tmp_path / predictors.XGBOOST_FILE)
    rows = [[*row[:2], None] for row in x.tolist()]
    asked = load.request("/invocations", JSON, json.dumps(rows).encode())
    with servers.start(BARE, tmp_path, asked) as running:
        status, body = load.once(running.port, asked)
    expected = booster.inplace_predict(np.array(rows, dtype=np.float32))
    assert (status, scores(BARE, body)) == (200, expected.tolist())


# --- all of it --------------------------------------------------------------------------------------------------------


@pytest.mark.deep
def test_ours_and_the_bare_server_are_measured_and_the_table_is_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """MLServer has an environment of its own, which a test does not install: the bare server stands in its place."""
    for name in KNOWN:
        monkeypatch.delitem(ASKED, name)
    monkeypatch.setattr(serving, "KNOWN", (BARE,))
    monkeypatch.setattr(servers, "MLSERVER_PROGRAM", tmp_path)
    monkeypatch.setattr(serving, "TRAINING_ROWS", 20_000)
    monkeypatch.setattr(output, "FOLDER", tmp_path / "bench")
    with contextlib.redirect_stdout(None):
        serving.main(["--seconds", "0.2", "--starts", "1"])
    speed, cost = (
        json.loads((tmp_path / "bench" / f"{name}.json").read_text())["rows"]
        for name in ("serving", "serving-cost")
    )
    assert [row["server"] for row in cost] == [OURS, BARE]
    assert all(row["cold start s"] > 0 and row["loaded MiB"] > row["idle MiB"] / 2 for row in cost)
    assert [(row["records"], row["clients"], row["server"]) for row in speed] == list(
        itertools.product(RECORDS, serving.CLIENTS, (OURS_JSON, OURS_CSV, BARE))
    )
    assert "| ours, JSON | 100 | 64 |" in (tmp_path / "bench" / "serving.md").read_text()
