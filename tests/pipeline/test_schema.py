"""The schema: what it refuses, and the facts that other files derive from it."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lambdas import validation
from pipeline import schema
from pipeline.schema import Schema, SchemaError
from pipeline.spark import checks, curate, records


@pytest.fixture
def raw() -> dict[str, Any]:
    """The flights schema as JSON, to be spoiled."""
    content: dict[str, Any] = json.loads((schema.SCHEMAS / "flights.json").read_text())
    return content


def refuse(raw: dict[str, Any]) -> str:
    with pytest.raises(SchemaError) as caught:
        schema.parse(json.dumps(raw), source="mine.json")
    message = str(caught.value)
    assert message.startswith("mine.json: ")
    return message


def test_a_schema_survives_its_way_into_a_model_and_back(flights_schema: Schema) -> None:
    assert schema.parse(schema.to_json(flights_schema), source="model") == flights_schema


def test_no_feature_is_known_only_after_the_fact(flights_schema: Schema) -> None:
    requested = {column.name for column in flights_schema.request_columns}
    assert not requested & {*flights_schema.leakage, flights_schema.label.column}


def test_request_columns_are_the_features_sources_each_once(flights_schema: Schema) -> None:
    names = [column.name for column in flights_schema.request_columns]
    assert names[:6] == ["carrier", "origin", "dest", "manufacturer", "time_hour", "hour"]
    assert len(names) == len(set(names))


def test_curated_columns_hold_key_time_label_and_request(flights_schema: Schema) -> None:
    names = [column.name for column in flights_schema.curated_columns]
    assert names[:5] == ["time_hour", "carrier", "flight", "arr_delay", "origin"]
    assert len(names) == len(set(names))
    assert {column.name for column in flights_schema.request_columns} <= set(names)


def test_an_unknown_column_is_a_key_error(flights_schema: Schema) -> None:
    with pytest.raises(KeyError, match="altitude"):
        flights_schema.column("altitude")


def test_a_schema_is_found_by_name_or_by_path(flights_schema: Schema, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(json.loads(schema.to_json(flights_schema)) | {"name": "mine"}))
    assert schema.load(str(path)) == dataclasses.replace(flights_schema, name="mine")


def test_a_schema_inside_a_zip_is_read_through_its_loader(tmp_path: Path) -> None:
    package = tmp_path / "src" / "pipeline"
    shutil.copytree(schema.SCHEMAS, package / "schemas")
    for name in ("__init__.py", "schema.py"):
        shutil.copy(Path(schema.__file__).parent / name, package)
    archive = shutil.make_archive(str(tmp_path / "code"), "zip", tmp_path / "src")
    code = "from pipeline import schema; print(schema.__file__, schema.load('flights').name)"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": archive},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "code.zip" in ran.stdout
    assert ran.stdout.split()[-1] == "flights"


def test_a_missing_schema_names_those_there_are() -> None:
    with pytest.raises(SchemaError, match=r"ships.json: no such schema file.*flights"):
        schema.load("ships")


def test_a_schema_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_bytes('{"name": "caf\xe9"}'.encode("latin-1"))
    with pytest.raises(SchemaError, match=r"mine\.json: not UTF-8 .*Save it as UTF-8"):
        schema.load(str(path))


def test_a_byte_order_mark_before_a_schema_is_ignored(flights_schema: Schema, tmp_path: Path) -> None:
    path = tmp_path / "mine.json"
    path.write_bytes(b"\xef\xbb\xbf" + schema.to_json(flights_schema).encode())
    assert schema.load(str(path)) == flights_schema


def test_text_that_is_not_json_names_the_line() -> None:
    with pytest.raises(SchemaError, match=r"mine.json: not JSON .*line 2"):
        schema.parse("{\n]", source="mine.json")


def test_a_schema_must_be_an_object() -> None:
    with pytest.raises(SchemaError, match=r"the file = \[\]: must be an object"):
        schema.parse("[]", source="mine.json")


def test_an_unknown_key_is_named_with_those_known(raw: dict[str, Any]) -> None:
    raw["columns"][0]["typ"] = "int"
    assert "columns[0].typ" in refuse(raw)


def test_a_missing_key_is_named(raw: dict[str, Any]) -> None:
    del raw["split"]
    assert "split = null: missing" in refuse(raw)


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("columns", 0, "type"), "integer", "must be one of int, float, string, timestamp"),
        (("columns", 0, "nullable"), "no", "must be true or false"),
        (("columns", 0, "minimum"), "0", "must be a number"),
        (("columns", 0, "minimum"), True, "must be a number"),
        (("columns", 0, "name"), "", "must be a non-empty string"),
        (("columns",), "all", "must be a list"),
        (("leakage",), [1], "must be a list of strings"),
        (("joins", 1, "rename"), [], "must be an object of names"),
        (("joins", 1, "rename"), {"year": ["plane_year"]}, "must be an object of names"),
        (("joins", 1, "rename"), {"year": "plane_year", "a": "plane_year"}, "two columns under one name"),
        (("joins", 0, "on"), [], "must name the columns that identify a row of the table"),
        (("joins", 0, "table"), "../x", "must be of letters, digits and underscores: it is a folder"),
        (("columns", 0, "allowed"), ["2013"], "names at least one value, of a string"),
        (("columns", 9, "allowed"), [], "names at least one value"),
        (("columns", 0, "minimum"), float("nan"), "NaN is no number of JSON"),
        (("split", "train"), float("inf"), "Infinity is no number of JSON"),
        (("facet", "values"), [], "must name at least one value"),
        (("label",), [], "must be an object"),
        (("features", 11, "bins"), 8.5, "must be a whole number"),
        (("features", 0, "encoding"), "hash", "must be one of label, one_hot"),
        (("derived", 0, "function"), "hour", "must be one of day_of_week"),
        (("split",), {"train": 0.7, "validation": 0.3}, "leave some for the test"),
        (("split",), {"train": 0, "validation": 0.3}, "fractions above 0"),
        (("key",), [], "must name the columns"),
        (("key",), ["altitude"], "no such column"),
        (("time_column",), "hour", "must be of type timestamp"),
        (("label", "column"), "tailnum", "must be of type int or float"),
        (("features",), [], "at least one feature"),
        (("features", 0, "encoding"), "normalize", "a string takes 'label' or 'one_hot'"),
        (("features", 0, "name"), "time_hour", "a time is no feature by itself"),
        (("features", 0, "name"), "origin", "named twice"),
        (("features", 11, "bins"), None, "goes with encoding 'bin', only"),
        (("features", 11, "bins"), 1, "must be at least 2"),
        (("features", 5, "bins"), 4, "goes with encoding 'bin', only"),
        (("features", 5, "name"), "dep_delay", "known only after the fact"),
        (("features", 5, "name"), "arr_delay", "known only after the fact"),
        (("derived", 0, "source"), "hour", "day_of_week needs a timestamp"),
        (("joins", 0, "columns", 0, "name"), "hour", "defined twice"),
        (("joins", 0, "columns", 0, "name"), "Hour", "defined twice"),
        (("joins", 0, "table"), "planes", 'joins = ["planes"]: joined twice'),
        (("joins", 0, "columns", 0, "nullable"), False, "joins.weather.temp.nullable = false: a left join"),
        (("joins", 0, "columns", 0, "minimum"), "0", "must be a number"),
        (
            ("joins", 1, "columns", 1, "maximum"),
            3,
            "joins.planes.manufacturer.maximum = 3: goes with a number",
        ),
        (("joins", 1, "rename"), {"year": "built"}, 'joins.planes.rename.year = "built": no such column'),
        (
            ("joins", 1, "rename"),
            {"year": 1},
            'joins[1].rename = {"year": 1}: must be an object of names',
        ),
        (("joins", 1, "rename"), {"the.year": "plane_year"}, 'joins.planes = "the.year": must be of letters'),
        (("joins", 1, "rename"), {"seats": "plane_year"}, 'joins.planes = ["seats"]: defined twice'),
        (("columns", 0, "maximum"), 2012, "columns.year.minimum = 2013: above the maximum 2012"),
        (
            ("columns", 9, "minimum"),
            1,
            "columns.carrier.minimum = 1: goes with a number, and this is a string",
        ),
        (
            ("columns", 18, "maximum"),
            1,
            "columns.time_hour.maximum = 1: goes with a number, and this is a time",
        ),
        (
            ("columns", 0, "name"),
            "the.year",
            'columns = "the.year": must be of letters, digits and underscores',
        ),
        (("columns", 0, "name"), "année", "must be of letters, digits and underscores"),
        (("columns", 0, "name"), "_source", "with no underscore in front"),
        (
            ("columns", 0, "name"),
            "Event_month",
            'columns = "Event_month": reserved, as are event_id, event_time',
        ),
        (("columns", 0, "name"), "event_id", "reserved"),
        (("derived", 0, "name"), "week day", "must be of letters, digits and underscores"),
        (("facet", "column"), "altitude", "no such column"),
        (("facet", "values"), ["LGA", "BOS"], 'facet.values = ["BOS"]: never in origin. Use EWR, JFK, LGA.'),
    ],
)
def test_a_contradiction_is_refused_with_its_reason(
    raw: dict[str, Any], path: tuple[str | int, ...], value: object, reason: str
) -> None:
    place: Any = raw
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    assert reason in refuse(raw)


def test_a_schema_bears_the_name_it_is_found_by(
    raw: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.json").write_text(json.dumps(raw))
    monkeypatch.setattr(schema, "SCHEMAS", tmp_path)
    with pytest.raises(SchemaError, match=r'mine\.json: name = "flights": must be the file\'s name, mine\.'):
        schema.load("mine")


def test_a_name_that_the_etl_or_the_stream_needs_is_reserved() -> None:
    assert {*schema.RESERVED} == {curate.MONTH, *(column.name for column in validation.EVENT_COLUMNS)}
    own = (*records.META, *checks.META, curate.OUTCOME)
    assert all(name.startswith("_") for name in own)


@pytest.mark.parametrize("key", ["exclusions", "joins", "derived", "facet", "null_values"])
def test_what_a_data_set_may_lack_has_a_default(raw: dict[str, Any], key: str) -> None:
    del raw[key]
    joined = {column["name"] for join in raw.get("joins", []) for column in join["columns"]}
    known = (
        {column["name"] for column in raw["columns"]} | joined | {d["name"] for d in raw.get("derived", [])}
    )
    raw["features"] = [feature for feature in raw["features"] if feature["name"] in known]
    parsed = schema.parse(json.dumps(raw), source="mine.json")
    assert not getattr(parsed, key)
    assert schema.parse(schema.to_json(parsed), source="model") == parsed


def test_a_feature_derived_from_a_leaking_column_is_refused(raw: dict[str, Any]) -> None:
    raw["columns"].append({"name": "landed_at", "type": "timestamp"})
    raw["leakage"].append("landed_at")
    raw["derived"][0]["source"] = "landed_at"
    assert "known only after the fact" in refuse(raw)
