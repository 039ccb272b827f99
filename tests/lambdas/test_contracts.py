"""What the consumer takes is what the replay sends, and what it asks is what the model understands."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from lambdas import stream_batch
from local import spark
from pipeline import inference, schema
from tests.lambdas.flights import event, received
from tools import replay
from tools.assembly import ROOT

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


@pytest.mark.deep
def test_every_fault_of_a_replay_is_found_and_nothing_else_is_refused() -> None:
    sent = replay.events(flights=2_000, seed=7)
    batch = [received(position, event.json().encode()) for position, event in enumerate(sent)]
    found = stream_batch.triage(batch, FLIGHTS)
    expected = replay.manifest(sent, seed=7)["expected"]
    assert Counter(reason for reasons in found.refused.values() for reason in reasons) == expected["reasons"]
    assert len(found.duplicates) == expected["duplicates"]
    assert len(found.flights) == len(sent) - expected["quarantined"] - expected["duplicates"]


HARD_CASES: list[bytes] = [
    b"{}", b"[]", b"{", b'{"a":1}{"b":2}', b'{"event_id":"1","event_id":"2"}',
    *(
        json.dumps(event("1", dest="DEST")).encode().replace(b"DEST", dest)
        for dest in (b"caf\xe9", "caf\u00e9".encode(), "\ufffd".encode(), b"\xed\xa0\x80", b"\xc0\xaf", "\U0001f6eb".encode())
    ),
    *(
        json.dumps(event("1", **changes)).encode()
        for changes in (
            {}, {"carrier": None}, {"carrier": "ua"}, {"tailnum": None}, {"distance": "1400"}, {"distance": "14e2"},
            {"distance": 14.0}, {"distance": True}, {"distance": [1]}, {"distance": 6001}, {"distance": 10**19},
            {"time_hour": "2013-01-01 10:00:00"}, {"time_hour": "2013-02-30T10:00:00Z"}, {"time_hour": "2013-01-01"},
            {"time_hour": None}, {"origin": ""}, {"dest": 5}, {"hour": 24, "origin": "SFO", "dest": None},
            {"distance": " 1400 "}, {"time_hour": " 2013-01-01T10:00:00Z"}, {"distance": "1,400"}, {"minute": "+5"},
            *({"distance": edge} for edge in (2**63 - 1, 2**63, -(2**63), -(2**63) - 1, "0" * 30 + "1400")),
        )
    ),
    json.dumps({key: value for key, value in event("1").items() if key != "tailnum"}).encode(),
    json.dumps(event("1")).replace("1400", "NaN").encode(),
]  # fmt: skip

ETL = """
import json, sys
from pyspark.sql import SparkSession, functions
from pipeline import schema
from pipeline.spark import checks, records
flights = schema.load("flights")
spark = SparkSession.builder.master("local[1]").getOrCreate()
spark.conf.set("spark.sql.session.timeZone", "UTC")
spark.conf.set("spark.sql.ansi.enabled", "false")
names = [column.name for column in flights.columns]
found = records.read_json(spark, sys.argv[1], source="stream", columns=names)
rows = checks.typed(found, flights.columns, required=(*flights.key, flights.time_column))
rows = rows.select(functions.hex(records.RECORD), checks.REASONS).collect()
print(json.dumps({record: [x for x in why.split(checks.SEPARATOR) if x] for record, why in rows}))
"""


@pytest.mark.deep
def test_the_same_record_gets_the_same_judgement_here_and_in_the_etl(tmp_path: Path) -> None:
    folder = tmp_path / "stream"
    folder.mkdir()
    (folder / "part.json").write_bytes(b"\n".join(HARD_CASES) + b"\n")
    completed = subprocess.run(
        [sys.executable, "-c", ETL, str(folder)],
        env=spark.environment(tmp_path, [ROOT]),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    theirs = json.loads(completed.stdout.splitlines()[-1])
    ours = {}
    for position, data in enumerate(HARD_CASES):
        reasons = stream_batch.triage([received(position, data)], FLIGHTS).refused.get(0, [])
        # The ETL does not know the event's own fields.
        ours[data.hex().upper()] = [reason for reason in reasons if ":event_" not in reason]
    assert ours == theirs
