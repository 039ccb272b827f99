"""Reading the curated table: Parquet files in, checked columns out, in an order that no file layout changes."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.features import Array, Columns
from pipeline.schema import Column, ColumnType, ProblemType, Schema
from pipeline.step import StepError

_ARROW_TYPES: dict[ColumnType, tuple[Any, ...]] = {
    "int": (pa.types.is_integer,),
    "float": (pa.types.is_floating, pa.types.is_integer),
    "string": (pa.types.is_string, pa.types.is_large_string),
    "timestamp": (pa.types.is_timestamp,),
}


def read(directory: Path, schema: Schema) -> pa.Table:
    """Every row of a curated table or of the test split, sorted by time and key.

    `directory` holds Parquet files, at its top or in partition folders. Only `schema.curated_columns` are read.
    Raises `StepError` if there is no file, no row, a column too few, or one of another type than the schema's.
    """
    files = sorted(path for path in directory.rglob("*.parquet") if not path.name.startswith(("_", ".")))
    if not files:
        raise StepError(
            f"{directory}: no Parquet file. Point the step at the curated table, or run the ETL first."
        )
    wanted = {column.name: column for column in schema.curated_columns}
    tables = [_read_file(path, wanted) for path in files]
    table = pa.concat_tables(tables, promote_options="permissive")
    if not table.num_rows:
        raise StepError(
            f"{directory}: {len(files)} Parquet file(s) without a row. Run the ETL on data first."
        )
    # Spark writes rows in any order; a model must not depend on it.
    order = dict.fromkeys((schema.time_column, *schema.key))
    return table.sort_by([(name, "ascending") for name in order])


def _read_file(path: Path, wanted: dict[str, Column]) -> pa.Table:
    try:
        # One file at a time: a dataset reader would add the partition folder's name as a column.
        file = pq.ParquetFile(path)
        found = file.schema_arrow
    except (pa.ArrowInvalid, OSError) as error:
        raise StepError(f"{path}: not a Parquet file ({error}). Remove it, or run the ETL again.") from error
    if missing := sorted(set(wanted) - set(found.names)):
        raise StepError(f"{path}: missing column(s) {', '.join(missing)}. Known: {', '.join(found.names)}.")
    for name, column in wanted.items():
        kind = found.field(name).type
        if not any(check(kind) for check in _ARROW_TYPES[column.type]) and not pa.types.is_null(kind):
            raise StepError(
                f"{path}: column {name} is {kind}, the schema says {column.type}. Run the ETL with this schema."
            )
    return file.read(columns=list(wanted))


def columns(table: pa.Table, wanted: Iterable[Column]) -> Columns:
    """Arrow columns as the arrays that `pipeline.features` takes."""
    return {column.name: _array(table.column(column.name), column.type) for column in wanted}


def _array(values: pa.ChunkedArray, kind: ColumnType) -> Array:
    if kind == "string":
        return np.array(values.to_pylist(), dtype=object)
    if kind == "timestamp":
        # Arrow stores instants in UTC; a time without a zone is taken as UTC.
        return np.asarray(values.to_numpy(), dtype="datetime64[s]")
    return np.asarray(values.cast(pa.float64()).to_numpy())


def label(table: pa.Table, schema: Schema, problem_type: ProblemType) -> Array:
    """What is predicted: 0 or 1 for classification, the label column's value for regression; float64 (rows,).

    Raises `StepError` for a missing or infinite label: such a row is an exclusion of the schema, not a guess.
    """
    name = schema.label.column
    values = _array(table.column(name), schema.column(name).type).astype(np.float64)
    if count := int((~np.isfinite(values)).sum()):
        raise StepError(
            f"label column {name}: {count} of {len(values)} rows are null, NaN or infinite. "
            f"Exclude them by rule (schema key 'exclusions') and run the ETL again."
        )
    return (
        (values > schema.label.greater_than).astype(np.float64)
        if problem_type == "classification"
        else values
    )
