"""What the consumer asks is what the model understands."""

from typing import Any

import pytest

from lambdas import stream_batch
from pipeline import inference, schema
from tests.lambdas.flights import event, received

FLIGHTS = schema.load("flights")


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"temp": 39.02, "plane_year": 1999, "manufacturer": "BOEING", "seats": None},
        {"tailnum": None},
        {"distance": " 1400 ", "time_hour": "2013-01-01 10:00:00"},
        {"time_hour": "2013-01-01T10:00:00.5+01:00"},
    ],
)
def test_the_model_understands_every_record_that_the_consumer_lets_through(changes: dict[str, Any]) -> None:
    found = stream_batch.triage([received(0, event("a", **changes))], FLIGHTS)
    request = inference.input_fn(stream_batch.body(found.flights), "application/json")
    columns = {column.name: column for column in FLIGHTS.request_columns}
    values = inference._from_json(request.records, columns)
    assert {name: len(column) for name, column in values.items()} == dict.fromkeys(columns, 1)


def test_a_request_of_ours_is_within_the_limits_of_the_model() -> None:
    assert stream_batch.MAXIMUM_RECORDS <= inference.DEFAULT_MAX_RECORDS
    assert stream_batch.MAXIMUM_BODY_BYTES == inference.MAX_BODY_BYTES
