"""Lines → records: the text of every field, with nothing dropped, trimmed or guessed.

A record is one line, of a CSV file (RFC 4180, with a header; no field spans lines) or of JSON lines. Spark's own
CSV and JSON sources would give the fields but lose the line, and a quarantined record is kept whole: so lines
are read as text and parsed by `from_csv` and `from_json`. A blank line is no record.

Text is UTF-8. Parsing puts U+FFFD for what is not, and two records could then be taken for one: a line that is not
UTF-8 is broken, and its bytes are kept.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from functools import reduce
from urllib.parse import unquote

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F  # noqa: N812

from pipeline.spark.storage import Storage

# What a record carries beside its fields; no schema column may have such a name.
SOURCE, FILE, RECORD = "_source", "_file", "_record"
UNKNOWN, MISSING, BROKEN = "_unknown", "_missing", "_broken"
META = (SOURCE, FILE, RECORD, UNKNOWN, MISSING, BROKEN)
MALFORMED, NOT_UTF8 = "malformed", "not_utf8"

_BYTE_ORDER_MARK = "\ufeff"
# What a path may contain that Hadoop takes for a pattern; and how a path begins, which is not spelled the same everywhere.
_PATTERN, _SCHEME = re.compile(r"[\[\]{}*?\\]"), re.compile(r"^[\w.+-]+:/*")
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
        by_header.setdefault(_first_line(storage, path), []).append(path)
    parts = []
    for line, paths in sorted(by_header.items()):
        header = _header(line, paths[0])
        lines = _lines(spark, paths, paths, source, location).where(
            ~F.col(RECORD).isin(line, _BYTE_ORDER_MARK + line)
        )
        parts.append(_csv_records(lines, header, columns, null_values))
    return reduce(DataFrame.unionByName, parts) if parts else None


def read_json(spark: SparkSession, location: str, *, source: str, columns: Sequence[str]) -> DataFrame | None:
    """The records of all JSON-lines files below `location` (as Firehose writes them), or None if there is none.

    A line is malformed unless it is exactly one JSON object with no key twice. A value that is no string counts
    as its JSON text, as in CSV.
    """
    files = Storage(spark).files(location)
    if not files:
        return None
    wrapped = F.concat(F.lit("["), RECORD, F.lit(f',{{"":"{_END}"}}]'))
    strict = {"allowSingleQuotes": "false", "allowNonNumericNumbers": "false"}
    lines = _lines(spark, [location], files, source, location).withColumn(
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
        _broken(F.col("_fields").isNull() | F.when(complete, F.lit(False)).otherwise(repeated)),
        *columns,
    )


def _lines(
    spark: SparkSession, paths: Sequence[str], files: Sequence[str], source: str, root: str
) -> DataFrame:
    """The lines of all files at or below `paths`, which must be at least `files`."""
    literal = [_PATTERN.sub(r"\\\g<0>", path) for path in paths]
    text = spark.read.option("recursiveFileLookup", True).text(literal)
    found = {_SCHEME.sub("/", unquote(file)) for file in text.inputFiles()}
    if unread := [file for file in files if _SCHEME.sub("/", file) not in found]:
        raise InputError(f"{unread[0]}: Spark does not read a file of that name. Rename it.")
    # Relative to the source's folder: the same record has the same origin wherever the data lie.
    file = F.substring_index("_metadata.file_path", f"{Storage(spark).path(root)}/", -1)
    # A line is its bytes until somebody asks for its letters; only then is replaced what is not UTF-8.
    readable = F.decode(F.col("value").cast("binary"), "UTF-8") == F.col("value")
    lines = text.select(
        F.lit(source).alias(SOURCE),
        file.alias(FILE),
        F.col("value").alias(RECORD),
        F.when(~readable, NOT_UTF8).alias(BROKEN),
    )
    return lines.where(F.trim(RECORD) != "")


def _broken(malformed: Column) -> Column:
    """Why the fields of a line cannot be told, or null."""
    return F.coalesce(BROKEN, F.when(malformed, MALFORMED)).alias(BROKEN)


def _first_line(storage: Storage, path: str) -> str:
    try:
        return storage.first_line(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: the first line is not UTF-8. Save the file as UTF-8.") from error


def _header(line: str, path: str) -> list[str]:
    try:
        header = next(csv.reader([line]), [])
    except csv.Error as error:
        raise InputError(
            f"{path}: the first line is no CSV header ({error}). Remove the file, or write the column names there."
        ) from error
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
        _broken(F.col("_parsed.bad").isNotNull()),
        *[text(name).alias(name) for name in columns],
    )


def _names(names: Sequence[str]) -> Column:
    return F.array(*[F.lit(name) for name in names]).cast("array<string>")
