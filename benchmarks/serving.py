"""Serving speed: a registered model's own code in our server, beside a bare XGBoost server and beside MLServer.

All serve the same trees on the same machine to the same client, one after the other in turns. The requests differ as
their servers do: ours takes raw records as JSON or CSV (17 columns), checks and encodes them; the bare one and MLServer
take encoded numbers and check nothing of what they mean.
"""

import argparse
import contextlib
import csv
import io
import itertools
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import load, servers, splits
from benchmarks.load import Measured
from benchmarks.output import Row, show
from benchmarks.servers import BARE, MLSERVER, MLSERVER_WORKER, OURS, Running
from pipeline import curated, schema
from pipeline.features import Transform

TRAINING_ROWS = 100_000
CLIENTS = (1, 8, 64)
RECORDS = (1, 100)
BODIES = 200
# In turns, so that what else the machine does troubles all alike; the first round warms up and is not counted.
ROUNDS = 3
SECONDS = 2.0
STARTS = 5
JSON, CSV = "application/json", "text/csv"
V2 = "/v2/models/model/infer"
# How each is asked: the process, the path and the content type.
ASKED = {
    "ours, JSON": (OURS, "/invocations", JSON),
    "ours, CSV": (OURS, "/invocations", CSV),
    BARE: (BARE, "/invocations", JSON),
    MLSERVER: (MLSERVER, V2, JSON),
    MLSERVER_WORKER: (MLSERVER_WORKER, V2, JSON),
}
KNOWN = (MLSERVER, MLSERVER_WORKER)
Requests = Mapping[tuple[str, int], Sequence[bytes]]


def requests(folder: Path) -> Requests:
    """Whole requests by row of the table and records a request: held-out flights, raw for ours, encoded for the others."""
    flights = schema.load("flights")
    table = curated.read(folder / "test", flights)
    names = [column.name for column in flights.request_columns]
    raw = [
        {**row, "time_hour": f"{row['time_hour']:%Y-%m-%dT%H:%M:%SZ}"}
        for row in table.select(names).to_pylist()
    ]
    transform = Transform.from_json((folder / "model" / "transform.json").read_text())
    matrix, _ = transform.apply(curated.columns(table, flights.request_columns))
    # The shortest digits that are the same 32-bit number.
    encoded = [[None if np.isnan(value) else float(str(value)) for value in row] for row in matrix]
    found = {}
    for records in RECORDS:
        starts = [number * records % (len(raw) - records) for number in range(BODIES)]
        parts = [slice(start, start + records) for start in starts]
        bodies = {
            "ours, JSON": [_json({"instances": raw[part]}) for part in parts],
            "ours, CSV": [_csv(raw[part]) for part in parts],
            BARE: [_json(encoded[part]) for part in parts],
        }
        bodies |= {name: [_v2(encoded[part]) for part in parts] for name in KNOWN}
        for name, (_, path, kind) in ASKED.items():
            found[name, records] = [load.request(path, kind, body) for body in bodies[name]]
    return found


def check(running: Mapping[str, Running], bodies: Requests) -> None:
    """Exit unless every server answers the first request of each size with the same scores."""
    for records in RECORDS:
        scores = {
            name: _scores(name, load.once(running[server].port, bodies[name, records][0])[1])
            for name, (server, *_) in ASKED.items()
        }
        for name, values in scores.items():
            if len(values) != records or not np.allclose(values, scores[BARE], atol=1e-5):
                sys.exit(f"{name} answers {values[:3]} …; the bare server answers {scores[BARE][:3]} …")


def measure(running: Mapping[str, Running], bodies: Requests, seconds: float) -> list[Row]:
    """A row for each server, number of records and number of clients."""
    rows = []
    for records, clients in itertools.product(RECORDS, CLIENTS):
        measured = {name: Measured() for name in ASKED}
        for turn, name in itertools.product(range(ROUNDS), ASKED):
            port = running[ASKED[name][0]].port
            seen = load.run(port, bodies[name, records], clients=clients, seconds=seconds)
            if turn:
                measured[name].add(seen)
        rate = {name: len(seen.latencies) / seen.seconds for name, seen in measured.items()}
        known = max(rate[name] for name in KNOWN)
        rows += [
            {
                "server": name,
                "records": records,
                "clients": clients,
                "requests/s": rate[name],
                "p50 ms": statistics.median(seen.latencies) * 1000,
                "p99 ms": float(np.percentile(seen.latencies, 99)) * 1000,
                "errors": seen.errors,
                "of bare": rate[name] / rate[BARE],
                "of MLServer": rate[name] / known,
            }
            for name, seen in measured.items()
        ]
    return rows


def cold(model: Path, bodies: Requests, starts: int) -> dict[str, float]:
    """The median seconds from a process's start to its first prediction, by server; they take turns too."""
    seconds: dict[str, list[float]] = {}
    firsts = {server: bodies[name, 1][0] for name, (server, *_) in ASKED.items()}
    for _ in range(starts):
        for server, first in firsts.items():
            with servers.start(server, model, first) as running:
                seconds.setdefault(server, []).append(running.cold)
    return {server: statistics.median(values) for server, values in seconds.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Train one model on real flights, serve it by each server, measure all with the same client."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"of each load ({SECONDS:g})")
    parser.add_argument("--starts", type=int, default=STARTS, help=f"of each server ({STARTS})")
    arguments = parser.parse_args(argv)
    if not servers.MLSERVER_PROGRAM.exists():
        sys.exit("MLServer is not installed. Run: make .venv-bench/.installed")
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as started:
        folder = Path(temporary)
        with contextlib.redirect_stdout(io.StringIO()):
            splits.prepared(folder, rows=TRAINING_ROWS)
            model = splits.trained(folder)
        bodies = requests(folder)
        seconds = cold(model, bodies, arguments.starts)
        running = {
            server: started.enter_context(servers.start(server, model, bodies[name, 1][0]))
            for name, (server, *_) in ASKED.items()
            if name != "ours, CSV"
        }
        check(running, bodies)
        idle = {server: process.mib() for server, process in running.items()}
        rows = measure(running, bodies, arguments.seconds)
        costs: list[Row] = [
            {
                "server": server,
                "cold start s": seconds[server],
                "idle MiB": idle[server],
                "loaded MiB": process.mib(),
            }
            for server, process in running.items()
        ]
    note = (
        "Cold start: from the process's start to its first prediction. Memory: of the process and all below it (PSS), "
        "after the first prediction and after all loads."
    )
    show("serving-cost", f"What a model server costs, {os.cpu_count()} cores", costs, note=note)
    show(
        "serving",
        f"Serving over HTTP, kept-alive connections, {os.cpu_count()} cores",
        rows,
        note=_aims(rows),
    )


def _aims(rows: Sequence[Row]) -> str:
    """The aims, and where ours is nearest to missing them.

    Of a load without pause, a rate is what the clients get in all: the bare server's median hides the connections
    that its threads leave waiting.
    """
    ours = [row for row in rows if row["server"] == "ours, JSON"]

    def worst(key: str) -> str:
        row = min(ours, key=lambda row: float(row[key]))
        return f"{row[key]:.2f} ({row['records']} records, {row['clients']} clients)"

    return (
        "Requests/s as a share of the bare server's and of MLServer's (the better of its two rows). Aims for ours, JSON: "
        f"at least 0.67 of the bare one, at its worst {worst('of bare')}; above 1 of MLServer, at its worst "
        f"{worst('of MLServer')}."
    )


def _scores(name: str, body: bytes) -> list[float]:
    match name:
        case "ours, JSON":
            return [prediction["score"] for prediction in json.loads(body)["predictions"]]
        case "ours, CSV":
            return [float(line.partition(",")[0]) for line in body.decode().splitlines()]
        case "bare":
            return list(json.loads(body))
        case _:
            return list(json.loads(body)["outputs"][0]["data"])


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _csv(records: Sequence[Mapping[str, Any]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(record.values() for record in records)
    return buffer.getvalue().encode()


def _v2(rows: Sequence[Sequence[float | None]]) -> bytes:
    """A request of the Open Inference Protocol, version 2."""
    data = [value for row in rows for value in row]
    return _json(
        {"inputs": [{"name": "x", "shape": [len(rows), len(rows[0])], "datatype": "FP32", "data": data}]}
    )


if __name__ == "__main__":
    main()
