"""Real flights with the replay's faults: the ETL equals an independent implementation, exactly."""

import json
import random

import pytest

from pipeline import schema as schemas
from pipeline.spark import curate as etl
from tests.pipeline.spark import oracle
from tests.pipeline.spark.raw import Raw, assert_equals_oracle, curated, published, quarantined
from tools import replay


def replayed_bucket(root, *, flights, seed):
    raw = Raw(root)
    raw.real_reference()
    sent = replay.events(flights=flights, seed=seed)
    uploaded, streamed = replay.split(sent, 0.4)
    replay.write_batch(uploaded, raw.root)
    for _ in replay.write_stream(streamed, raw.root):
        continue
    return raw, replay.manifest(sent, seed=seed)


@pytest.fixture(scope="module")
def replayed(tmp_path_factory, run):
    raw, manifest = replayed_bucket(tmp_path_factory.mktemp("replayed"), flights=4000, seed=5)
    return raw, manifest, run(raw)


def test_rows_values_and_counts_are_those_of_the_oracle(replayed):
    raw, _, report = replayed
    assert_equals_oracle(raw, report)


def test_the_faults_found_are_those_that_the_replay_injected(replayed):
    _, manifest, report = replayed
    assert report["rows_in"] == manifest["records"]
    expected = manifest["expected"]
    assert {key: report[key] for key in expected} == expected


def test_the_report_counts_what_stands_in_the_files(replayed):
    raw, _, report = replayed
    assert report["rows_out"] == curated(raw).num_rows == sum(report["months"].values())
    assert report["quarantined"] == len(quarantined(raw))
    assert json.loads(raw.report.read_text()) == report


def test_the_table_has_the_schema_s_columns_and_one_snappy_file_a_month(replayed):
    raw, _, report = replayed
    names = [column.name for column in schemas.load("flights").curated_columns]
    assert curated(raw).schema.names == [*names, etl.MONTH]
    files = sorted(path.relative_to(raw.curated).as_posix() for path in raw.curated.rglob("*.parquet"))
    assert [name.partition("/")[0] for name in files] == [
        f"event_month={month}" for month in report["months"]
    ]
    assert all(name.endswith(".snappy.parquet") for name in files)


def test_columns_that_the_schema_does_not_know_are_named_and_counted(replayed):
    stream = replayed[2]["sources"]["stream"]
    readable = stream["rows_in"] - stream["reasons"]["malformed"]
    assert replayed[2]["unknown_columns"] == {"event_id": readable, "event_time": readable}


@pytest.mark.deep
def test_a_rerun_gives_the_same_bytes(replayed, run):
    raw, _, report = replayed

    def without_random_names():
        return {name.partition("part-")[0]: data for name, data in published(raw).items()}

    before = without_random_names()
    assert run(raw) == report
    assert without_random_names() == before


@pytest.mark.deep
def test_neither_order_nor_files_nor_partitions_change_the_result(replayed, run, spark, tmp_path):
    raw, _, report = replayed
    other = Raw(tmp_path)
    other.real_reference()
    first, *lines = (raw.root / "batch" / "flights.csv").read_text().splitlines()
    random.Random(0).shuffle(lines)  # noqa: S311
    for part in range(3):
        other.batch(*lines[part::3], header=first.split(","), name=f"{part}.csv")
    events = [line.record for line in oracle.json_lines(raw.root / "stream")]
    random.Random(0).shuffle(events)  # noqa: S311
    other.stream(*events, name="all.gz")
    before = spark.conf.get("spark.sql.shuffle.partitions")
    spark.conf.set("spark.sql.shuffle.partitions", "7")
    try:
        assert run(other) == report
    finally:
        spark.conf.set("spark.sql.shuffle.partitions", before)
    assert curated(other).equals(curated(raw))
    assert sorted(entry[2] for entry in quarantined(other)) == sorted(entry[2] for entry in quarantined(raw))


@pytest.mark.deep
def test_every_flight_of_the_year_comes_out_as_the_oracle_says(run, tmp_path):
    raw, manifest = replayed_bucket(tmp_path, flights=336_776, seed=7)
    report = run(raw)
    assert_equals_oracle(raw, report)
    assert {key: report[key] for key in manifest["expected"]} == manifest["expected"]
