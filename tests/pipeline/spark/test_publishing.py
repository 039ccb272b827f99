"""All or nothing: what cannot be used is one clear error, and whatever happens a rerun puts the table right."""

import gzip
import json
import shutil

import pytest
from pyspark.sql import functions as F  # noqa: N812

from pipeline.spark import curate as etl
from pipeline.spark.records import InputError
from pipeline.spark.storage import SUCCESS, Storage
from tests.pipeline.spark.raw import COLUMNS, Raw, csv_line, curated, event, flight, published


def as_arguments(raw):
    return [f"--{name}={value}" for name, value in vars(raw.places).items()]


@pytest.fixture(scope="module")
def first_run(spark, tmp_path_factory):
    """A bucket whose table has been published once: two months, and one record in quarantine."""
    root = tmp_path_factory.mktemp("first")
    raw = Raw(root)
    raw.batch(csv_line(flight()), csv_line(flight(time_hour="2013-06-01T10:00:00Z")), "malformed")
    etl.main(["--JOB_NAME", "curate", *as_arguments(raw), "--TempDir", "s3://x/y"])
    return root


@pytest.fixture
def table(first_run, tmp_path):
    """A copy of that bucket, for one test."""
    shutil.copytree(first_run, tmp_path, dirs_exist_ok=True)
    return Raw(tmp_path)


def test_the_script_takes_glue_s_own_flags_and_publishes(table):
    report = json.loads(table.report.read_text())
    assert {key: report[key] for key in ("rows_in", *etl.OUTCOMES)} == {
        "rows_in": 3,
        "rows_out": 2,
        "quarantined": 1,
        "duplicates": 0,
        "excluded": 0,
    }
    assert (table.curated / SUCCESS).exists()


def test_nothing_to_read_is_one_line_that_names_both_places(raw, spark):
    with pytest.raises(SystemExit, match=f"^curate: no record in {raw.root}/batch or {raw.root}/stream"):
        etl.main(as_arguments(raw))


@pytest.mark.parametrize("text", ["", ",".join(COLUMNS)])
def test_a_file_without_a_record_is_an_error(raw, run, text):
    raw.batch()
    (raw.root / "batch" / "flights.csv").write_text(text)
    with pytest.raises(InputError, match="no record in"):
        run(raw)
    assert published(raw) == {}


def test_a_file_without_a_header_is_named(raw, run):
    raw.batch(csv_line(flight()), header=[])
    with pytest.raises(InputError, match=r"batch/flights\.csv: the first line is empty"):
        run(raw)


def test_a_header_that_names_a_column_twice_is_refused(raw, run):
    raw.batch(csv_line(flight()), header=["month", "month"])
    with pytest.raises(InputError, match=r"flights\.csv: header names month more than once"):
        run(raw)


@pytest.mark.parametrize(
    ("first", "message"),
    [
        (b"m\xf6nth,day", "the first line is not UTF-8"),
        (b"a" * 131_073 + b",b", "the first line is no CSV header"),
    ],
    ids=["Latin-1", "one long line"],
)
def test_a_file_whose_first_line_cannot_be_a_header_is_named(raw, run, first, message):
    raw.batch()
    (raw.root / "batch" / "flights.csv").write_bytes(first + b"\n1,2\n")
    with pytest.raises(InputError, match=rf"batch/flights\.csv: {message}"):
        run(raw)


def test_a_file_that_spark_passes_over_is_named(table, run):
    before = published(table)
    table.batch(csv_line(flight(flight=2)), name="flights.csv._COPYING_")
    with pytest.raises(InputError, match=r"flights\.csv\._COPYING_: Spark does not read .* Rename it"):
        run(table)
    assert published(table) == before


@pytest.mark.parametrize(
    "cut",
    [
        "batch/half.csv.gz",
        pytest.param("stream/half.gz", marks=pytest.mark.deep),
        pytest.param("reference/planes/half.csv.gz", marks=pytest.mark.deep),
    ],
)
def test_a_truncated_file_is_named_with_the_remedy_and_nothing_is_published(table, cut, spark):
    before = published(table)
    random = "".join(f"{number * 7919 % 10007}," for number in range(20_000))
    whole = gzip.compress(f"{','.join(COLUMNS)}\n{csv_line(flight())}\n{random}\n".encode())
    path = table.root / cut
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SystemExit) as ended:
        etl.main(as_arguments(table))
    assert str(ended.value) == (
        f"curate: file:{path}: cannot be read to its end (Unexpected end of input stream). Upload it again, whole; nothing was published."
    )
    assert published(table) == before


def test_what_is_no_gzip_under_such_a_name_is_named(raw, spark):
    raw.batch(name="flights.csv.gz")
    with pytest.raises(
        SystemExit, match=r"batch/flights\.csv\.gz: cannot be read to its end \(not a gzip file\)"
    ):
        etl.main(as_arguments(raw))


@pytest.mark.deep
def test_while_the_table_changes_no_report_vouches_for_it(table, run, monkeypatch):
    def crash(*_):
        raise OSError("the disk is full")

    monkeypatch.setattr(Storage, "publish", crash)
    with pytest.raises(OSError, match="disk is full"):
        run(table)
    assert not table.report.exists()


def test_input_without_a_needed_column_says_which_and_leaves_the_old_table(table, run):
    before = published(table)
    columns = [name for name in COLUMNS if name != "time_hour"]
    table.batch(csv_line(flight(), columns), header=columns)
    with pytest.raises(
        InputError, match=r"0 good rows, fewer than the 1 needed.*missing_column:time_hour \(1\)"
    ):
        run(table)
    assert published(table) == before


def test_a_missing_reference_table_is_named(table, run):
    before = published(table)
    (table.root / "reference" / "planes" / "planes.csv").unlink()
    with pytest.raises(InputError, match=r"reference/planes: no file"):
        run(table)
    assert published(table) == before


@pytest.mark.deep
def test_a_reference_table_without_a_usable_row_says_why(table, run):
    (table.root / "reference" / "planes" / "planes.csv").write_text("tail,year\nN14228,1999\n")
    with pytest.raises(InputError, match=r"reference table planes: no usable row .*missing_column:tailnum"):
        run(table)


def test_a_record_unaccounted_for_publishes_nothing(table, run, monkeypatch):
    before = published(table)
    plane = {"tailnum": "N14228", "year": 1999}
    table.planes(plane, plane)
    # Broken on purpose: every row is the first of its key, so the plane given twice doubles its flights.
    monkeypatch.setattr(etl, "_place_among_equals", lambda _: F.lit(1))
    with pytest.raises(etl.AccountingError, match="rows_out = 2, but 4 were written"):
        run(table)
    assert published(table) == before


def test_a_source_whose_counts_do_not_add_up_is_refused():
    whole = {"rows_in": 2, "rows_out": 1, "quarantined": 1, "duplicates": 0, "excluded": 0}
    short = {**whole, "quarantined": 0}
    report = {
        **whole,
        "sources": {"batch": short, "stream": {**short, "rows_in": 1}},
        "months": {"2013-01": 1},
    }
    with pytest.raises(etl.AccountingError, match="batch: rows_in = 2, but"):
        etl._account(report)


@pytest.mark.deep
def test_a_crash_while_publishing_leaves_no_marker_and_no_report_and_a_rerun_heals(table, run, monkeypatch):
    table.batch(csv_line(flight()))
    table.stream(event(flight=2), event(flight=3, time_hour="2013-08-01T10:00:00Z"))
    write = Storage.write_text

    def crash_at_the_table_s_marker(self, location, text):
        if location == f"{table.curated}/{SUCCESS}":
            raise OSError("the disk is full")
        write(self, location, text)

    with monkeypatch.context() as patch:
        patch.setattr(Storage, "write_text", crash_at_the_table_s_marker)
        with pytest.raises(OSError, match="disk is full"):
            run(table)
    assert not table.report.exists()
    assert not (table.curated / SUCCESS).exists()
    report = run(table)
    assert (table.curated / SUCCESS).exists()
    assert json.loads(table.report.read_text()) == report
    # June is no longer in the data, and the quarantined record has gone.
    assert curated(table).column("event_month").to_pylist() == ["2013-01", "2013-01", "2013-08"]
    assert all(path.read_text() == "" for path in table.quarantine.glob("*.json"))
    assert sorted(path.name for path in table.curated.iterdir() if path.is_dir()) == [
        "event_month=2013-01",
        "event_month=2013-08",
    ]


def test_input_of_cancelled_flights_only_is_refused(raw, run):
    raw.stream(event(arr_delay=None))
    with pytest.raises(
        InputError, match=r"0 good rows.*of 1 records 0 were refused, 0 duplicates, 1 excluded"
    ):
        run(raw)
