"""Records → typed rows: each field is checked against its column of the schema, and every fault is named.

Nothing is rounded or guessed: "5.0" is no whole number, "NaN" is no number, a time without a zone is UTC. White
space around a number or a time is ignored; within a text column it is part of the value.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812

from pipeline import schema
from pipeline.spark import records

REASONS = "_reasons"
SEPARATOR = "\n"
# What a checked row carries beside its columns.
META = (records.SOURCE, records.FILE, records.RECORD, records.UNKNOWN, REASONS)

_NUMBER = r"^\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*$"
# ISO 8601: date and time to the second; a fraction and a zone if there is one.
_TIME = r"^\s*\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(\.\d{1,6})?(Z|[+-]\d{2}:\d{2})?\s*$"


def typed(found: DataFrame, columns: Sequence[schema.Column], *, required: Sequence[str] = ()) -> DataFrame:
    """Source, file (of a faulty row only), record, unknown column names, reasons and the typed columns.

    Names and reasons are lines of one text. Reasons are empty for a good row; else `malformed` or `not_utf8`, or any of
    `missing_column:x`, `null:x`, `wrong_type:x`, `bad_timestamp:x`, `out_of_range:x`, `not_allowed:x`, in the
    schema's order. `required` columns may not be null whatever the schema says.
    """
    # Values first, faults from them: Spark then converts each text once.
    valued = found.select(
        *records.META,
        *[_value(column).alias(column.name) for column in columns],
        *[F.col(column.name).alias(_text(column)) for column in columns if column.type != "string"],
    )
    missing = F.when(
        F.size(records.MISSING) > 0,
        F.concat_ws(
            SEPARATOR, F.transform(records.MISSING, lambda name: F.concat(F.lit("missing_column:"), name))
        ),
    )
    faults = [_fault(column, required=column.name in required) for column in columns]
    reasons = F.coalesce(records.BROKEN, F.concat_ws(SEPARATOR, missing, *faults))
    return valued.withColumn(REASONS, reasons).select(
        records.SOURCE,
        F.when(F.col(REASONS) != "", F.col(records.FILE)).alias(records.FILE),
        records.RECORD,
        F.concat_ws(SEPARATOR, F.when(F.col(records.BROKEN).isNull(), F.col(records.UNKNOWN))).alias(
            records.UNKNOWN
        ),
        REASONS,
        *[column.name for column in columns],
    )


def _text(column: schema.Column) -> str:
    return f"_text_{column.name}"


def _value(column: schema.Column) -> Column:
    """The field's value, null if its text is of another type."""
    text = F.col(column.name)
    if column.type == "int":
        return F.expr(f"try_cast(`{column.name}` as bigint)")
    if column.type == "float":
        value = text.cast("double")
        return F.when(text.rlike(_NUMBER) & (F.abs(value) != float("inf")), value)
    if column.type == "timestamp":
        return F.when(text.rlike(_TIME), text.cast("timestamp"))
    return text


def _fault(column: schema.Column, *, required: bool) -> Column:
    """The reason why this field is refused, or null."""
    value = F.col(column.name)
    text = value if column.type == "string" else F.col(_text(column))
    fault = F.when(text.isNull(), _null_fault(column, required=required))
    if column.type != "string":
        kind = "bad_timestamp" if column.type == "timestamp" else "wrong_type"
        fault = fault.when(value.isNull(), f"{kind}:{column.name}")
    if column.minimum is not None:
        fault = fault.when(value < column.minimum, f"out_of_range:{column.name}")
    if column.maximum is not None:
        fault = fault.when(value > column.maximum, f"out_of_range:{column.name}")
    if column.allowed is not None:
        fault = fault.when(~value.isin(*column.allowed), f"not_allowed:{column.name}")
    return fault


def _null_fault(column: schema.Column, *, required: bool) -> Column:
    if column.nullable and not required:
        return F.lit(None).cast("string")
    # A column that is not there at all has its own reason.
    return F.when(~F.array_contains(records.MISSING, column.name), f"null:{column.name}")
