"""A ruleset on the rows of one table of the catalog, read from S3. Runs in `.venv` with the evaluation's role.

Text is judged as text, as a crawler's string column is: an empty field of CSV is null, a torn line has nulls for what
is missing, a torn JSON object has nothing.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import boto3

from local.cloud.glue import question
from local.cloud.glue.dqdl import DqdlError, Rule, parse

T = TypeVar("T")
# Column names, and rows in their order; a row that is too short has nulls for the rest.
Batch = tuple[Sequence[str], Sequence[Sequence[str | None]]]

ROWS = 10_000  # in a batch: all rows of a year at once would take the memory of a laptop


def judge(rules: Sequence[Rule], columns: Sequence[str], batches: Iterator[Batch]) -> list[dict[str, Any]]:
    """The outcome of each rule, as GetDataQualityResult words it; one pass over the rows.

    A column has few distinct values of which most repeat, so values are counted first and judged once.
    """
    asked = sorted({rule.column for rule in rules if rule.share is not None} & set(columns))
    counts: dict[str, Counter[str | None]] = {column: Counter() for column in asked}
    total = 0
    for header, rows in batches:
        total += len(rows)
        values = dict(zip(header, itertools.zip_longest(*rows), strict=False))
        for column, count in counts.items():
            count.update(values.get(column, itertools.repeat(None, len(rows))))
    return [_outcome(number, rule, columns, counts, total) for number, rule in enumerate(rules, start=1)]


def _outcome(
    number: int, rule: Rule, columns: Sequence[str], counts: Mapping[str, Counter[str | None]], total: int
) -> dict[str, Any]:
    outcome: dict[str, Any] = {
        "Name": f"Rule_{number}",
        "Description": rule.text,
        "EvaluatedRule": rule.text,
        "Result": "PASS",
    }
    if rule.column not in columns:
        return outcome | {
            "Result": "FAIL",
            "EvaluationMessage": f"Input data does not include column {rule.column}!",
        }
    if rule.share is None:
        return outcome
    met = sum(count for value, count in counts[rule.column].items() if rule.holds(value))
    share = met / total if total else 0.0
    outcome["EvaluatedMetrics"] = {f"Column.{rule.column}.{rule.kind}": share}
    if share < rule.share:
        outcome |= {
            "Result": "FAIL",
            "EvaluationMessage": f"Value: {share} does not meet the constraint requirement!",
        }
    return outcome


def csv_batches(text: io.TextIOBase, delimiter: str) -> Iterator[Batch]:
    """Rows under the names of the file's own header, in lower case as the catalog has them."""
    lines = csv.reader(text, delimiter=delimiter)
    header = [name.strip().lower() for name in next(lines, [])]
    rows = ([value or None for value in row] for row in lines if row)
    for batch in _batches(rows):
        yield header, batch


def json_batches(text: io.TextIOBase) -> Iterator[Batch]:
    """One row a line; a value that is no string counts as its JSON text."""
    for batch in _batches(_json_row(line) for line in text if line.strip()):
        header = sorted({name for row in batch for name in row})
        yield header, [[row.get(name) for name in header] for row in batch]


def _json_row(line: str) -> dict[str, str | None]:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    return {
        name.lower(): value if value is None or isinstance(value, str) else json.dumps(value)
        for name, value in (row.items() if isinstance(row, dict) else ())
    }


def _batches(rows: Iterator[T]) -> Iterator[list[T]]:
    while batch := list(itertools.islice(rows, ROWS)):
        yield batch


def read(s3: Any, table: Mapping[str, Any]) -> Iterator[Batch]:
    """All rows of a table of CSV or JSON lines, plain or gzip."""
    form = table["Parameters"].get("classification")
    delimiter = table["Parameters"].get("delimiter", ",")
    readers: dict[str, Callable[[io.TextIOBase], Iterator[Batch]]] = {
        "csv": lambda text: csv_batches(text, delimiter),
        "json": json_batches,
    }
    if form not in readers:
        raise DqdlError(f"a table of {form} is unsupported in the embedded cloud")
    bucket, _, prefix = table["StorageDescriptor"]["Location"].removeprefix("s3://").partition("/")
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", []):
            if item["Size"] and not item["Key"].rpartition("/")[2].startswith(("_", ".")):
                data = s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
                data = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
                yield from readers[form](io.StringIO(data.decode("utf-8-sig", errors="replace")))


def _outcomes(asked: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The outcome of each rule of a ruleset."""
    table = asked["table"]
    described = [*table["StorageDescriptor"]["Columns"], *table["PartitionKeys"]]
    columns = [column["Name"] for column in described]
    return judge(parse(asked["ruleset"]), columns, read(boto3.client("s3"), table))


if __name__ == "__main__":
    question.answer(_outcomes)
