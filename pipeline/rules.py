"""The data quality ruleset of the raw table, derived from the schema, in DQDL.

Source: "Data Quality Definition Language (DQDL) reference", AWS Glue User Guide. Only the standard library is used,
because synth reads this too. The subset in use: RowCount, ColumnExists, Completeness and ColumnValues with `in`,
`>=` and `<=`, each but the first two with a threshold.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.schema import Column, Schema


def dqdl(schema: Schema, maximum_quarantined_percent: float) -> str:
    """The ruleset that raw rows must meet; `maximum_quarantined_percent` (0 to 100) of them may break each rule.

    Single bad rows are the ETL job's business, which quarantines them; the gate stops a delivery that is bad as a
    whole, before any of it reaches the curated table.
    """
    share = f"{1 - maximum_quarantined_percent / 100:.4g}"
    rules = ["RowCount > 0", *(f'ColumnExists "{column.name}"' for column in schema.columns)]
    for column in schema.columns:
        rules += _column_rules(column, share)
    return "Rules = [\n" + ",\n".join(f"  {rule}" for rule in rules) + "\n]"


def _column_rules(column: Column, share: str) -> Iterator[str]:
    # A null breaks ColumnValues too, so a range is asked only of columns that must be present.
    if column.nullable:
        return
    yield f'Completeness "{column.name}" >= {share}'
    if column.allowed is not None:
        values = ", ".join(f'"{value}"' for value in column.allowed)
        yield f'ColumnValues "{column.name}" in [{values}] with threshold >= {share}'
    if column.minimum is not None:
        yield f'ColumnValues "{column.name}" >= {column.minimum:g} with threshold >= {share}'
    if column.maximum is not None:
        yield f'ColumnValues "{column.name}" <= {column.maximum:g} with threshold >= {share}'
