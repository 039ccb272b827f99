"""Prepare (a SageMaker Processing job): curated table in; encoded train and validation, raw test, transform out.

The split is by time, because a model is asked about the future; the transform is fitted on the training rows only,
because anything else would tell the model about rows it is later judged on (docs/decisions/0051). The test split
stays raw: evaluation sends it through the model's own copy of the transform, as a request would go.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import curated, schema, step
from pipeline.features import Array, FeatureError, Matrix, Transform
from pipeline.schema import ProblemType, Schema
from pipeline.step import StepError

# Below this a split has too few rows to say anything: 15 % of 200 are 30.
MINIMUM_ROWS = 200


@dataclasses.dataclass(frozen=True)
class Cuts:
    """Row numbers, in order of time: train is [0, train), validation [train, validation), test the rest."""

    train: int
    validation: int

    def slices(self, rows: int) -> dict[str, slice]:
        """The three splits of `rows` rows."""
        return {
            "train": slice(0, self.train),
            "validation": slice(self.train, self.validation),
            "test": slice(self.validation, rows),
        }


def cut(times: Array, split: schema.Split) -> Cuts:
    """Cut sorted `times` (rows,) at the schema's fractions, never between rows of the same time.

    Rows that share the boundary's time go to the later split. Raises `StepError` if a split would be empty.
    """
    rows = len(times)
    if rows < MINIMUM_ROWS:
        raise StepError(
            f"{rows} rows: at least {MINIMUM_ROWS} are needed to train, validate and test. Bring more."
        )
    marks = [int(rows * split.train), int(rows * (split.train + split.validation))]
    first, second = (int(np.searchsorted(times, times[mark], side="left")) for mark in marks)
    if not 0 < first < second < rows:
        raise StepError(
            f"{len(np.unique(times))} distinct time(s) in {rows} rows: too few to split by time without tearing rows of "
            "the same time apart. Bring data over a longer time, or a finer time column."
        )
    return Cuts(first, second)


def check_classes(labels: Array, name: str) -> None:
    """Refuse a split (`name`) of one class only: nothing can be learned from it, nor an AUC computed on it."""
    if len(values := np.unique(labels)) < 2:
        raise StepError(
            f"{name} split: all {len(labels)} labels are {int(values[0])}. Both classes are needed: bring more data, or "
            "change the schema's label.greater_than."
        )


def encode(matrix: Matrix, labels: Array, names: Sequence[str]) -> pa.Table:
    """Features and label as float32 columns; the last is called `label`."""
    arrays = [pa.array(matrix[:, i]) for i in range(matrix.shape[1])]
    return pa.Table.from_arrays([*arrays, pa.array(labels.astype(np.float32))], names=[*names, "label"])


def summarize(times: Array, slices: dict[str, slice], unseen: dict[str, dict[str, int]]) -> dict[str, object]:
    """Rows, first and last time (UTC) and unseen categories of each split."""
    return {
        name: {
            "rows": part.stop - part.start,
            "first": f"{times[part][0]}Z",
            "last": f"{times[part][-1]}Z",
            "unseen_categories": unseen.get(name, {}),
        }
        for name, part in slices.items()
    }


def prepare(
    table: pa.Table, data: Schema, problem_type: ProblemType
) -> tuple[dict[str, pa.Table], Transform, dict[str, object]]:
    """Split, fit and encode a sorted curated table: the three tables, the fitted transform, and the summary."""
    times = curated.columns(table, [data.column(data.time_column)])[data.time_column]
    if np.isnat(times).any():
        raise StepError(
            f"time column {data.time_column}: {int(np.isnat(times).sum())} rows are null. Quarantine them."
        )
    slices = cut(times, data.split).slices(len(times))
    labels = curated.label(table, data, problem_type)
    parts = {name: table.slice(part.start, part.stop - part.start) for name, part in slices.items()}
    if problem_type == "classification":
        for name, part in slices.items():
            check_classes(labels[part], name)
    requests = {name: curated.columns(part, data.request_columns) for name, part in parts.items()}
    transform = Transform.fit(data, requests["train"])
    tables, unseen = {"test": parts["test"]}, {}
    for name in ("train", "validation"):
        matrix, unseen[name] = transform.apply(requests[name])
        tables[name] = encode(matrix, labels[slices[name]], transform.names)
    # The test split is encoded here only to count: what a model would not know must not come as a surprise.
    unseen["test"] = transform.apply(requests["test"])[1]
    return tables, transform, summarize(times, slices, {k: dict(v) for k, v in unseen.items()})


def main(argv: Sequence[str]) -> None:
    """Parse, read, call, write."""
    flags = step.parser("prepare", __doc__)
    processing = "/opt/ml/processing"
    flags.add_argument("--schema", default="flights", help="a name in pipeline/schemas/, or a path")
    flags.add_argument("--problem-type", choices=get_args(ProblemType), default="classification")
    flags.add_argument("--input", type=Path, default=Path(f"{processing}/input/data"))
    for name in ("train", "validation", "test", "transform"):
        flags.add_argument(f"--{name}", type=Path, default=Path(f"{processing}/output/{name}"))
    options = flags.parse_args(argv)

    data = schema.load(options.schema)
    try:
        tables, transform, summary = prepare(curated.read(options.input, data), data, options.problem_type)
    except FeatureError as error:
        raise StepError(f"{options.input}: {error}") from error

    for name, table in tables.items():
        folder: Path = getattr(options, name)
        folder.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, folder / "data.parquet")
    options.transform.mkdir(parents=True, exist_ok=True)
    (options.transform / "transform.json").write_text(transform.to_json())
    (options.transform / "summary.json").write_text(json.dumps(summary, indent=1))
    print(json.dumps(summary))


if __name__ == "__main__":
    sys.exit(step.run(main, reason_file="message"))
