"""Every kind of fault has its reason, and the whole record is kept; what is merely unusual is kept as it is."""

import json

import pytest

from pipeline.spark import curate as etl
from tests.pipeline.spark.raw import COLUMNS, Raw, csv_line, curated, event, flight, quarantined

DEST = "DEST"
# What is wrong with a line of CSV → its reasons. The destination tells the rows apart.
CSV_FAULTS = {
    "2013,1,1": ["malformed"],
    f"{csv_line(flight(dest='c0'))},extra": ["malformed"],
    '"' + csv_line(flight(dest="c1")): ["malformed"],
    csv_line(flight(dest="c2", carrier=None)): ["null:carrier"],
    csv_line(flight(dest="c3", carrier="")): ["null:carrier"],
    csv_line(flight(dest="c4", carrier="ZZ")): ["not_allowed:carrier"],
    csv_line(flight(dest="c5", carrier=" UA")): ["not_allowed:carrier"],
    csv_line(flight(dest="c6", month=13)): ["out_of_range:month"],
    csv_line(flight(dest="c7", month=0)): ["out_of_range:month"],
    csv_line(flight(dest="c8", month="May")): ["wrong_type:month"],
    csv_line(flight(dest="c9", month="5.0")): ["wrong_type:month"],
    csv_line(flight(dest="c10", month="5e0")): ["wrong_type:month"],
    csv_line(flight(dest="c11", month="NaN")): ["wrong_type:month"],
    csv_line(flight(dest="c12", distance="9" * 20)): ["wrong_type:distance"],
    csv_line(flight(dest="c12a", distance=2**63 - 1)): ["out_of_range:distance"],
    csv_line(flight(dest="c12b", distance=2**63)): ["wrong_type:distance"],
    csv_line(flight(dest="c12c", distance=-(2**63))): ["out_of_range:distance"],
    csv_line(flight(dest="c12d", distance=-(2**63) - 1)): ["wrong_type:distance"],
    csv_line(flight(dest="c13", time_hour="yesterday")): ["bad_timestamp:time_hour"],
    csv_line(flight(dest="c14", time_hour="2013-02-30T10:00:00Z")): ["bad_timestamp:time_hour"],
    csv_line(flight(dest="c15", time_hour="2013-01-01")): ["bad_timestamp:time_hour"],
    csv_line(flight(dest="c16", time_hour=None)): ["null:time_hour"],
    # Latin-1: é and è. Read all the same, these two would be one flight.
    csv_line(flight(dest="caf\udce9")): ["not_utf8"],
    csv_line(flight(dest="caf\udce8")): ["not_utf8"],
    csv_line(flight(dest="c17", month=0, carrier=None, hour="x")): [
        "out_of_range:month",
        "null:carrier",
        "wrong_type:hour",
    ],
}
JSON_FAULTS = {
    event(dest="j0")[:50]: ["malformed"],
    "not json": ["malformed"],
    "null": ["malformed"],
    "[]": ["malformed"],
    "7": ["malformed"],
    event(dest="j1") + event(dest="j2"): ["malformed"],
    event(dest="j3") + "," + event(dest="j4"): ["malformed"],
    event(dest="j5") + "] lost": ["malformed"],
    '{"month": 1, ' + event(dest="j6")[1:]: ["malformed"],
    event(dest="j7").replace("1400", "NaN"): ["malformed"],
    event(dest="j8").replace('"', "'"): ["malformed"],
    event(dest="j9").replace('"month"', '"Month"'): ["missing_column:month"],
    event(dest="j10").replace('"tailnum"', '"tail"'): ["missing_column:tailnum"],
    event(dest="j11", flight=None): ["null:flight"],
    event(dest="j12", distance="far"): ["wrong_type:distance"],
    event(dest="j13", distance=5.5): ["wrong_type:distance"],
    event(dest="j14", distance=True): ["wrong_type:distance"],
    event(dest="j15", distance=[1]): ["wrong_type:distance"],
    event(dest="DEST").replace("DEST", "caf\udce9"): ["not_utf8"],
    event(dest="DEST").replace("DEST", "\udced\udca0\udc80"): ["not_utf8"],  # a surrogate, as CESU-8 has it
    event(dest="j15a", distance=2**63 - 1): ["out_of_range:distance"],
    event(dest="j15b", distance=2**63): ["wrong_type:distance"],
    event(dest="j16", dep_delay=-121): ["out_of_range:dep_delay"],
    "{}": [f"missing_column:{name}" for name in COLUMNS],
}


@pytest.fixture(scope="module")
def bucket(tmp_path_factory, run):
    raw = Raw(tmp_path_factory.mktemp("faults"))
    raw.batch(*CSV_FAULTS, name="faults.csv")
    raw.batch("", "  ", csv_line(flight(flight=1, month=" 1 ")), ",".join(COLUMNS), name="blank lines.csv")
    raw.batch(csv_line(flight(flight=2, dest='"a ""b"", c"')), name="quoted.csv")
    raw.batch(csv_line(flight(flight=3)), name="marked.csv")
    marked = raw.root / "batch" / "marked.csv"
    marked.write_bytes(b"\xef\xbb\xbf" + marked.read_bytes().replace(b"\n", b"\r\n"))
    (raw.root / "batch" / "empty.csv").write_text("")
    raw.batch(name="only a header.csv")
    # To Hadoop's globs, the second of these names would mean the first.
    raw.batch(csv_line(flight(flight=13)), name="a1.csv")
    raw.batch(csv_line(flight(flight=14, dest="\ufffd")), name="a[1].csv")
    raw.batch(csv_line(flight(flight=15)), name="{a,b}*?\\.csv")
    raw.batch(csv_line(flight(flight=1, dest="hidden")), name=".trash/a.csv")
    other = ["weather_note", *reversed(COLUMNS)]
    raw.batch(csv_line({**flight(flight=4), "weather_note": "fog"}, other), header=other, name="columns.csv")
    short = [name for name in COLUMNS if name != "dest"]
    raw.batch(csv_line(flight(flight=5), short), header=short, name="short.csv")
    raw.stream(
        *JSON_FAULTS,
        event(flight=6, dep_time=None, tailnum=None),
        event(flight=7, time_hour="2013-05-01T08:00:00+02:00"),
        event(flight=8, time_hour="0001-01-01 00:00:00"),
        event(flight=9, dest=" é ", extra={"nested": [1]}),
        event(flight=10, month="1"),
        event(flight=11, arr_delay=None),
    )
    raw.stream(event(flight=16), name="year={2013}/part-1.gz")
    # One flight four times, one of them cancelled: of equals the batch's stays, and then the first by text.
    raw.batch(csv_line(flight(flight=12, dest="b")), csv_line(flight(flight=12, dest="a")), name="twice.csv")
    raw.stream(event(flight=12, dest="A"), event(flight=12, arr_delay=None), name="year=2014/late.gz")
    raw.weather(
        {"origin": "EWR", "time_hour": "2013-01-01T10:00:00Z", "temp": 50.5},
        {"origin": "EWR", "time_hour": "2013-01-01T10:00:00Z", "temp": 39.02},
        {"origin": "EWR", "time_hour": "2013-01-01T10:00:00Z", "temp": 39.02},
        {"origin": "EWR", "time_hour": "noon", "temp": "inf"},
    )
    return raw, run(raw)


@pytest.fixture(scope="module")
def reasons(bucket):
    return {record: list(why) for _, _, record, why in quarantined(bucket[0])}


@pytest.fixture(scope="module")
def rows(bucket):
    return {row["flight"]: row for row in curated(bucket[0]).to_pylist()}


@pytest.mark.parametrize("line", CSV_FAULTS)
def test_a_faulty_line_of_csv_is_kept_whole_with_its_reasons(line, reasons):
    assert reasons[line] == CSV_FAULTS[line]


@pytest.mark.parametrize("line", JSON_FAULTS)
def test_a_faulty_line_of_the_stream_is_kept_whole_with_its_reasons(line, reasons):
    assert reasons[line] == JSON_FAULTS[line]


def test_a_record_that_is_not_utf8_is_kept_to_the_byte_and_can_be_read_by_eye(bucket):
    lines = [line for path in bucket[0].quarantine.glob("*.json") for line in path.read_text().splitlines()]
    found = [entry for entry in map(json.loads, lines) if entry["reasons"] == ["not_utf8"]]
    assert len(found) == 4
    assert sum("caf\ufffd" in entry["record"] for entry in found) == 3
    assert not any("data" in entry for entry in map(json.loads, lines) if entry not in found)


def test_the_quarantine_says_where_a_record_came_from(bucket):
    origins = {record: (source, file) for source, file, record, _ in quarantined(bucket[0])}
    assert origins["2013,1,1"] == ("batch", "faults.csv")
    assert origins["not json"] == ("stream", "year=2013/month=01/day=01/hour=10/part-1.gz")


def test_a_file_without_a_column_is_quarantined_row_by_row_and_the_other_files_are_not(bucket):
    entries = {file: why for _, file, _, why in quarantined(bucket[0])}
    assert entries["short.csv"] == ("missing_column:dest",)


def test_every_other_row_is_kept(rows):
    assert sorted(rows) == [1, 2, 3, 4, *range(6, 11), *range(12, 17)]


def test_a_replacement_character_that_was_there_is_text_like_any_other(rows):
    assert rows[14]["dest"] == "\ufffd"


def test_each_file_s_own_header_says_which_column_is_which(rows, bucket):
    assert rows[4]["distance"] == 1400
    assert bucket[1]["sources"]["batch"]["unknown_columns"] == {"weather_note": 1}


def test_text_is_kept_as_it_is(rows):
    assert rows[2]["dest"] == 'a "b", c'
    assert rows[9]["dest"] == " é "


def test_white_space_around_a_number_is_ignored_and_a_quoted_number_is_a_number(rows):
    assert 1 in rows
    assert 10 in rows


def test_times_are_utc_and_an_event_lands_in_its_own_month(rows):
    assert rows[7]["time_hour"].isoformat() == "2013-05-01T06:00:00+00:00"
    assert [rows[number]["event_month"] for number in (1, 7, 8)] == ["2013-01", "2013-05", "0001-01"]


def test_of_equal_keys_the_batch_s_first_text_stays_and_the_others_are_counted(rows, bucket):
    assert rows[12]["dest"] == "a"
    assert {source: part["duplicates"] for source, part in bucket[1]["sources"].items()} == {
        "batch": 1,
        "stream": 2,
    }


def test_a_flight_that_never_arrived_is_excluded_by_rule(rows, bucket):
    assert 11 not in rows
    assert bucket[1]["exclusions"] == {"cancelled_or_diverted": 1}


def test_a_reference_row_given_twice_joins_once_and_the_first_text_wins(rows, bucket):
    assert rows[1]["temp"] == 39.02
    assert bucket[1]["reference"]["weather"] == {"rows": 4, "quarantined": 1, "duplicates": 2}


def test_a_faulty_reference_row_is_quarantined_beside_the_records(bucket):
    entries = [entry for entry in quarantined(bucket[0]) if entry[0] == "reference/weather"]
    assert [entry[3] for entry in entries] == [("bad_timestamp:time_hour", "wrong_type:temp")]


def test_reference_columns_are_joined_typed_and_renamed_and_null_where_there_is_no_partner(rows):
    assert (rows[1]["plane_year"], rows[1]["seats"]) == (1999, 149)
    assert (rows[6]["plane_year"], rows[7]["temp"]) == (None, None)


def test_every_record_has_exactly_one_outcome(bucket):
    report = bucket[1]
    records = len(CSV_FAULTS) + len(JSON_FAULTS) + 8 + 7 + 4
    assert report["rows_in"] == records == sum(report[key] for key in etl.OUTCOMES)
    assert report["rows_out"] == 14
