"""Raw flights → one clean table: dedupe, validate, type, join, partition by month. Every record is accounted for.

    rows_in = rows_out + quarantined + duplicates + excluded

is checked before anything is published; a job that cannot account for a record fails and leaves the table as it
was. It is a plain `SparkSession` script: the same file runs in AWS Glue 5.1 (Spark 3.5.6), on EMR and on a laptop.

The order of decisions: a faulty record goes to quarantine, whole, with all its reasons; of the valid records with
one key, the batch's comes before the stream's, and then the one whose text sorts first stays (content decides, so
neither partitions nor file names can change the result); then the schema's exclusion rules apply.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812

from pipeline import schema as schemas
from pipeline.schema import Join, Schema, SchemaError, load
from pipeline.spark import checks, records
from pipeline.spark.checks import REASONS, SEPARATOR
from pipeline.spark.records import FILE, NOT_UTF8, RECORD, SOURCE, UNKNOWN, InputError
from pipeline.spark.storage import HIDDEN, STAGING, Storage

BATCH, STREAM = "batch", "stream"
SOURCES = (BATCH, STREAM)
MONTH = "event_month"
OUTCOMES = ("rows_out", "quarantined", "duplicates", "excluded")
OUTCOME, _PLACE = "_outcome", "_place"
_TAGS = 1000
_OUR_FAULT = "Nothing was published. This is a fault of pipeline/spark/curate.py, not of the data."


class AccountingError(Exception):
    """Records went missing or multiplied: a fault of this job, never of the data. Nothing was published."""


@dataclasses.dataclass(frozen=True)
class Places:
    """Where the job reads and writes: folders (paths or `s3://` URIs), and `report`, a file."""

    batch: str
    stream: str
    reference: str
    curated: str
    quarantine: str
    report: str


def curate(spark: SparkSession, schema: Schema, places: Places, *, minimum_rows: int = 1) -> dict[str, Any]:
    """Run the whole job and return the report that it wrote.

    Raises `InputError` for input that cannot be used (nothing there, fewer than `minimum_rows` good rows, no
    reference table), and `AccountingError` if a record is unaccounted for; each before anything is published: table, quarantine and report stay as they were.
    """
    _configure(spark)
    storage = Storage(spark)
    staged_rows, staged_quarantine = f"{places.curated}/{STAGING}", f"{places.quarantine}/{STAGING}"
    references = {join.table: _reference(spark, schema, join, places.reference) for join in schema.joins}
    rows = _decided(_rows(spark, schema, places), schema).persist()
    try:
        counts = _counts(rows)
        if not counts:
            raise _nothing(places)
        reference_counts = {
            join.table: _reference_counts(join, references[join.table]) for join in schema.joins
        }
        _write_quarantine([rows, *references.values()], staged_quarantine)
        _write_curated(rows, schema, references, staged_rows)
        report = _report(
            schema,
            counts,
            quarantined=_written(spark.read.schema("source string").json(staged_quarantine), "source"),
            months=_written(spark.read.schema(f"{MONTH} string").parquet(staged_rows), MONTH),
        )
        _account(report)
        _demand(report, minimum_rows)
        report["reference"] = reference_counts
        # The report vouches for the table: there is none while the table changes.
        storage.delete(places.report)
        storage.publish(staged_quarantine, places.quarantine)
        storage.publish(staged_rows, places.curated)
        storage.write_text(places.report, json.dumps(report, indent=1) + "\n")
    finally:
        for frame in (rows, *references.values()):
            frame.unpersist()
        storage.delete(f"{places.curated}/{HIDDEN}")
        storage.delete(f"{places.quarantine}/{HIDDEN}")
    return report


def _configure(spark: SparkSession) -> None:
    for key, value in {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.ansi.enabled": "false",  # a cast that fails is null, and a reason, not an exception
        "spark.sql.inMemoryColumnarStorage.compressed": "false",  # compressing costs more than parsing
        "spark.sql.parquet.compression.codec": "snappy",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",  # one old date must not end the job
        "spark.sql.sources.partitionColumnTypeInference.enabled": "false",  # "2013-01" is a month, not a date
    }.items():
        spark.conf.set(key, value)


def _rows(spark: SparkSession, schema: Schema, places: Places) -> DataFrame:
    """All records of both sources, checked, with those columns that anything below asks for."""
    names = [column.name for column in schema.columns]
    batch = records.read_csv(spark, places.batch, source=BATCH, columns=names, null_values=schema.null_values)
    stream = records.read_json(spark, places.stream, source=STREAM, columns=names)
    found = [part for part in (batch, stream) if part is not None]
    if not found:
        raise _nothing(places)
    required = (*schema.key, schema.time_column)
    checked = checks.typed(reduce(DataFrame.unionByName, found), schema.columns, required=required)
    asked = {
        *(column.name for column in schema.curated_columns),
        *(rule.when_null for rule in schema.exclusions),
        *(name for join in schema.joins for name in join.on),
    }
    return checked.select(*checks.META, *[name for name in names if name in asked])


def _decided(rows: DataFrame, schema: Schema) -> DataFrame:
    """The rows with their outcome: quarantined, duplicates, excluded/… with the rule's name, or rows_out."""
    faulty = F.col(REASONS) != ""
    # A faulty row equals no other: its key may be null or wrong.
    place = _place_among_equals([*schema.key, F.when(faulty, F.col(RECORD))])
    outcome = F.when(faulty, "quarantined").when(place > 1, "duplicates")
    for rule in schema.exclusions:
        outcome = outcome.when(F.col(rule.when_null).isNull(), f"excluded/{rule.reason}")
    return rows.withColumn(OUTCOME, outcome.otherwise("rows_out"))


def _place_among_equals(key: Sequence[Column | str]) -> Column:
    """1 for the row that stays among those with the same key: content decides, not where it was read."""
    return F.row_number().over(Window.partitionBy(*key).orderBy(SOURCE, RECORD))


def _nothing(places: Places) -> InputError:
    return InputError(
        f"no record in {places.batch} or {places.stream}. Upload a CSV file, or send records to the stream."
    )


def _reference(spark: SparkSession, schema: Schema, join: Join, location: str) -> DataFrame:
    """The rows of a reference table, checked, in our column names."""
    theirs = {ours: name for name, ours in join.rename.items()}
    columns = [schemas.Column(name, schema.column(name).type) for name in join.on]
    columns += [dataclasses.replace(c, name=theirs.get(c.name, c.name)) for c in join.columns]
    found = records.read_csv(
        spark,
        f"{location}/{join.table}",
        source=f"reference/{join.table}",
        columns=[column.name for column in columns],
        null_values=schema.null_values,
    )
    if found is None:
        raise InputError(f"{location}/{join.table}: no file. Upload the reference table there as CSV.")
    return checks.typed(found, columns, required=join.on).withColumnsRenamed(dict(join.rename)).persist()


def _reference_counts(join: Join, table: DataFrame) -> dict[str, int]:
    sound = F.col(REASONS) == ""
    rows, faulty, keys = table.agg(
        F.count("*"), F.count_if(~sound), F.count_distinct(F.when(sound, F.struct(*join.on)))
    ).collect()[0]
    if not keys:
        reasons = table.select(REASONS).distinct().orderBy(REASONS).limit(3).collect()
        examples = "; ".join(row[0].replace(SEPARATOR, ", ") for row in reasons) or "it has no rows"
        raise InputError(f"reference table {join.table}: no usable row ({examples}). Upload it again, whole.")
    return {"rows": rows, "quarantined": faulty, "duplicates": rows - faulty - keys}


def _counts(rows: DataFrame) -> dict[str, dict[str, int]]:
    """By source: `rows_in`, and with their names `outcome/…`, `reason/…` and `unknown/…`."""
    # Few combinations of these occur, so the tags are made once for each.
    combinations = rows.groupBy(SOURCE, OUTCOME, REASONS, UNKNOWN).count()
    tags = F.concat(
        F.array(F.lit("rows_in"), F.concat(F.lit("outcome/"), OUTCOME)),
        _tags("reason", REASONS),
        _tags("unknown", UNKNOWN),
    )
    found = (
        combinations.select(SOURCE, F.explode(tags).alias("tag"), "count")
        .groupBy(SOURCE, "tag")
        .agg(F.sum("count").alias("count"))
        # A stranger may send any number of column names; the report names the commonest.
        .orderBy(F.col("tag").startswith("unknown/"), F.desc("count"), "tag")
        .limit(_TAGS)
        .collect()
    )
    counts: dict[str, dict[str, int]] = {}
    for source, tag, count in found:
        counts.setdefault(source, {})[tag] = count
    return counts


def _tags(kind: str, lines: str) -> Column:
    names = F.filter(F.split(lines, SEPARATOR), lambda name: name != "")
    return F.transform(names, lambda name: F.concat(F.lit(f"{kind}/"), name))


def _write_quarantine(frames: Sequence[DataFrame], staged: str) -> None:
    """The faulty records, whole: as text, and what is not UTF-8 as base64 too (`data`), since as text it is lost."""
    bytes_ = F.translate(F.base64(F.col(RECORD).cast("binary")), "\r\n", "")
    faulty = [
        frame.where(F.col(REASONS) != "").select(
            F.col(SOURCE).alias("source"),
            F.col(FILE).alias("file"),
            F.split(REASONS, SEPARATOR).alias("reasons"),
            F.col(RECORD).alias("record"),
            F.when(F.col(REASONS) == NOT_UTF8, bytes_).alias("data"),
        )
        for frame in frames
    ]
    _gathered(reduce(DataFrame.unionByName, faulty)).write.mode("overwrite").json(staged)


def _write_curated(rows: DataFrame, schema: Schema, references: Mapping[str, DataFrame], staged: str) -> None:
    kept = rows.where(F.col(OUTCOME) == "rows_out")
    for join in schema.joins:
        sound = references[join.table].where(F.col(REASONS) == "")
        unique = sound.withColumn(_PLACE, _place_among_equals(join.on)).where(F.col(_PLACE) == 1)
        columns = [*join.on, *(column.name for column in join.columns)]
        kept = kept.join(unique.select(*columns), on=list(join.on), how="left")
    month = F.date_format(schema.time_column, "yyyy-MM").alias(MONTH)
    kept = kept.select(*[column.name for column in schema.curated_columns], month)
    (
        _gathered(kept, by=MONTH)
        .sortWithinPartitions(MONTH, *schema.key)
        .write.mode("overwrite")
        .partitionBy(MONTH)
        .parquet(staged)
    )


def _gathered(rows: DataFrame, by: str = "") -> DataFrame:
    """The same rows in few large partitions (of one value of `by` each): small files make every reader slow."""
    hint = f"rebalance({by})" if by else "rebalance"
    return rows.sparkSession.sql(f"select /*+ {hint} */ * from {{rows}}", rows=rows)  # noqa: S608


def _written(files: DataFrame, by: str) -> dict[str, int]:
    """What really stands in the files: rows by the values of one column."""
    return dict(sorted((value, count) for value, count in files.groupBy(by).count().collect()))


def _report(
    schema: Schema,
    counts: Mapping[str, Mapping[str, int]],
    *,
    quarantined: Mapping[str, int],
    months: Mapping[str, int],
) -> dict[str, Any]:
    """The counts of each source, their sums, and the rows of each month as they stand in the files."""
    sources: dict[str, dict[str, Any]] = {}
    for source in SOURCES:
        found = counts.get(source, {})
        rules = {rule.reason: found.get(f"outcome/excluded/{rule.reason}", 0) for rule in schema.exclusions}
        sources[source] = {
            "rows_in": found.get("rows_in", 0),
            "rows_out": found.get("outcome/rows_out", 0),
            "quarantined": quarantined.get(source, 0),
            "duplicates": found.get("outcome/duplicates", 0),
            "excluded": sum(rules.values()),
            "reasons": _named(found, "reason/"),
            "exclusions": rules,
            "unknown_columns": _named(found, "unknown/"),
        }
    parts = list(sources.values())
    return {
        "dataset": schema.name,
        **{key: sum(part[key] for part in parts) for key in ("rows_in", *OUTCOMES)},
        **{key: _sum([part[key] for part in parts]) for key in ("reasons", "exclusions", "unknown_columns")},
        "sources": sources,
        "months": dict(months),
    }


def _named(counts: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): n for name, n in sorted(counts.items()) if name.startswith(prefix)}


def _sum(parts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    names = sorted({name for part in parts for name in part})
    return {name: sum(part.get(name, 0) for part in parts) for name in names}


def _account(report: Mapping[str, Any]) -> None:
    """Every record that was read has exactly one outcome, and every row kept stands in a file."""
    for name, part in {"all sources": report, **report["sources"]}.items():
        outcomes = {key: part[key] for key in OUTCOMES}
        if part["rows_in"] != sum(outcomes.values()):
            raise AccountingError(f"{name}: rows_in = {part['rows_in']}, but {outcomes}. {_OUR_FAULT}")
    written = sum(report["months"].values())
    if written != report["rows_out"]:
        raise AccountingError(f"rows_out = {report['rows_out']}, but {written} were written. {_OUR_FAULT}")


def _demand(report: Mapping[str, Any], minimum_rows: int) -> None:
    if report["rows_out"] >= minimum_rows:
        return
    worst = sorted(report["reasons"].items(), key=lambda item: (-item[1], item[0]))[:3]
    reasons = ", ".join(f"{reason} ({count})" for reason, count in worst) or "none"
    raise InputError(
        f"{report['rows_out']} good rows, fewer than the {minimum_rows} needed: of {report['rows_in']} records "
        f"{report['quarantined']} were refused, {report['duplicates']} duplicates, {report['excluded']} excluded. "
        f"Commonest reasons: {reasons}. Mend the input; nothing was published."
    )


def _unreadable(spark: SparkSession, places: Places) -> str | None:
    """The first file of the input that cannot be read to its end, and why; Spark names no file when it meets one."""
    storage = Storage(spark)
    for place in (places.batch, places.stream, places.reference):
        for file in storage.files(place):
            if damage := storage.damage(file):
                return f"{file}: cannot be read to its end ({damage})"
    return None


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, run, print the sum; one line and exit code 1 for input that cannot be used."""
    parser = argparse.ArgumentParser(prog="curate", description=__doc__, allow_abbrev=False)
    parser.add_argument("--schema", default="flights", help="name of a file in pipeline/schemas, or a path")
    for place in dataclasses.fields(Places):
        parser.add_argument(f"--{place.name}", required=True, help="path or s3:// URI")
    parser.add_argument("--minimum-rows", type=int, default=1, help="fewer good rows are an error")
    # Glue adds flags of its own (--JOB_NAME, --TempDir, …): what is not ours is not an error.
    options, _ = parser.parse_known_args(argv)
    places = Places(**{p.name: getattr(options, p.name).rstrip("/") for p in dataclasses.fields(Places)})
    try:
        schema = load(options.schema)
        spark = SparkSession.builder.appName(f"curate {schema.name}").getOrCreate()
        report = curate(spark, schema, places, minimum_rows=options.minimum_rows)
    except (InputError, AccountingError, SchemaError) as error:
        raise SystemExit(f"curate: {error}") from None
    except Py4JJavaError:
        if unreadable := _unreadable(spark, places):
            remedy = "Upload it again, whole; nothing was published."
            raise SystemExit(f"curate: {unreadable}. {remedy}") from None
        raise
    print(
        f"curate: {report['rows_in']:,} records in = {report['rows_out']:,} rows out + "
        f"{report['quarantined']:,} quarantined + {report['duplicates']:,} duplicates + "
        f"{report['excluded']:,} excluded"
    )


if __name__ == "__main__":
    main()
