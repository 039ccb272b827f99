"""Inference speed: a registered model's own code in our server beside a bare XGBoost predict in a bare HTTP server.

Both serve the same trees to the same client over one kept-alive connection, one request at a time, so the figures
are latencies and their inverse. The requests differ as their servers do: ours takes raw records as JSON or CSV (17
columns), checks and encodes them; the bare one takes encoded numbers and checks nothing.
"""

import contextlib
import csv
import http.client
import io
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from benchmarks import splits
from benchmarks.output import Row, show
from local import endpoint, registry
from pipeline import predictors, schema
from tools.assembly import ROOT

TRAINING_ROWS = 100_000
MANY = 1000
# Requests a measurement, by records a request: enough that p99 is not the single worst one.
REQUESTS = {1: 2000, MANY: 200}
WARM_UP = 20
TURN = 20
ENVIRONMENT = {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"}


@contextlib.contextmanager
def bare(model: Path) -> Iterator[int]:
    """The port of the bare server; stopped when the block ends."""
    command = [sys.executable, "-m", "benchmarks.bare_server", str(model / predictors.XGBOOST_FILE)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            yield int(line.rsplit(":", 1)[1])
        finally:
            process.terminate()


@dataclass
class Client:
    """One kept-alive connection to a server, the bodies it sends, and how long each exchange took."""

    name: str
    port: int
    bodies: Sequence[bytes]
    seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._kind = "text/csv" if "CSV" in self.name else "application/json"
        self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        for body in self.bodies[:WARM_UP]:
            self._exchange(body)

    def send(self, part: slice) -> None:
        """Send some of the bodies, one after the other."""
        self.seconds += [self._exchange(body) for body in self.bodies[part]]

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def row(self, records: int) -> Row:
        """Requests a second, and the median and 99th percentile of latency in milliseconds."""
        p50, p99 = np.percentile(self.seconds, [50, 99]) * 1000
        rate = len(self.seconds) / sum(self.seconds)
        return {
            "server": self.name,
            "records/request": records,
            "requests/s": rate,
            "records/s": rate * records,
            "p50 ms": float(p50),
            "p99 ms": float(p99),
        }

    def _exchange(self, body: bytes) -> float:
        headers = {"Content-Type": self._kind, "Accept": self._kind}
        started = time.perf_counter()
        self._connection.request("POST", "/invocations", body=body, headers=headers)
        response = self._connection.getresponse()
        answer = response.read()
        seconds = time.perf_counter() - started
        if response.status != http.HTTPStatus.OK:
            raise RuntimeError(f"{self.name}: {response.status}: {answer.decode()}")
        return seconds


def measure(ports: Mapping[str, int], bodies: Mapping[str, Sequence[bytes]], records: int) -> list[Row]:
    """A row for each server; they take turns, so that what else the machine does troubles all alike."""
    clients = [Client(name, ports[name], bodies[name]) for name in bodies]
    for start in range(0, REQUESTS[records], TURN):
        for client in clients:
            client.send(slice(start, start + TURN))
    for client in clients:
        client.close()
    return [client.row(records) for client in clients]


def requests(folder: Path, records: int) -> Mapping[str, list[bytes]]:
    """Bodies of `records` held-out flights each: raw as JSON and CSV, encoded for the bare server."""
    columns = [column.name for column in schema.load("flights").request_columns]
    table = pq.read_table(folder / "test" / "data.parquet", columns=columns)
    raw = [{**row, "time_hour": f"{row['time_hour']:%Y-%m-%dT%H:%M:%SZ}"} for row in table.to_pylist()]
    encoded = pq.read_table(folder / "validation" / "data.parquet").drop_columns(["label"])
    matrix = np.column_stack([column.to_numpy() for column in encoded.columns])
    rows = [[None if np.isnan(value) else round(float(value), 6) for value in row] for row in matrix]
    count = REQUESTS[records]

    def take(source: Sequence[Any], number: int) -> list[Any]:
        start = number * records % (len(source) - records)
        return list(source[start : start + records])

    return {
        "ours, JSON": [json.dumps({"instances": take(raw, i)}).encode() for i in range(count)],
        "ours, CSV": [_csv(take(raw, i)) for i in range(count)],
        "bare": [json.dumps(take(rows, i)).encode() for i in range(count)],
    }


def _csv(records: Sequence[Mapping[str, Any]]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(record.values() for record in records)
    return buffer.getvalue().encode()


def main() -> None:
    """Train one model on real flights, serve it twice, measure both with the same client."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        with contextlib.redirect_stdout(io.StringIO()):
            splits.prepared(folder, rows=TRAINING_ROWS)
            model = splits.trained(folder)
        probe = folder / "probe.json"
        probe.write_bytes(registry.probe(model))
        with endpoint.start(model, environment=ENVIRONMENT, probe=probe) as ours, bare(model) as bare_port:
            own_port = int(ours.url.rsplit(":", 1)[1])
            ports = {"ours, JSON": own_port, "ours, CSV": own_port, "bare": bare_port}
            for records in REQUESTS:
                rows += measure(ports, requests(folder, records), records)
    p50 = {(row["server"], row["records/request"]): float(row["p50 ms"]) for row in rows}
    ratios = ", ".join(
        f"{name.removeprefix('ours, ')} with {records:,} record(s) {p50[name, records] / p50['bare', records]:.2f}"
        for records in REQUESTS
        for name in ("ours, JSON", "ours, CSV")
    )
    show(
        "inference",
        f"Inference over HTTP, one connection, {os.cpu_count()} cores",
        rows,
        note=f"Median latency against the bare server: {ratios} (aim: within 2 times).",
    )


if __name__ == "__main__":
    main()
