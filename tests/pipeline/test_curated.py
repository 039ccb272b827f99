"""Reading the curated table: what is refused, and that no file layout changes the result."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipeline import curated
from pipeline.schema import Schema
from pipeline.step import StepError


def write(table: pa.Table, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path)
    return path


def test_rows_are_sorted_by_time_and_key_whatever_the_files(
    flights: pa.Table, curated_dir: Path, flights_schema: Schema, tmp_path: Path
) -> None:
    backwards = flights.take(list(reversed(range(flights.num_rows))))
    write(backwards.slice(0, 1000), tmp_path / "b.parquet")
    write(backwards.slice(1000), tmp_path / "a.parquet")
    assert curated.read(tmp_path, flights_schema).equals(curated.read(curated_dir, flights_schema))


def test_only_the_schemas_columns_are_read(flights: pa.Table, flights_schema: Schema, tmp_path: Path) -> None:
    write(
        flights.append_column("extra", pa.nulls(flights.num_rows)),
        tmp_path / "event_month=2013-01" / "x.parquet",
    )
    names = [column.name for column in flights_schema.curated_columns]
    assert curated.read(tmp_path, flights_schema).column_names == names


def test_spark_marker_files_are_passed_over(
    flights: pa.Table, flights_schema: Schema, tmp_path: Path
) -> None:
    write(flights, tmp_path / "part.parquet")
    (tmp_path / "_temporary.parquet").write_text("not Parquet")
    assert curated.read(tmp_path, flights_schema).num_rows == flights.num_rows


def test_a_column_that_is_null_throughout_a_file_is_read(
    flights: pa.Table, flights_schema: Schema, tmp_path: Path
) -> None:
    at = flights.column_names.index("seats")
    write(flights.slice(0, 500).set_column(at, "seats", pa.nulls(500)), tmp_path / "a.parquet")
    write(flights.slice(500), tmp_path / "b.parquet")
    seats = curated.columns(curated.read(tmp_path, flights_schema), [flights_schema.column("seats")])["seats"]
    assert np.isnan(seats).sum() >= 500


def test_a_folder_without_parquet_is_refused(flights_schema: Schema, tmp_path: Path) -> None:
    (tmp_path / "flights.csv").write_text("a\n1\n")
    with pytest.raises(StepError, match="no Parquet file"):
        curated.read(tmp_path, flights_schema)


def test_files_without_rows_are_refused(flights: pa.Table, flights_schema: Schema, tmp_path: Path) -> None:
    write(flights.slice(0, 0), tmp_path / "a.parquet")
    with pytest.raises(StepError, match=r"1 Parquet file\(s\) without a row"):
        curated.read(tmp_path, flights_schema)


@pytest.mark.parametrize("content", [b"", b"carrier,dest\nAA,LAX\n"])
def test_an_empty_or_foreign_file_is_refused_by_name(
    flights_schema: Schema, tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "bad.parquet").write_bytes(content)
    with pytest.raises(StepError, match=r"bad\.parquet: not a Parquet file"):
        curated.read(tmp_path, flights_schema)


def test_missing_columns_are_named(flights: pa.Table, flights_schema: Schema, tmp_path: Path) -> None:
    write(flights.drop_columns(["temp", "dest"]), tmp_path / "a.parquet")
    with pytest.raises(StepError, match=r"a.parquet: missing column\(s\) dest, temp\. Known: time_hour"):
        curated.read(tmp_path, flights_schema)


@pytest.mark.parametrize(
    ("name", "kind"), [("hour", pa.string()), ("carrier", pa.int64()), ("time_hour", pa.int64())]
)
def test_a_column_of_the_wrong_type_is_refused(
    flights: pa.Table, flights_schema: Schema, tmp_path: Path, name: str, kind: pa.DataType
) -> None:
    at = flights.column_names.index(name)
    write(flights.set_column(at, name, pa.nulls(flights.num_rows).cast(kind)), tmp_path / "a.parquet")
    with pytest.raises(StepError, match=f"column {name} is {kind}, the schema says"):
        curated.read(tmp_path, flights_schema)


def test_times_are_utc_whatever_their_unit_and_zone(flights_schema: Schema) -> None:
    column = flights_schema.column("time_hour")
    instant = np.datetime64("2013-01-01T10:00:00", "s")
    for kind in (pa.timestamp("ns", "UTC"), pa.timestamp("us", "America/New_York"), pa.timestamp("ms")):
        table = pa.table(
            {"time_hour": pa.array([1_357_034_400], pa.int64()).cast(pa.timestamp("s")).cast(kind)}
        )
        assert curated.columns(table, [column])["time_hour"].tolist() == [instant.item()]


def test_late_is_more_than_fifteen_minutes(flights: pa.Table, flights_schema: Schema) -> None:
    table = flights.slice(0, 3).set_column(
        flights.column_names.index("arr_delay"), "arr_delay", pa.array([15, 16, -3], pa.int64())
    )
    assert curated.label(table, flights_schema, "classification").tolist() == [0.0, 1.0, 0.0]
    assert curated.label(table, flights_schema, "regression").tolist() == [15.0, 16.0, -3.0]


@pytest.mark.parametrize("bad", [None, float("nan"), float("inf")])
def test_a_label_that_is_no_number_is_refused_and_counted(
    flights: pa.Table, flights_schema: Schema, bad: float | None
) -> None:
    values = [*pc.cast(flights["arr_delay"], pa.float64()).to_pylist()[:-1], bad]
    table = flights.set_column(
        flights.column_names.index("arr_delay"), "arr_delay", pa.array(values, pa.float64())
    )
    with pytest.raises(StepError, match=f"arr_delay: 1 of {flights.num_rows} rows are null, NaN or infinite"):
        curated.label(table, flights_schema, "classification")
