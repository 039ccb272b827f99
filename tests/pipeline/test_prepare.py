"""Prepare: the split by time, what is fitted on what, and what is refused before anything is written."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import curated, prepare
from pipeline.features import Transform
from pipeline.schema import ProblemType, Schema, Split
from pipeline.step import StepError
from tests.pipeline.conftest import Prepared, run_prepare

SPLIT = Split(train=0.7, validation=0.15)


def hours(numbers: list[int]) -> np.ndarray:
    return np.datetime64("2013-01-01T00", "s") + np.array(numbers) * np.timedelta64(1, "h")


def test_splits_follow_each_other_in_time(prepared: Prepared) -> None:
    summary = json.loads((prepared.transform / "summary.json").read_text())
    assert summary["train"]["last"] < summary["validation"]["first"]
    assert summary["validation"]["last"] < summary["test"]["first"]


def test_every_row_is_in_exactly_one_split(prepared: Prepared, flights: pa.Table) -> None:
    counts = [pq.read_table(folder / "data.parquet").num_rows for folder in prepared[:3]]
    assert sum(counts) == flights.num_rows
    shares = np.array(counts) / flights.num_rows
    assert shares == pytest.approx([0.7, 0.15, 0.15], abs=0.01)


@given(st.lists(st.integers(1, 60), min_size=2, max_size=30))
def test_rows_of_one_time_are_never_torn_apart(rows_an_hour: list[int]) -> None:
    times = hours(np.repeat(np.arange(len(rows_an_hour)), rows_an_hour).tolist())
    try:
        parts = prepare.cut(times, SPLIT).slices(len(times))
    except StepError:
        return
    seen = [set(times[part].tolist()) for part in parts.values()]
    assert all(seen)
    assert not seen[0] & seen[1]
    assert not seen[1] & seen[2]


def test_rows_at_the_boundarys_time_go_to_the_later_split() -> None:
    times = hours([0] * 100 + [1] * 60 + [2] * 20 + [3] * 20)
    assert prepare.cut(times, SPLIT) == prepare.Cuts(train=100, validation=160)


def test_too_few_rows_are_refused_with_the_minimum() -> None:
    with pytest.raises(StepError, match="199 rows: at least 200 are needed"):
        prepare.cut(hours(list(range(199))), SPLIT)


def test_rows_of_too_few_times_are_refused() -> None:
    with pytest.raises(StepError, match=r"2 distinct time\(s\) in 300 rows"):
        prepare.cut(hours([0] * 150 + [1] * 150), SPLIT)


def test_the_transform_is_fitted_on_the_training_rows_only(
    flights: pa.Table, flights_schema: Schema, prepared: Prepared
) -> None:
    ordered = flights.sort_by([(name, "ascending") for name in ("time_hour", "carrier", "flight")])
    train_rows = pq.read_table(prepared.train / "data.parquet").num_rows
    columns = curated.columns(ordered.slice(0, train_rows), flights_schema.request_columns)
    assert (prepared.transform / "transform.json").read_text() == Transform.fit(
        flights_schema, columns
    ).to_json()


def test_categories_that_only_later_rows_have_are_counted(prepared: Prepared) -> None:
    summary = json.loads((prepared.transform / "summary.json").read_text())
    assert summary["train"]["unseen_categories"] == {}
    assert summary["test"]["unseen_categories"]["dest"] > 0


def test_encoded_splits_are_float32_with_the_label_last(prepared: Prepared) -> None:
    table = pq.read_table(prepared.train / "data.parquet")
    assert set(table.schema.types) == {pa.float32()}
    assert table.column_names[-1] == "label"
    names = Transform.from_json((prepared.transform / "transform.json").read_text()).names
    assert table.column_names[:-1] == list(names)
    assert set(table.column("label").to_pylist()) == {0.0, 1.0}


def test_the_test_split_stays_raw(prepared: Prepared, flights_schema: Schema) -> None:
    table = pq.read_table(prepared.test / "data.parquet")
    assert table.column_names == [column.name for column in flights_schema.curated_columns]
    assert isinstance(table.column("carrier")[0].as_py(), str)


def test_two_runs_write_the_same_bytes(curated_dir: Path, prepared: Prepared, tmp_path: Path) -> None:
    again = run_prepare(curated_dir, tmp_path)
    for ours, theirs in zip(prepared, again, strict=True):
        for path in sorted(ours.iterdir()):
            assert path.read_bytes() == (theirs / path.name).read_bytes()


def test_a_regression_label_is_the_delay_itself(curated_dir: Path, tmp_path: Path) -> None:
    folders = run_prepare(curated_dir, tmp_path, "regression")
    labels = pq.read_table(folders.train / "data.parquet").column("label").to_numpy()
    assert labels.min() < -15
    assert labels.max() > 60


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize(("delay", "which"), [(0, "0"), (90, "1")])
def test_one_class_only_in_any_split_is_refused(
    flights: pa.Table, flights_schema: Schema, split: str, delay: int, which: str
) -> None:
    ordered = flights.sort_by("time_hour")
    times = ordered.column("time_hour").to_numpy().astype("datetime64[s]")
    delays = np.tile([0, 90], len(times))[: len(times)]
    delays[prepare.cut(times, flights_schema.split).slices(len(times))[split]] = delay
    at = ordered.column_names.index("arr_delay")
    ordered = ordered.set_column(at, "arr_delay", pa.array(delays, pa.int64()))
    with pytest.raises(StepError, match=f"{split} split: all .* labels are {which}. Both classes are needed"):
        prepare.prepare(ordered, flights_schema, "classification")
    prepare.prepare(ordered, flights_schema, "regression")


def test_a_null_time_is_refused(flights: pa.Table, flights_schema: Schema) -> None:
    at = flights.column_names.index("time_hour")
    times = [*flights.column("time_hour").to_pylist()[:-1], None]
    table = flights.set_column(at, "time_hour", pa.array(times, flights.schema.field("time_hour").type))
    with pytest.raises(StepError, match="time column time_hour: 1 rows are null"):
        prepare.prepare(table, flights_schema, "classification")


@pytest.mark.parametrize("problem_type", ["classification", "regression"])
def test_a_refusal_writes_nothing(
    flights: pa.Table, flights_schema: Schema, tmp_path: Path, problem_type: ProblemType
) -> None:
    at = flights.column_names.index("temp")
    temperatures = [float("inf"), *flights.column("temp").to_pylist()[1:]]
    (tmp_path / "in").mkdir()
    pq.write_table(flights.set_column(at, "temp", pa.array(temperatures)), tmp_path / "in" / "a.parquet")
    with pytest.raises(StepError, match=r"in: temp, row \d+: infinite"):
        run_prepare(tmp_path / "in", tmp_path / "out", problem_type)
    assert not (tmp_path / "out").exists()
