"""Somebody else's CSV, described by no more keys than a schema must have: curated by Spark, then prepared."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pyspark.sql import SparkSession

from pipeline import curated, prepare, schema
from pipeline.spark.curate import Places, curate

MINIMAL = {
    "name": "sales",
    "description": "Whether a shop sells more than 10 an hour.",
    "columns": [
        {"name": "at", "type": "timestamp"},
        {"name": "shop", "type": "string"},
        {"name": "2nd_floor", "type": "int"},
        {"name": "label", "type": "float"},
    ],
    "key": ["at", "shop"],
    "time_column": "at",
    "label": {"name": "busy", "column": "label", "greater_than": 10},
    "leakage": [],
    "features": [{"name": "shop", "encoding": "one_hot"}, {"name": "2nd_floor", "encoding": "numeric"}],
    "split": {"train": 0.7, "validation": 0.15},
}


def test_a_minimal_schema_is_curated_and_prepared(spark: SparkSession, tmp_path: Path) -> None:
    start = datetime(2024, 1, 1, tzinfo=UTC)
    lines = [
        f"{start + timedelta(hours=hour):%Y-%m-%dT%H:%M:%SZ},{shop},{hour % 3},{hour % 20}"
        for hour in range(200)
        for shop in ("north", "south")
    ]
    (tmp_path / "batch").mkdir()
    (tmp_path / "batch" / "sales.csv").write_text("\n".join(["at,shop,2nd_floor,label", *lines, "soon,,1,2"]))
    places = {"batch", "stream", "reference", "curated", "quarantine", "report"}
    mine = schema.parse(json.dumps(MINIMAL), source="sales.json")
    report = curate(spark, mine, Places(**{place: str(tmp_path / place) for place in places}))
    assert (report["rows_in"], report["rows_out"], report["quarantined"]) == (401, 400, 1)
    assert report["reasons"] == {"bad_timestamp:at": 1, "null:shop": 1}
    tables, transform, summary = prepare.prepare(
        curated.read(tmp_path / "curated", mine), mine, "classification"
    )
    assert transform.names == ("shop=north", "shop=south", "2nd_floor")
    assert [tables[name].num_rows for name in ("train", "validation", "test")] == [280, 60, 60]
    assert summary["test"]["first"] == "2024-01-08T02:00:00Z"  # type: ignore[index]
