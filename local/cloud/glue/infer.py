"""What a crawler finds in S3: format, schema, types and partitions. Runs in `.venv` with the crawler role's session.

As Glue's built-in classifiers do: CSV with a header (bigint, double, string), JSON lines, Parquet by its footer, each
plain or gzip. A text file is judged by its first mebibyte. Folders are partitions, `key=value` names them. What would
need a custom classifier, or several tables in one folder, is an error.
Sources: "Built-in classifiers" and "How a crawler determines when to create partitions", AWS Glue User Guide.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import io
import json
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq

from local.cloud.glue import question

SAMPLE_BYTES = 1 << 20
DELIMITERS = ",|\t;\x01"
LONGEST_HEADER = 150
_INT32 = 1 << 31
_WORD = re.compile(r"[^0-9a-z_]")


class InferError(Exception):
    """Data of which no table can be made; the message names the object."""


def infer(s3: Any, path: str, exclusions: Sequence[str]) -> dict[str, Any] | None:
    """The table that the objects in the folder `path` make, or the one object of that name; None without any.

    An object that no classifier knows is left out, and named in `left_out`: a record of poison, alone in its object,
    must not keep the rest from its table. `InferError` if all are such, or two are of different formats.
    """
    bucket, _, prefix = path.removeprefix("s3://").partition("/")
    folder = prefix if prefix.endswith("/") or not prefix else f"{prefix}/"
    excluded = [re.compile(pattern(glob)) for glob in exclusions]
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
    objects = [
        (item["Key"], item["Size"])
        for page in pages
        for item in page.get("Contents", [])
        if item["Size"]
        and (
            item["Key"] == prefix or item["Key"].startswith(folder)
        )  # not a folder whose name only begins so
        and not any(match.fullmatch(item["Key"][len(folder) :]) for match in excluded)
    ]
    if not objects:
        return None
    found, left_out = [], {}
    for key, size in objects:
        try:
            found.append(_object(s3, bucket, key, size))
        except (InferError, pa.ArrowInvalid, zlib.error) as error:
            left_out[key] = f"s3://{bucket}/{key}: {error}"
    if not found:
        raise InferError(next(iter(left_out.values())))
    objects = [(key, size) for key, size in objects if key not in left_out]
    first = found[0]
    for key, other in zip((key for key, _ in objects), found, strict=True):
        if any(other[name] != first[name] for name in ("format", "compressed", "delimiter")):
            raise InferError(f"s3://{bucket}/{key} is of another format than s3://{bucket}/{objects[0][0]}")
    keys, partitions = folders([key[len(folder) :] for key, _ in objects])
    size = sum(size for _, size in objects)
    average = max(1, round(sum(part["average"] for part in found) / len(found)))
    return {
        "path": path if objects[0][0] == prefix else f"s3://{bucket}/{folder}",
        "format": first["format"],
        "compressed": first["compressed"],
        "delimiter": first["delimiter"],
        "columns": [
            {"Name": name, "Type": kind or "string"}
            for name, kind in merge([part["columns"] for part in found]).items()
        ],
        "keys": keys,
        "partitions": partitions,
        "left_out": list(left_out.values()),
        "objects": len(objects),
        "size": size,
        "average": average,
    }


def pattern(glob: str) -> str:
    """A crawler's exclude pattern as a regular expression: `*` stays within a folder, `**` does not."""
    if set(glob) & set("[]{}\\"):
        raise InferError(f"exclude pattern {glob}: only *, ** and ? are supported in the embedded cloud")
    parts = re.split(r"(\*\*|\*|\?)", glob)
    meaning = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(meaning.get(part, re.escape(part)) for part in parts)


def folders(names: Sequence[str]) -> tuple[list[str], list[dict[str, Any]]]:
    """Partition keys, and each partition's values and folder, of object names below the table's folder."""
    paths = sorted({tuple(name.split("/")[:-1]) for name in names})
    if len({len(path) for path in paths}) > 1:
        raise InferError("files at different depths make several tables; one folder is one table here")
    keys: list[str] = []
    for level in range(len(paths[0])):
        labels = {path[level].partition("=")[0] if "=" in path[level] else None for path in paths}
        label = labels.pop() if len(labels) == 1 else None
        keys.append(_name(label) if label else f"partition_{level}")
    return keys, [
        {
            "values": [part.partition("=")[2] if "=" in part else part for part in path],
            "folder": "/".join(path) + "/",
        }
        for path in paths
        if path
    ]


def merge(schemas: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Compatible schemas as one: the union of the columns, each of the type that holds all values."""
    merged: dict[str, str] = {}
    for schema in schemas:
        for name, kind in schema.items():
            merged[name] = wider(merged.get(name, ""), kind)
    return merged


def wider(one: str, other: str) -> str:
    """The type for values of both; "" stands for a column in which only nulls were seen."""
    if one == other or not one or not other:
        return one or other
    numbers = ("int", "bigint", "double")
    if one in numbers and other in numbers:
        return max(one, other, key=numbers.index)
    return "string"


def csv_columns(lines: Sequence[str]) -> tuple[str, dict[str, str]] | None:
    """Delimiter and columns of lines of CSV with a header; None if they are none."""
    for delimiter in DELIMITERS:
        try:
            rows = [row for row in csv.reader(lines, delimiter=delimiter) if row]
        except csv.Error:  # such as a field of more than 128 KiB
            continue
        if len(rows) < 2 or len(rows[0]) < 2:
            continue
        header, kinds = rows[0], [""] * len(rows[0])
        for row in rows[1:]:
            for place, value in enumerate(row[: len(kinds)]):
                kinds[place] = wider(kinds[place], _text_type(value))
        names_only = all(_text_type(name) == "string" and len(name) < LONGEST_HEADER for name in header)
        if names_only and any(kind not in ("", "string") for kind in kinds):
            return delimiter, {_name(name): kind for name, kind in zip(header, kinds, strict=True)}
        raise InferError("no header tells itself from the rows; a custom classifier would be needed")
    return None


def json_type(value: object) -> str:
    """The catalog's type of a JSON value; "" for null."""
    kind = "string"
    if value is None:
        kind = ""
    elif isinstance(value, bool):
        kind = "boolean"
    elif isinstance(value, int):
        kind = "int" if -_INT32 <= value < _INT32 else "bigint"
    elif isinstance(value, float):
        kind = "double"
    elif isinstance(value, list):
        items = functools.reduce(wider, map(json_type, value), "")
        kind = f"array<{items or 'string'}>"
    elif isinstance(value, dict):
        fields = ",".join(f"{name.lower()}:{json_type(item) or 'string'}" for name, item in value.items())
        kind = f"struct<{fields}>"
    return kind


def arrow_type(kind: pa.DataType) -> str:
    """The catalog's type of a Parquet column."""
    if pa.types.is_list(kind):
        return f"array<{arrow_type(kind.value_type)}>"
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if pa.types.is_timestamp(kind):
        return "timestamp"
    known = {
        "bool": "boolean",
        "int8": "tinyint",
        "int16": "smallint",
        "int32": "int",
        "int64": "bigint",
        "float": "float",
        "double": "double",
        "string": "string",
        "binary": "binary",
        "date32[day]": "date",
    }
    if str(kind) not in known:
        raise InferError(f"Parquet type {kind} is unsupported in the embedded cloud")
    return known[str(kind)]


def _object(s3: Any, bucket: str, key: str, size: int) -> dict[str, Any]:
    sample = s3.get_object(Bucket=bucket, Key=key, Range=f"bytes=0-{SAMPLE_BYTES - 1}")["Body"].read()
    if sample.startswith(b"PAR1"):
        whole = sample if size <= SAMPLE_BYTES else s3.get_object(Bucket=bucket, Key=key)["Body"].read()
        footer = pq.read_metadata(io.BytesIO(whole))
        columns = {field.name.lower(): arrow_type(field.type) for field in footer.schema.to_arrow_schema()}
        return _found("parquet", columns, average=size / max(1, footer.num_rows))
    compressed = sample.startswith(b"\x1f\x8b")
    read, ended = len(sample), size <= SAMPLE_BYTES
    if compressed:
        unpacker = zlib.decompressobj(wbits=31)
        sample = unpacker.decompress(sample, SAMPLE_BYTES)
        read -= len(unpacker.unconsumed_tail)
        ended = ended and not unpacker.unconsumed_tail
    lines = sample.decode("utf-8-sig", errors="replace").splitlines()
    lines = lines if ended else lines[:-1]
    if not lines:
        raise InferError(f"no line within the first {SAMPLE_BYTES} bytes")
    average = read / len(lines)
    if schemas := [{name.lower(): json_type(v) for name, v in row.items()} for row in _json_rows(lines)]:
        return _found("json", merge(schemas), compressed=compressed, average=average)
    table = csv_columns(lines)
    if table is None:
        raise InferError("neither CSV with a header, nor JSON lines, nor Parquet")
    return _found("csv", table[1], compressed=compressed, delimiter=table[0], average=average)


def _found(
    form: str,
    columns: Mapping[str, str],
    *,
    compressed: bool = False,
    delimiter: str | None = None,
    average: float,
) -> dict[str, Any]:
    return {
        "format": form,
        "columns": columns,
        "compressed": compressed,
        "delimiter": delimiter,
        "average": average,
    }


def _json_rows(lines: Sequence[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        if not line.lstrip().startswith("{"):
            continue
        with contextlib.suppress(ValueError):  # one torn record does not make the file another format
            yield json.loads(line)


def _text_type(value: str) -> str:
    if value == "":
        return ""
    for kind, read in (("bigint", int), ("double", float)):
        try:
            read(value)
        except ValueError:
            continue
        return kind if value.strip(" +-0123456789.eE") == "" else "string"
    return "string"


def _name(text: str) -> str:
    return _WORD.sub("_", text.strip().lower())


def _tables(asked: Mapping[str, Any]) -> list[Any]:
    """What the table of each target is."""
    s3 = boto3.client("s3")
    return [infer(s3, target["Path"], target.get("Exclusions", [])) for target in asked["targets"]]


if __name__ == "__main__":
    question.answer(_tables)
