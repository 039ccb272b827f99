"""One record of the stream against the schema, before a model sees it.

The rules and the names of the reasons are those of `pipeline/spark/checks.py`: the same record gets the same
judgement here and in the ETL.
"""

import datetime as dt
import json
import math
import re
from typing import Any

from pipeline.schema import Column, Schema

EVENT_COLUMNS = (Column("event_id", "string"), Column("event_time", "timestamp"))

# Zeros apart: Python refuses to convert thousands of digits.
_WHOLE_NUMBER = re.compile(r"([+-]?)0*([0-9]{1,19})")
_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})?"
)


class MalformedError(ValueError):
    """Not one JSON object with each key once, in UTF-8 and without NaN or Infinity; `reason` is the reason's name."""

    reason = "malformed"


class NotUtf8Error(MalformedError):
    """Bytes that are not UTF-8: two such records would look the same if they were read all the same."""

    reason = "not_utf8"


def parse(data: bytes) -> dict[str, Any]:
    """The record's fields; raises `MalformedError`."""
    try:
        record = _DECODER.decode(data.decode())
    except UnicodeDecodeError as error:
        raise NotUtf8Error(str(error)) from error
    except (ValueError, RecursionError) as error:  # a bomb of nested brackets ends in the second
        raise MalformedError(str(error)) from error
    if not isinstance(record, dict):
        raise MalformedError("not a JSON object")
    return record


def faults(schema: Schema, record: dict[str, Any]) -> list[str]:
    """Every reason to refuse the record, such as `null:carrier`; empty for a good one."""
    columns = (*EVENT_COLUMNS, *schema.columns)
    missing = [f"missing_column:{column.name}" for column in columns if column.name not in record]
    required = {*schema.key, schema.time_column}
    present = (column for column in columns if column.name in record)
    found = (_fault(column, record[column.name], required=column.name in required) for column in present)
    return missing + [fault for fault in found if fault]


def request(schema: Schema, record: dict[str, Any]) -> dict[str, Any]:
    """What the model is asked: each request column, typed; what is joined later elsewhere is null here."""
    return {column.name: _typed(column, record.get(column.name)) for column in schema.request_columns}


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise ValueError("a key twice")
    return record


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_refuse)


def _fault(column: Column, value: object, *, required: bool) -> str | None:
    if value is None:
        return None if column.nullable and not required else f"null:{column.name}"
    reason = _reason(column, _text(column, value))
    return f"{reason}:{column.name}" if reason else None


def _reason(column: Column, text: str) -> str | None:
    if column.type == "timestamp" and not _is_time(text):
        return "bad_timestamp"
    if column.type in {"int", "float"}:
        number = _whole(text) if column.type == "int" else _real(text)
        if number is None:
            return "wrong_type"
        low, high = column.minimum, column.maximum
        if (low is not None and number < low) or (high is not None and number > high):
            return "out_of_range"
    if column.allowed is not None and text not in column.allowed:
        return "not_allowed"
    return None


def _whole(text: str) -> int | None:
    """The whole number that Spark's bigint can hold, or None."""
    found = _WHOLE_NUMBER.fullmatch(text)
    number = int(found[1] + found[2]) if found else None
    return number if number is not None and -(2**63) <= number < 2**63 else None


def _real(text: str) -> float | None:
    number = float(text) if _NUMBER.fullmatch(text) else math.inf
    return None if math.isinf(number) else number


def _is_time(text: str) -> bool:
    try:
        return bool(_TIME.fullmatch(text) and dt.datetime.fromisoformat(text))
    except ValueError:
        return False


def _text(column: Column, value: object) -> str:
    """A value that is no string counts as its JSON text; white space around a number or a time is ignored."""
    if type(value) is int:  # most values are; what follows would make the same of it, slowly
        return str(value)
    text = value if isinstance(value, str) else json.dumps(value)
    return text if column.type == "string" else text.strip(" \t\n\r\f\v")


def _typed(column: Column, value: object) -> object:
    if value is None:
        return None
    text = _text(column, value)
    if column.type == "int":
        return _whole(text)
    return float(text) if column.type == "float" else text
