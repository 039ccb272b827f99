import dataclasses
import json
from typing import Any

import pytest

from lambdas import validation
from pipeline import schema
from tests.lambdas.flights import event

FLIGHTS = schema.load("flights")


def test_a_real_flight_has_no_fault() -> None:
    assert validation.faults(FLIGHTS, event("1")) == []


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({"carrier": None}, ["null:carrier"]),
        ({"tailnum": None}, []),
        ({"carrier": "XX"}, ["not_allowed:carrier"]),
        ({"distance": 0}, ["out_of_range:distance"]),
        ({"distance": 6001}, ["out_of_range:distance"]),
        ({"distance": 6000}, []),
        ({"distance": "far"}, ["wrong_type:distance"]),
        ({"distance": 14.5}, ["wrong_type:distance"]),
        ({"distance": True}, ["wrong_type:distance"]),
        ({"distance": 10**20}, ["wrong_type:distance"]),
        ({"distance": 2**63 - 1}, ["out_of_range:distance"]),
        ({"distance": 2**63}, ["wrong_type:distance"]),
        ({"distance": -(2**63)}, ["out_of_range:distance"]),
        ({"distance": -(2**63) - 1}, ["wrong_type:distance"]),
        ({"distance": "9" * 5_000}, ["wrong_type:distance"]),
        ({"distance": "0" * 5_000 + "1400"}, []),
        ({"distance": "1400"}, []),
        ({"distance": " 1400\n"}, []),
        ({"origin": " EWR"}, ["not_allowed:origin"]),
        ({"time_hour": "yesterday"}, ["bad_timestamp:time_hour"]),
        ({"time_hour": "2013-02-30T10:00:00Z"}, ["bad_timestamp:time_hour"]),
        ({"time_hour": "2013-02-28 10:00:00"}, []),
        ({"event_id": None}, ["null:event_id"]),
        ({"event_time": 5}, ["bad_timestamp:event_time"]),
        ({"hour": 24, "origin": "SFO"}, ["not_allowed:origin", "out_of_range:hour"]),
        ({"unknown": 1}, []),
    ],
)
def test_every_fault_is_named(changes: dict[str, Any], reasons: list[str]) -> None:
    assert validation.faults(FLIGHTS, event("1", **changes)) == reasons


def test_a_key_may_not_be_null_whatever_its_column_says() -> None:
    columns = tuple(dataclasses.replace(column, nullable=True) for column in FLIGHTS.columns)
    lenient = dataclasses.replace(FLIGHTS, columns=columns)
    assert validation.faults(lenient, event("1", carrier=None, distance=None)) == ["null:carrier"]


def test_a_column_that_is_not_there_is_missing_even_where_null_is_allowed() -> None:
    record = event("1")
    del record["tailnum"], record["event_id"]
    assert validation.faults(FLIGHTS, record) == ["missing_column:event_id", "missing_column:tailnum"]


@pytest.mark.parametrize(("text", "reasons"), [
    ("1", []), ("-.5e3", []), ("1e999", ["wrong_type:temp"]), ("nan", ["wrong_type:temp"]), ("", ["wrong_type:temp"]),
])  # fmt: skip
def test_a_float_column_takes_any_number_but_infinity(text: str, reasons: list[str]) -> None:
    with_weather = dataclasses.replace(FLIGHTS, columns=(*FLIGHTS.columns, schema.Column("temp", "float")))
    assert validation.faults(with_weather, event("1", temp=text)) == reasons


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{", b"[]", b'"text"', b"null", b'{"a":1,"a":2}', b'{"a":NaN}', b'{"a":-Infinity}', b"\xff\xfe",
        '{"a":1}'.encode("utf-16"), b"[" * 60_000, b'{"a":' + b"9" * 5_000 + b"}", b"{} {}",
    ],
    ids=lambda data: repr(data[:12]),
)  # fmt: skip
def test_what_is_not_one_json_object_is_malformed(data: bytes) -> None:
    with pytest.raises(validation.MalformedError):
        validation.parse(data)


@pytest.mark.parametrize(("data", "reason"), [(b"{", "malformed"), (b'{"dest":"caf\xe9"}', "not_utf8")])
def test_a_record_in_another_encoding_has_a_reason_of_its_own(data: bytes, reason: str) -> None:
    with pytest.raises(validation.MalformedError) as raised:
        validation.parse(data)
    assert raised.value.reason == reason


@pytest.mark.parametrize("text", ["1400", " +001400 ", "0" * 5_000 + "1400"])
def test_the_model_is_asked_with_the_number_whatever_its_digits(text: str) -> None:
    assert validation.request(FLIGHTS, event("1", distance=text))["distance"] == 1400


def test_the_model_is_asked_with_the_request_columns_and_nothing_known_only_afterwards() -> None:
    asked = validation.request(FLIGHTS, event("1", distance="1400", temp=39.5, arr_delay=90))
    assert list(asked) == [column.name for column in FLIGHTS.request_columns]
    assert not set(asked) & set(FLIGHTS.leakage)
    assert (asked["distance"], asked["carrier"], asked["temp"], asked["seats"]) == (1400, "UA", 39.5, None)
    assert json.dumps(asked)
