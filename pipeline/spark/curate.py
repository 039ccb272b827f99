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

from pyspark.sql import Column, DataFrame, Observation, SparkSession, Window
from pyspark.sql import functions as F  # noqa: N812

from pipeline import schema as schemas
from pipeline.schema import Join, Schema, SchemaError, load
from pipeline.spark import checks, records
from pipeline.spark.checks import REASONS, SEPARATOR
from pipeline.spark.records import FILE, RECORD, SOURCE, UNKNOWN, InputError
from pipeline.spark.storage import HIDDEN, STAGING, Storage

BATCH, STREAM = "batch", "stream"
SOURCES = (BATCH, STREAM)
MONTH = "event_month"
KEPT, DUPLICATE, EXCLUDED = "kept", "duplicate", "excluded"
_OUTCOME = "_outcome"
_TAGS = 1000


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
    reference table) and `AccountingError` if a record is unaccounted for; either way the published table, the
    quarantine and the report stay as they were.
    """
    _configure(spark)
    storage = Storage(spark)
    staged_rows, staged_quarantine = f"{places.curated}/{STAGING}", f"{places.quarantine}/{STAGING}"
    references = [_reference(spark, schema, join, places.reference) for join in schema.joins]
    rows = _rows(spark, schema, places).persist()
    try:
        counts = _counts(rows)
        faulty = reduce(DataFrame.unionByName, [_quarantined(part) for part in (rows, *references)])
        faulty.write.mode("overwrite").json(staged_quarantine)
        outcomes = _write_curated(rows, schema, references, staged_rows)
        report = _report(schema, counts, outcomes, months=_months(spark, staged_rows))
        report["reference"] = {
            join.table: _reference_counts(reference)
            for join, reference in zip(schema.joins, references, strict=True)
        }
        _account(report, minimum_rows, places)
        # The report vouches for the table: there is none while the table changes.
        storage.delete(places.report)
        storage.publish(staged_quarantine, places.quarantine)
        storage.publish(staged_rows, places.curated)
        storage.write_text(places.report, json.dumps(report, indent=1) + "\n")
    finally:
        rows.unpersist()
        storage.delete(f"{places.curated}/{HIDDEN}")
        storage.delete(f"{places.quarantine}/{HIDDEN}")
    return report


def _configure(spark: SparkSession) -> None:
    for key, value in {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.ansi.enabled": "false",  # a cast that fails is null, and a reason, not an exception
        "spark.sql.parquet.compression.codec": "snappy",
        "spark.sql.parquet.outputTimestampType": "TIMESTAMP_MICROS",
        "spark.sql.parquet.datetimeRebaseModeInWrite": "CORRECTED",  # one old date must not end the job
        "spark.sql.sources.partitionColumnTypeInference.enabled": "false",  # "2013-01" is a month, not a date
    }.items():
        spark.conf.set(key, value)


def _rows(spark: SparkSession, schema: Schema, places: Places) -> DataFrame:
    """All records of both sources, typed and checked."""
    names = [column.name for column in schema.columns]
    batch = records.read_csv(spark, places.batch, source=BATCH, columns=names, null_values=schema.null_values)
    stream = records.read_json(spark, places.stream, source=STREAM, columns=names)
    found = [part for part in (batch, stream) if part is not None]
    if not found:
        raise _nothing(places)
    required = (*schema.key, schema.time_column)
    return checks.typed(reduce(DataFrame.unionByName, found), schema.columns, required=required)


def _nothing(places: Places) -> InputError:
    return InputError(
        f"no record in {places.batch} or {places.stream}. Upload a CSV file, or send records to the stream."
    )


def _reference(spark: SparkSession, schema: Schema, join: Join, location: str) -> DataFrame:
    """The rows of a reference table, typed and checked, in our column names."""
    ours_to_theirs = {ours: theirs for theirs, ours in join.rename.items()}
    keys = [schemas.Column(name, schema.column(name).type) for name in join.on]
    columns = [
        *keys,
        *(dataclasses.replace(c, name=ours_to_theirs.get(c.name, c.name)) for c in join.columns),
    ]
    found = records.read_csv(
        spark,
        f"{location}/{join.table}",
        source=f"reference/{join.table}",
        columns=[column.name for column in columns],
        null_values=schema.null_values,
    )
    if found is None:
        raise InputError(
            f"{location}/{join.table}: no file. Upload the reference table {join.table} there as CSV."
        )
    return checks.typed(found, columns, required=join.on).withColumnsRenamed(dict(join.rename)).persist()


def _counts(rows: DataFrame) -> dict[str, dict[str, int]]:
    """By source: `rows_in`, `quarantined`, and `reason/…` and `unknown/…` with their names."""
    # Few rows differ in these three, so the tags are made once for each combination.
    combinations = rows.groupBy(SOURCE, REASONS, F.concat_ws(SEPARATOR, UNKNOWN).alias(UNKNOWN)).count()
    tags = F.concat(
        F.array(F.lit("rows_in")),
        F.when(F.col(REASONS) != "", F.array(F.lit("quarantined"))).otherwise(F.array()),
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


def _quarantined(rows: DataFrame) -> DataFrame:
    return rows.where(F.col(REASONS) != "").select(
        F.col(SOURCE).alias("source"),
        F.col(FILE).alias("file"),
        F.split(REASONS, SEPARATOR).alias("reasons"),
        F.col(RECORD).alias("record"),
    )


def _write_curated(
    rows: DataFrame, schema: Schema, references: Sequence[DataFrame], staged: str
) -> dict[str, dict[str, int]]:
    """Decide on every valid row, join and write those kept; returns the outcomes counted, by source."""
    valid = rows.where(F.col(REASONS) == "")
    exclusions = [f"{EXCLUDED}/{rule.reason}" for rule in schema.exclusions]
    outcome = F.when(_place_among_equals(schema.key) > 1, DUPLICATE)
    for rule, name in zip(schema.exclusions, exclusions, strict=True):
        outcome = outcome.when(F.col(rule.when_null).isNull(), name)
    decided = valid.withColumn(_OUTCOME, outcome.otherwise(KEPT))
    observation = Observation()
    cells = [(source, name) for source in SOURCES for name in (KEPT, DUPLICATE, *exclusions)]
    kept = decided.observe(
        observation,
        *[
            F.count_if((F.col(SOURCE) == source) & (F.col(_OUTCOME) == name)).alias(f"{source} {name}")
            for source, name in cells
        ],
    ).where(F.col(_OUTCOME) == KEPT)
    for join, reference in zip(schema.joins, references, strict=True):
        columns = [*join.on, *(column.name for column in join.columns)]
        sound = reference.where(F.col(REASONS) == "").withColumn("_place", _place_among_equals(join.on))
        kept = kept.join(sound.where("_place = 1").select(*columns), on=list(join.on), how="left")
    month = F.date_format(schema.time_column, "yyyy-MM")
    kept = kept.select(*[column.name for column in schema.curated_columns], month.alias(MONTH))
    # One file a month, more only for a month too large for one: many small files make every reader slow.
    (
        rows.sparkSession.sql(f"select /*+ rebalance({MONTH}) */ * from {{kept}}", kept=kept)  # noqa: S608
        .sortWithinPartitions(MONTH, *schema.key)
        .write.mode("overwrite")
        .partitionBy(MONTH)
        .parquet(staged)
    )
    return {
        source: {name: observation.get[f"{source} {name}"] for s, name in cells if s == source}
        for source in SOURCES
    }


def _place_among_equals(key: Sequence[str]) -> Any:
    """1 for the row that stays among those with the same key: decided by content, not by where it was read."""
    return F.row_number().over(Window.partitionBy(*key).orderBy(SOURCE, RECORD))


def _months(spark: SparkSession, staged: str) -> dict[str, int]:
    """Rows by month, counted in the files that were written."""
    written = spark.read.schema(f"{MONTH} string").parquet(staged)
    return dict(sorted((month, count) for month, count in written.groupBy(MONTH).count().collect()))


def _reference_counts(reference: DataFrame) -> dict[str, int]:
    counts = _counts(reference)
    (counts_of_table,) = counts.values()
    return {"rows": counts_of_table["rows_in"]}


def _report(
    schema: Schema,
    counts: Mapping[str, Mapping[str, int]],
    outcomes: Mapping[str, Mapping[str, int]],
    *,
    months: Mapping[str, int],
) -> dict[str, Any]:
    sources = {source: _source_report(counts.get(source, {}), outcomes[source]) for source in SOURCES}
    totals = {
        key: sum(part[key] for part in sources.values())
        for key in ("rows_in", "quarantined", "duplicates", "excluded")
    }
    named = {
        key: _sum([part[key] for part in sources.values()])
        for key in ("reasons", "exclusions", "unknown_columns")
    }
    return {
        "dataset": schema.name,
        "rows_in": totals["rows_in"],
        "rows_out": sum(months.values()),
        "quarantined": totals["quarantined"],
        "duplicates": totals["duplicates"],
        "excluded": totals["excluded"],
        **named,
        "sources": sources,
        "months": dict(months),
    }


def _source_report(counts: Mapping[str, int], outcomes: Mapping[str, int]) -> dict[str, Any]:
    exclusions = {k.removeprefix(f"{EXCLUDED}/"): v for k, v in outcomes.items() if k.startswith(EXCLUDED)}
    return {
        "rows_in": counts.get("rows_in", 0),
        "rows_out": outcomes[KEPT],
        "quarantined": counts.get("quarantined", 0),
        "duplicates": outcomes[DUPLICATE],
        "excluded": sum(exclusions.values()),
        "reasons": _named(counts, "reason/"),
        "exclusions": exclusions,
        "unknown_columns": _named(counts, "unknown/"),
    }


def _named(counts: Mapping[str, int], prefix: str) -> dict[str, int]:
    return {name.removeprefix(prefix): n for name, n in sorted(counts.items()) if name.startswith(prefix)}


def _sum(parts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    names = sorted({name for part in parts for name in part})
    return {name: sum(part.get(name, 0) for part in parts) for name in names}


def _account(report: Mapping[str, Any], minimum_rows: int, places: Places) -> None:
    """Refuse to publish unless every record is accounted for and enough of them are good."""
    for name, part in {"all sources": report, **report["sources"]}.items():
        outcomes = {key: part[key] for key in ("rows_out", "quarantined", "duplicates", "excluded")}
        if part["rows_in"] != sum(outcomes.values()):
            raise AccountingError(
                f"{name}: rows_in = {part['rows_in']}, but {outcomes} add up to {sum(outcomes.values())}. "
                "Nothing was published. Report this as a fault of pipeline/spark/curate.py."
            )
    if sum(part["rows_out"] for part in report["sources"].values()) != report["rows_out"]:
        raise AccountingError("x")
    if report["rows_in"] == 0:
        raise _nothing(places)
    if report["rows_out"] < minimum_rows:
        worst = sorted(report["reasons"].items(), key=lambda item: (-item[1], item[0]))[:3]
        reasons = ", ".join(f"{reason} ({count})" for reason, count in worst) or "none"
        raise InputError(
            f"{report['rows_out']} good rows, fewer than {minimum_rows}: of {report['rows_in']} records "
            f"{report['quarantined']} were refused, {report['duplicates']} were duplicates, {report['excluded']} were "
            f"excluded. Commonest reasons: {reasons}. Mend the input; nothing was published."
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Parse, run, print the sum; one line and exit code 1 for input that cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--schema", default="flights")
    for place in dataclasses.fields(Places):
        parser.add_argument(f"--{place.name}", required=True)
    parser.add_argument("--minimum-rows", type=int, default=1)
    # Glue adds flags of its own (--JOB_NAME, --TempDir, …): what is not ours is not an error.
    options, _ = parser.parse_known_args(argv)
    places = Places(
        **{place.name: getattr(options, place.name).rstrip("/") for place in dataclasses.fields(Places)}
    )
    try:
        schema = load(options.schema)
        spark = SparkSession.builder.appName(f"curate {schema.name}").getOrCreate()
        report = curate(spark, schema, places, minimum_rows=options.minimum_rows)
    except (InputError, AccountingError, SchemaError) as error:
        raise SystemExit(f"curate: {error}") from error
    print(
        f"curate: {report['rows_in']:,} records in = {report['rows_out']:,} rows out + {report['quarantined']:,} "
        f"quarantined + {report['duplicates']:,} duplicates + {report['excluded']:,} excluded"
    )


if __name__ == "__main__":
    main()
