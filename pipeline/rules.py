"""The data quality ruleset of the raw table, derived from the schema, in DQDL.

Source: "Data Quality Definition Language (DQDL) reference", AWS Glue User Guide. Only the standard library is used,
because synth reads this too. The subset in use: ColumnExists, Completeness, ColumnValues with `in` and a threshold, and
CustomSql whose one number is compared with `>=`.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.schema import Column, Schema


def dqdl(schema: Schema, maximum_quarantined_percent: float) -> str:
    """The ruleset that raw rows must meet; `maximum_quarantined_percent` (0 to 100) of them may break each rule.

    Single bad rows are the ETL job's business, which quarantines them; the gate stops a delivery that is bad as a
    whole, before any of it reaches the curated table. No rule asks for rows: `pipeline.quality` leaves out a table
    without data, such as one whose uploads have expired.
    """
    share = f"{1 - maximum_quarantined_percent / 100:.4g}"
    rules = [f'ColumnExists "{column.name}"' for column in schema.columns]
    for column in schema.columns:
        rules += _column_rules(column, share)
    return "Rules = [\n" + ",\n".join(f"  {rule}" for rule in rules) + "\n]"


def _column_rules(column: Column, share: str) -> Iterator[str]:
    # A null breaks these rules too, so a range is asked only of columns that must be present.
    if column.nullable:
        return
    yield f'Completeness "{column.name}" >= {share}'
    if column.allowed is not None:
        values = ", ".join(f'"{value}"' for value in column.allowed)
        yield f'ColumnValues "{column.name}" in [{values}] with threshold >= {share}'
    # One "noon" makes the crawler call the whole column a string, of which ColumnValues refuses to compare any with a
    # number. Spark casts what is no number to null, which is within no range.
    number = f"cast(`{column.name}` as double)"
    limits = [
        f"{number} {sign} {limit:g}"
        for sign, limit in ((">=", column.minimum), ("<=", column.maximum))
        if limit is not None
    ]
    if limits:
        within = f"case when {' and '.join(limits)} then 1.0 else 0.0 end"
        yield f'CustomSql "select avg({within}) from primary" >= {share}'  # noqa: S608 - names and limits of the schema
