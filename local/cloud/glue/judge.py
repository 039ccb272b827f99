"""A ruleset on the rows of one table of the catalog, read from S3. Runs in `.venv` with the evaluation's role.

Text is judged as text, as a crawler's string column is: an empty field of CSV is null, a torn line has nulls for what
is missing, a torn JSON object has nothing.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import boto3

from local.cloud.glue.dqdl import DqdlError, Rule, parse

Row = Mapping[str, str | None]


def judge(rules: Sequence[Rule], columns: Sequence[str], rows: Iterator[Row]) -> list[dict[str, Any]]:
    """The outcome of each rule, as GetDataQualityResult words it; one pass over the rows.

    A column has few distinct values of which most repeat, so values are counted first and judged once.
    """
    asked = sorted({rule.column for rule in rules if rule.share is not None} & set(columns))
    counts: dict[str, Counter[str | None]] = {column: Counter() for column in asked}
    total = 0
    for row in rows:
        total += 1
        for column, count in counts.items():
            count[row.get(column)] += 1
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


def csv_rows(text: io.TextIOBase, delimiter: str) -> Iterator[Row]:
    """Rows by the names of the file's own header, in lower case as the catalog has them."""
    lines = csv.reader(text, delimiter=delimiter)
    header = [name.strip().lower() for name in next(lines, [])]
    for values in lines:
        if values:
            yield {name: value or None for name, value in zip(header, values, strict=False)}


def json_rows(text: io.TextIOBase) -> Iterator[Row]:
    """One row a line; a value that is no string counts as its JSON text."""
    for line in text:
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = {}
        yield {
            name.lower(): value if value is None or isinstance(value, str) else json.dumps(value)
            for name, value in (row.items() if isinstance(row, dict) else ())
        }


def read(s3: Any, table: Mapping[str, Any]) -> Iterator[Row]:
    """All rows of a table of CSV or JSON lines, plain or gzip."""
    form = table["Parameters"].get("classification")
    delimiter = table["Parameters"].get("delimiter", ",")
    readers: dict[str, Callable[[io.TextIOBase], Iterator[Row]]] = {
        "csv": lambda text: csv_rows(text, delimiter),
        "json": json_rows,
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


def main() -> None:
    """Read the question, judge, write the outcomes."""
    question, answer = map(Path, sys.argv[1:3])
    asked = json.loads(question.read_text())
    table = asked["table"]
    described = [*table["StorageDescriptor"]["Columns"], *table["PartitionKeys"]]
    columns = [column["Name"] for column in described]
    outcomes = judge(parse(asked["ruleset"]), columns, read(boto3.client("s3"), table))
    answer.write_text(json.dumps(outcomes))


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # noqa: BLE001 - the run's error string is this last line
        sys.exit(str(error))
