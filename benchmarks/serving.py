"""Serving speed: a registered model's own code in our server, beside a bare XGBoost server and beside MLServer.

All serve the same trees on the same machine to the same client, one after the other in turns. There are no figures if
one of them gives another answer than the others, or an error.
"""

import argparse
import contextlib
import io
import itertools
import os
import statistics
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks import load, servers, splits
from benchmarks.load import Measured
from benchmarks.output import Row, show
from benchmarks.servers import BARE, Running
from benchmarks.serving_requests import ASKED, KNOWN, OURS_JSON, RECORDS, Requests, requests, scores

TRAINING_ROWS = 100_000
CLIENTS = (1, 8, 64)
# In turns, so that what else the machine does troubles all alike; the first round warms up and is not counted.
ROUNDS = 3
SECONDS = 2.0
STARTS = 5
OK = 200


def check(running: Mapping[str, Running], bodies: Requests) -> None:
    """Exit unless every server answers every request, with the scores that the bare one answers."""
    for records in RECORDS:
        _say(f"the same scores for {records} records a request?")
        expected: list[list[float]] = []
        for name in sorted(ASKED, key=lambda name: name != BARE):
            port = running[ASKED[name][0]].port
            for number, body in enumerate(bodies[name, records]):
                status, answer = load.once(port, body)
                if status != OK:
                    sys.exit(
                        f"{name}: request {number} of {records} records is answered {status}. No figures."
                    )
                found = scores(name, answer)
                if name == BARE:
                    expected.append(found)
                if len(found) != records or not np.allclose(found, expected[number], atol=1e-5):
                    sys.exit(
                        f"{name}: request {number} of {records} records is answered {found[:3]} …; the bare server "
                        f"answers {expected[number][:3]} …. No figures."
                    )


def measure(running: Mapping[str, Running], bodies: Requests, seconds: float) -> list[Row]:
    """A row for each server, number of records and number of clients; exits if any request fails."""
    rows: list[Row] = []
    for records, clients in itertools.product(RECORDS, CLIENTS):
        measured = {name: Measured() for name in ASKED}
        for turn, name in itertools.product(range(ROUNDS), ASKED):
            seen = _load(name, running, bodies[name, records], clients=clients, seconds=seconds)
            if turn:
                measured[name].add(seen)
        rate = {name: len(seen.latencies) / seen.seconds for name, seen in measured.items()}
        known = max(rate[name] for name in KNOWN)
        _say(f"{records} records, {clients} clients: {', '.join(f'{n} {r:,.0f}/s' for n, r in rate.items())}")
        rows += [
            {
                "server": name,
                "records": records,
                "clients": clients,
                "requests/s": rate[name],
                "p50 ms": statistics.median(seen.latencies) * 1000,
                "p99 ms": float(np.percentile(seen.latencies, 99)) * 1000,
                "of bare": rate[name] / rate[BARE],
                "of MLServer": rate[name] / known,
            }
            for name, seen in measured.items()
        ]
    return rows


def firsts(bodies: Requests) -> dict[str, bytes]:
    """The request that tells that a server has started, by server."""
    return {server: bodies[name, 1][0] for name, (server, *_) in ASKED.items()}


def cold(model: Path, bodies: Requests, starts: int) -> dict[str, float]:
    """The median seconds from a process's start to its first prediction, by server; they take turns too."""
    seconds: dict[str, list[float]] = {}
    for start in range(starts):
        _say(f"cold start {start + 1} of {starts}")
        for server, first in firsts(bodies).items():
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
        _say(f"training on {TRAINING_ROWS:,} flights")
        with contextlib.redirect_stdout(io.StringIO()):
            splits.prepared(folder, rows=TRAINING_ROWS)
            model = splits.trained(folder)
        bodies = requests(folder)
        seconds = cold(model, bodies, arguments.starts)
        running = {
            server: started.enter_context(servers.start(server, model, first))
            for server, first in firsts(bodies).items()
        }
        idle = {server: process.mib() for server, process in running.items()}
        check(running, bodies)
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


def _load(
    name: str, running: Mapping[str, Running], bodies: Sequence[bytes], *, clients: int, seconds: float
) -> Measured:
    port = running[ASKED[name][0]].port
    try:
        seen = load.run(port, bodies, clients=clients, seconds=seconds)
    except ConnectionError as error:
        sys.exit(f"{name}, {clients} clients: {error}. No figures.")
    answered = len(seen.latencies)
    if not answered:
        sys.exit(f"{name}, {clients} clients: no answer within {seconds:g} s. Measure for longer: --seconds.")
    if seen.errors:
        sys.exit(f"{name}, {clients} clients: {answered} answers, {seen.errors} of them no 200. No figures.")
    return seen


def _aims(rows: Sequence[Row]) -> str:
    """The aims, and where ours is nearest to missing them.

    Of a load without pause, a rate is what the clients get in all: the bare server's median hides the connections
    that its threads leave waiting.
    """
    ours = [row for row in rows if row["server"] == OURS_JSON]

    def worst(key: str) -> str:
        row = min(ours, key=lambda row: float(row[key]))
        return f"{row[key]:.2f} ({row['records']} records, {row['clients']} clients)"

    return (
        "Requests/s as a share of the bare server's and of MLServer's (the better of its two rows). Aims for ours, JSON: "
        f"at least 0.67 of the bare one, at its worst {worst('of bare')}; above 1 of MLServer, at its worst "
        f"{worst('of MLServer')}. Every request was answered."
    )


def _say(progress: str) -> None:
    print(progress, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
