"""What the serving benchmark asks: the same held-out flights in each server's own form, and the scores in its answers.

Ours takes raw records as JSON or CSV (18 columns), checks and encodes them; the bare server and MLServer take encoded
numbers and check nothing of what they mean.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import load
from benchmarks.servers import BARE, MLSERVER, MLSERVER_WORKER, OURS
from pipeline import curated, schema
from pipeline.features import Transform

RECORDS = (1, 100)
BODIES = 200
JSON, CSV = "application/json", "text/csv"
OURS_JSON, OURS_CSV = "ours, JSON", "ours, CSV"
V2 = "/v2/models/model/infer"
# How each row of the table asks: the process, the path and the content type.
ASKED = {
    OURS_JSON: (OURS, "/invocations", JSON),
    OURS_CSV: (OURS, "/invocations", CSV),
    BARE: (BARE, "/invocations", JSON),
    MLSERVER: (MLSERVER, V2, JSON),
    MLSERVER_WORKER: (MLSERVER_WORKER, V2, JSON),
}
KNOWN = (MLSERVER, MLSERVER_WORKER)
Requests = Mapping[tuple[str, int], Sequence[bytes]]


def requests(folder: Path) -> Requests:
    """Whole requests by row of the table and records a request: the n-th of each row holds the same flights."""
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
            OURS_JSON: [_json({"instances": raw[part]}) for part in parts],
            OURS_CSV: [_csv(raw[part]) for part in parts],
            BARE: [_json(encoded[part]) for part in parts],
        }
        known = [_v2(encoded[part]) for part in parts]
        bodies |= dict.fromkeys(KNOWN, known)
        for name, (_, path, kind) in ASKED.items():
            found[name, records] = [load.request(path, kind, body) for body in bodies[name]]
    return found


def scores(name: str, body: bytes) -> list[float]:
    """The scores in the body of an answer to this row of the table."""
    if name == OURS_CSV:
        return [float(line.partition(",")[0]) for line in body.decode().splitlines()]
    answer = json.loads(body)
    if name == OURS_JSON:
        return [prediction["score"] for prediction in answer["predictions"]]
    return list(answer if name == BARE else answer["outputs"][0]["data"])


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
