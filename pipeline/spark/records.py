"""Lines → records: the text of every field, with nothing dropped, trimmed or guessed.

A record is one line, of a CSV file (RFC 4180, with a header; no field spans lines) or of JSON lines. Spark's own
CSV and JSON sources would give the fields but lose the line, and a quarantined record is kept whole: so lines
are read as text and parsed by `from_csv` and `from_json`. A blank line is no record.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from functools import reduce

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from pipeline.spark.storage import Storage

# What a record carries beside its fields; no schema column may have such a name.
SOURCE, FILE, RECORD = "_source", "_file", "_record"
UNKNOWN, MISSING, MALFORMED = "_unknown", "_missing", "_malformed"
META = (SOURCE, FILE, RECORD, UNKNOWN, MISSING, MALFORMED)

_BYTE_ORDER_MARK = "\ufeff"
# Closes the array that a line is wrapped in, so that text after the first JSON value cannot go unseen.
_END = "end"


class InputError(Exception):
    """Input that cannot be processed at all: the message names the file, what is wrong and the remedy."""


def read_csv(
    spark: SparkSession, location: str, *, source: str, columns: Sequence[str], null_values: Sequence[str]
) -> DataFrame | None:
    """The records of all CSV files below `location`, or None if there is no file.

    Each file's own header says which column is which, so files of different vintage mix. A line equal to its
    file's header is a header wherever it stands (files get concatenated). An empty field is null, and so is
    each of `null_values`.
    """
    storage = Storage(spark)
    by_header: dict[str, list[str]] = {}
    for path in storage.files(location):
        by_header.setdefault(storage.first_line(path), []).append(path)
    parts = []
    for line, paths in sorted(by_header.items()):
        header = _header(line, paths[0])
        lines = _lines(spark, paths, source, location).where(
            ~F.col(RECORD).isin(line, _BYTE_ORDER_MARK + line)
        )
        parts.append(_csv_records(lines, header, columns, null_values))
    return reduce(DataFrame.unionByName, parts) if parts else None


def read_json(spark: SparkSession, location: str, *, source: str, columns: Sequence[str]) -> DataFrame | None:
    """The records of all JSON-lines files below `location` (as Firehose writes them), or None if there is none.

    A line is malformed unless it is exactly one JSON object with no key twice. A value that is no string counts
    as its JSON text, as in CSV.
    """
    if not Storage(spark).files(location):
        return None
    wrapped = F.concat(F.lit("["), RECORD, F.lit(f',{{"":"{_END}"}}]'))
    strict = {"allowSingleQuotes": "false", "allowNonNumericNumbers": "false"}
    lines = _lines(spark, [location], source, location).withColumn(
        "_parsed", F.from_json(wrapped, "array<map<string,string>>", strict)
    )
    single = (F.size("_parsed") == 2) & (F.element_at(F.col("_parsed")[1], "") == _END)
    lines = lines.withColumn("_fields", F.when(single, F.col("_parsed")[0])).drop("_parsed")
    lines = lines.select(
        "*",
        F.map_keys("_fields").alias("_keys"),
        F.array_except(F.map_keys("_fields"), _names(columns)).alias(UNKNOWN),
        *[F.col("_fields")[name].alias(name) for name in columns],
    )
    # Telling an absent field from a null one, and a key given twice, is dear: a record that has every column, none
    # of them null, needs neither.
    complete = F.size("_keys") - F.size(UNKNOWN) == len(columns)
    for name in columns:
        complete &= F.col(name).isNotNull()
    repeated = F.size("_keys") != F.size(F.array_distinct("_keys"))
    return lines.select(
        SOURCE,
        FILE,
        RECORD,
        UNKNOWN,
        F.when(complete, _names([]))
        .otherwise(F.array_except(_names(columns), F.col("_keys")))
        .alias(MISSING),
        (F.col("_fields").isNull() | F.when(complete, F.lit(False)).otherwise(repeated)).alias(MALFORMED),
        *columns,
    )


def _lines(spark: SparkSession, paths: Sequence[str], source: str, root: str) -> DataFrame:
    text = spark.read.option("recursiveFileLookup", True).text(list(paths))
    # Relative to the source's folder: the same record has the same origin wherever the data lie.
    file = F.substring_index("_metadata.file_path", f"{Storage(spark).path(root)}/", -1)
    lines = text.select(F.lit(source).alias(SOURCE), file.alias(FILE), F.col("value").alias(RECORD))
    return lines.where(F.trim(RECORD) != "")


def _header(line: str, path: str) -> list[str]:
    header = next(csv.reader([line]), [])
    if repeated := sorted({name for name in header if header.count(name) > 1}):
        raise InputError(
            f"{path}: header names {', '.join(repeated)} more than once. Rename one of the columns."
        )
    if not any(header):
        raise InputError(
            f"{path}: the first line is empty. Write the column names there, or remove the file."
        )
    return header


def _csv_records(
    lines: DataFrame, header: Sequence[str], columns: Sequence[str], null_values: Sequence[str]
) -> DataFrame:
    fields = ", ".join(f"c{i} string" for i in range(len(header)))
    options = {"columnNameOfCorruptRecord": "bad", "escape": '"'}
    parsed = F.from_csv(F.col(RECORD), f"{fields}, bad string", options)

    def text(name: str) -> Column:
        if name not in header:
            return F.lit(None).cast("string")
        field = F.col(f"_parsed.c{header.index(name)}")
        return F.when(~field.isin(*null_values), field) if null_values else field

    return lines.withColumn("_parsed", parsed).select(
        SOURCE,
        FILE,
        RECORD,
        _names([name for name in header if name not in columns]).alias(UNKNOWN),
        _names([name for name in columns if name not in header]).alias(MISSING),
        F.col("_parsed.bad").isNotNull().alias(MALFORMED),
        *[text(name).alias(name) for name in columns],
    )


def _names(names: Sequence[str]) -> Column:
    return F.array(*[F.lit(name) for name in names]).cast("array<string>")
