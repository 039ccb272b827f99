"""Held-out flights over HTTP, as JSON and as CSV, and what became of them beside what was predicted."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sklearn.metrics import roc_auc_score

from pipeline.schema import Schema

RECORDS_A_REQUEST = 500
SHOWN = 12
JSON, CSV = "application/json", "text/csv"
Record = Mapping[str, Any]


class Endpoint(Protocol):
    """Whatever answers a request body with a prediction."""

    def invoke(self, body: bytes, *, content_type: str, accept: str) -> bytes:
        """The prediction for one request body, as `accept`."""


@dataclass(frozen=True)
class Answers:
    """One score and label a record, in order; `largest_difference` is that between JSON's and CSV's scores."""

    scores: Sequence[float]
    labels: Sequence[int]
    requests: int
    largest_difference: float


def ask(endpoint: Endpoint, flights: Sequence[Record], schema: Schema) -> Answers:
    """Send every flight twice, as JSON and as CSV, RECORDS_A_REQUEST at a time."""
    names = [column.name for column in schema.request_columns]
    requests = [
        [
            {name: _text(flight[name]) for name in names}
            for flight in flights[start : start + RECORDS_A_REQUEST]
        ]
        for start in range(0, len(flights), RECORDS_A_REQUEST)
    ]
    scores: list[float] = []
    labels: list[int] = []
    difference = 0.0
    for records in requests:
        body = json.dumps({"instances": records}).encode()
        answer = json.loads(endpoint.invoke(body, content_type=JSON, accept=JSON))["predictions"]
        lines = endpoint.invoke(_csv(records), content_type=CSV, accept=CSV).decode().splitlines()
        from_csv = [float(line.split(",")[0]) for line in lines]
        pairs = zip((prediction["score"] for prediction in answer), from_csv, strict=True)
        difference = max(difference, *(abs(one - other) for one, other in pairs))
        scores += [prediction["score"] for prediction in answer]
        labels += [prediction["label"] for prediction in answer]
    return Answers(scores, labels, 2 * len(requests), difference)


def summarize(flights: Sequence[Record], answers: Answers, schema: Schema) -> dict[str, Any]:
    """The report's part on serving: counts, AUC of the scores that came over HTTP, and some flights one by one.

    The flights shown are evenly spread over the test split's time, not chosen by their answers.
    """
    delays = [flight[schema.label.column] for flight in flights]
    truth = [int(delay > schema.label.greater_than) for delay in delays]
    step = len(flights) // SHOWN or 1
    return {
        "records": len(flights),
        "requests": answers.requests,
        "largest_difference": answers.largest_difference,
        "auc": float(roc_auc_score(truth, answers.scores)),
        "late": sum(truth),
        "predicted_late": sum(answers.labels),
        "right": sum(label == actual for label, actual in zip(answers.labels, truth, strict=True)),
        "shown": [
            {
                "flight": f"{flight['carrier']} {flight['flight']} {flight['origin']} → {flight['dest']}",
                "time": f"{flight[schema.time_column]:%Y-%m-%d %H:%M}",
                "score": answers.scores[index],
                "predicted": _word(answers.labels[index]),
                "delay": delays[index],
                "truth": _word(truth[index]),
            }
            for index, flight in list(enumerate(flights))[step // 2 :: step][:SHOWN]
        ],
    }


def _csv(records: Iterable[Record]) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(record.values() for record in records)
    return buffer.getvalue().encode()


def _text(value: Any) -> Any:
    return f"{value:%Y-%m-%dT%H:%M:%SZ}" if hasattr(value, "strftime") else value


def _word(late: int) -> str:
    return "late" if late else "on time"
