"""Records → typed rows: each field is checked against its column of the schema, and every fault is named.

Text is taken as it stands: no trimming, no rounding, no guessing. " 5" or "5.0" is no whole number, "NaN" is no
number, and a time without a zone is UTC.
"""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F  # noqa: N812

from pipeline import schema
from pipeline.spark import records

REASONS = "_reasons"

_WHOLE_NUMBER = r"^[+-]?[0-9]{1,18}$"
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
# ISO 8601: date and time to the second, a fraction and a zone if there is one.
_TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})?$"
_SPARK_TYPES = {"int": "bigint", "float": "double", "string": "string", "timestamp": "timestamp"}


def typed(found: DataFrame, columns: Sequence[schema.Column], *, required: Sequence[str] = ()) -> DataFrame:
    """Source, file, record, unknown names, reasons (empty for a good row) and the typed columns.

    Reasons are `malformed`, or any of `missing_column:x`, `null:x`, `wrong_type:x`, `bad_timestamp:x`,
    `out_of_range:x`, `not_allowed:x`, in the schema's order. `required` may not be null whatever the schema says.
    """
    faults = F.array_compact(
        F.array(*[_fault(column, required=column.name in required) for column in columns])
    )
    missing = F.transform(records.MISSING, lambda name: F.concat(F.lit("missing_column:"), name))
    reasons = F.when(F.col(records.MALFORMED), F.array(F.lit("malformed"))).otherwise(
        F.concat(missing, faults)
    )
    return found.select(
        records.SOURCE,
        records.FILE,
        records.RECORD,
        records.UNKNOWN,
        reasons.alias(REASONS),
        *[F.col(c.name).cast(_SPARK_TYPES[c.type]).alias(c.name) for c in columns],
    )


def _fault(column: schema.Column, *, required: bool) -> Column:
    """The reason why this field is refused, or null."""
    text = F.col(column.name)
    fault = F.when(text.isNull(), _null_fault(column, required=required))
    if column.type == "timestamp":
        bad = ~text.rlike(_TIME) | text.cast("timestamp").isNull()
        fault = fault.when(bad, F.lit(f"bad_timestamp:{column.name}"))
    elif column.type != "string":
        pattern = _WHOLE_NUMBER if column.type == "int" else _NUMBER
        value = text.cast(_SPARK_TYPES[column.type])
        wrong = ~text.rlike(pattern)
        if column.type == "float":
            wrong |= F.abs(value) == float("inf")
        fault = fault.when(wrong, F.lit(f"wrong_type:{column.name}"))
        outside = F.lit(False)
        if column.minimum is not None:
            outside |= value < column.minimum
        if column.maximum is not None:
            outside |= value > column.maximum
        fault = fault.when(outside, F.lit(f"out_of_range:{column.name}"))
    if column.allowed is not None:
        fault = fault.when(~text.isin(*column.allowed), F.lit(f"not_allowed:{column.name}"))
    return fault


def _null_fault(column: schema.Column, *, required: bool) -> Column:
    if column.nullable and not required:
        return F.lit(None).cast("string")
    absent = F.array_contains(records.MISSING, column.name)
    return F.when(~absent, F.lit(f"null:{column.name}"))
