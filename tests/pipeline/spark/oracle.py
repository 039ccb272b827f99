"""What the ETL must give, by other means: Python's csv and json split the records, duckdb does the rest in SQL.

Written from the schema's JSON file and the ETL's stated rules; it shares no code with `pipeline/`.
"""
# ruff: noqa: S608 - the SQL is made of the schema's own names

import csv
import gzip
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pyarrow as pa

SCHEMA = json.loads((Path(__file__).parents[3] / "pipeline/schemas/flights.json").read_text())
SQL_TYPES = {"int": "bigint", "float": "double", "string": "varchar", "timestamp": "timestamptz"}
PATTERNS = {
    "int": r"\s*[+-]?[0-9]+\s*",
    "float": r"\s*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?\s*",
    "timestamp": r"\s*\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,6})?(Z|[+-]\d\d:\d\d)?\s*",
}


class Line(NamedTuple):
    """A record with the text of its fields; `fields` is None if the line is malformed or not UTF-8.

    Bytes of the record that are not UTF-8 are lone surrogates.
    """

    source: str
    file: str
    record: str
    fields: dict[str, str | None] | None


class Expected(NamedTuple):
    """The curated rows by key, the quarantined as (source, file, record, reasons), and each source's counts."""

    rows: pa.Table
    quarantined: list[tuple[str, str, str, tuple[str, ...]]]
    sources: dict[str, dict[str, Any]]


def curate(raw: Path) -> Expected:
    """Curate the folders batch/, stream/ and reference/ of `raw`."""
    key = ", ".join(SCHEMA["key"])
    excluded = " ".join(f"when {rule['when_null']} is null then 'excluded'" for rule in SCHEMA["exclusions"])
    with duckdb.connect() as db:
        db.execute("set timezone = 'UTC'")
        lines = [*csv_lines(raw / "batch", "batch"), *json_lines(raw / "stream")]
        check(db, "flight", lines, SCHEMA["columns"], required={*SCHEMA["key"], SCHEMA["time_column"]})
        db.execute(f"""
            create table decided as select *, case
                when len(reasons) > 0 then 'quarantined'
                when row_number() over (
                    partition by {key}, len(reasons) > 0 order by source, record) > 1 then 'duplicates'
                {excluded} else 'rows_out' end as outcome
            from flight""")
        quarantined = db.execute(
            "select source, file, record, reasons from flight where len(reasons) > 0"
        ).fetchall()
        return Expected(
            rows=joined(db, raw),
            quarantined=sorted(
                (source, file, record.decode(errors="surrogateescape"), tuple(why))
                for source, file, record, why in quarantined
            ),
            sources={source: counts(db, lines, source) for source in ("batch", "stream")},
        )


def csv_lines(folder: Path, source: str) -> Iterator[Line]:
    for path in sorted(folder.rglob("*.csv")):
        first, *rest = path.read_bytes().decode(errors="surrogateescape").split("\n")
        header = next(csv.reader([first]))
        for line in rest:
            if line.strip() and line != first:
                values = next(csv.reader([line]))
                nulls = {"", *SCHEMA["null_values"]}
                fields = {name: None if v in nulls else v for name, v in zip(header, values, strict=False)}
                whole = len(values) == len(header) and is_utf8(line)
                yield Line(source, path.relative_to(folder).as_posix(), line, fields if whole else None)


def json_lines(folder: Path) -> Iterator[Line]:
    for path in sorted(folder.rglob("*.gz")):
        for line in gzip.decompress(path.read_bytes()).decode(errors="surrogateescape").split("\n"):
            if line.strip():
                fields = json_fields(line) if is_utf8(line) else None
                yield Line("stream", path.relative_to(folder).as_posix(), line, fields)


def is_utf8(line: str) -> bool:
    return not any("\udc80" <= character <= "\udcff" for character in line)


def json_fields(line: str) -> dict[str, str | None] | None:
    def refuse(constant: str) -> None:
        raise ValueError(constant)

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError("a key twice")
        return dict(pairs)

    try:
        found = json.loads(
            line, parse_int=str, parse_float=str, parse_constant=refuse, object_pairs_hook=unique
        )
    except ValueError:
        return None
    if not isinstance(found, dict):
        return None
    return {k: v if v is None or isinstance(v, str) else json.dumps(v) for k, v in found.items()}


def broken(line: Line) -> str | None:
    if line.fields is not None:
        return None
    return "malformed" if is_utf8(line.record) else "not_utf8"


def check(
    db: duckdb.DuckDBPyConnection,
    table: str,
    lines: list[Line],
    columns: list[dict[str, Any]],
    required: set[str],
) -> None:
    """Create `table`: source, file, record, reasons and the typed columns."""
    names = [column["name"] for column in columns]
    text = [
        {
            "source": line.source,
            "file": line.file,
            "record": line.record.encode(errors="surrogateescape"),
            "broken": broken(line),
            "missing": [name for name in names if name not in (line.fields or {})],
            **{f"{name}_text": (line.fields or {}).get(name) for name in names},
        }
        for line in lines
    ]
    strings = [
        (name, pa.string()) for name in ("source", "file", "broken", *(f"{name}_text" for name in names))
    ]
    schema = pa.schema([*strings, ("record", pa.binary()), ("missing", pa.list_(pa.string()))])
    db.register("text", pa.Table.from_pylist(text, schema=schema))
    values = ", ".join(f"{value(column)} as {column['name']}" for column in columns)
    faults = ", ".join(fault(column, required=column["name"] in required) for column in columns)
    db.execute(f"""
        create table {table} as
        select * exclude (broken, missing), case when broken is not null then [broken] else
            list_transform(missing, lambda name: 'missing_column:' || name)
            || list_filter([{faults}], lambda reason: reason is not null) end as reasons
        from (select *, {values} from text)""")
    db.unregister("text")


def value(column: dict[str, Any]) -> str:
    text = f"{column['name']}_text"
    if column["type"] == "string":
        return text
    typed = f"try_cast(trim({text}) as {SQL_TYPES[column['type']]})"
    finite = f" and isfinite({typed})" if column["type"] == "float" else ""
    return f"case when regexp_full_match({text}, '{PATTERNS[column['type']]}'){finite} then {typed} end"


def fault(column: dict[str, Any], *, required: bool) -> str:
    name = column["name"]
    rules = []
    if required or not column.get("nullable"):
        rules.append((f"{name}_text is null and not list_contains(missing, '{name}')", "null"))
    kind = "bad_timestamp" if column["type"] == "timestamp" else "wrong_type"
    rules.append((f"{name}_text is not null and {name} is null", kind))
    rules += [(f"{name} < {column['minimum']}", "out_of_range")] if "minimum" in column else []
    rules += [(f"{name} > {column['maximum']}", "out_of_range")] if "maximum" in column else []
    if allowed := column.get("allowed"):
        rules.append((f"{name} not in {tuple(allowed)}", "not_allowed"))
    return "case " + " ".join(f"when {test} then '{reason}:{name}'" for test, reason in rules) + " end"


def joined(db: duckdb.DuckDBPyConnection, raw: Path) -> pa.Table:
    """The kept rows with the reference columns, in the order of the key."""
    types = {column["name"]: column["type"] for column in SCHEMA["columns"]}
    joins = ""
    for join in SCHEMA["joins"]:
        theirs = {ours: name for name, ours in join.get("rename", {}).items()}
        columns = [{"name": name, "type": types[name]} for name in join["on"]]
        columns += [
            {**column, "name": theirs.get(column["name"], column["name"])} for column in join["columns"]
        ]
        lines = list(csv_lines(raw / "reference" / join["table"], "reference"))
        check(db, f"{join['table']}_all", lines, columns, required=set(join["on"]))
        on = ", ".join(join["on"])
        db.execute(f"""
            create table {join["table"]} as select * from {join["table"]}_all where len(reasons) = 0
            qualify row_number() over (partition by {on} order by record) = 1""")
        joins += f" left join {join['table']} using ({on})"
    names = [*SCHEMA["key"], SCHEMA["time_column"], SCHEMA["label"]["column"], SCHEMA["facet"]["column"]]
    sources = {derived["name"]: derived["source"] for derived in SCHEMA["derived"]}
    names += [sources.get(feature["name"], feature["name"]) for feature in SCHEMA["features"]]
    where = {column: f"decided.{column}" for column in types}
    for join in SCHEMA["joins"]:
        theirs = {ours: name for name, ours in join.get("rename", {}).items()}
        where |= {c["name"]: f"{join['table']}.{theirs.get(c['name'], c['name'])}" for c in join["columns"]}
    selected = ", ".join(f"{where[name]} as {name}" for name in dict.fromkeys(names))
    return db.execute(f"""
        select {selected}, strftime(decided.{SCHEMA["time_column"]}, '%Y-%m') as event_month
        from decided {joins} where outcome = 'rows_out'
        order by {", ".join(f"decided.{name}" for name in SCHEMA["key"])}""").to_arrow_table()


def counts(db: duckdb.DuckDBPyConnection, lines: list[Line], source: str) -> dict[str, Any]:
    """The report's entry for one source."""
    mine = [line for line in lines if line.source == source]
    names = {column["name"] for column in SCHEMA["columns"]}
    outcomes = dict(
        db.execute("select outcome, count(*) from decided where source = ? group by 1", [source]).fetchall()
    )
    reasons = db.execute(
        "select reason, count(*) from (select unnest(reasons) as reason from flight where source = ?) group by 1",
        [source],
    ).fetchall()
    return {
        "rows_in": len(mine),
        **{key: outcomes.get(key, 0) for key in ("rows_out", "quarantined", "duplicates", "excluded")},
        "reasons": dict(sorted(reasons)),
        "exclusions": {rule["reason"]: outcomes.get("excluded", 0) for rule in SCHEMA["exclusions"]},
        "unknown_columns": dict(
            sorted(Counter(n for line in mine for n in line.fields or {} if n not in names).items())
        ),
    }
