"""The data set as configuration: one JSON file says what a row is, and every other file reads it from here.

Only the standard library is used, because this module also runs inside Glue, SageMaker and Lambda, where
nothing else is certain to be installed.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args

ColumnType = Literal["int", "float", "string", "timestamp"]
Encoding = Literal["label", "one_hot", "normalize", "standardize", "bin", "log", "numeric"]
Derivation = Literal["day_of_week"]
ProblemType = Literal["classification", "regression"]

SCHEMAS = Path(__file__).parent / "schemas"
# What the stream adds to a record, and what partitions the curated table. Names with a leading underscore are the ETL's.
RESERVED = ("event_id", "event_time", "event_month")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_]*")


class SchemaError(ValueError):
    """A schema file that cannot be used: the message names the file, the key, the value and the remedy."""


Fail = Callable[[str, object, str], SchemaError]


@dataclasses.dataclass(frozen=True)
class Column:
    """One raw column. `minimum` and `maximum` are inclusive, in the column's own unit."""

    name: str
    type: ColumnType
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    allowed: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Join:
    """A left join with a reference table, unique on `on`; `rename` maps its column names to ours."""

    table: str
    on: tuple[str, ...]
    columns: tuple[Column, ...]
    rename: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Exclusion:
    """A rule, not an error: a row without `when_null` cannot be labelled, so it is counted and left out."""

    reason: str
    when_null: str


@dataclasses.dataclass(frozen=True)
class Derived:
    """A feature source computed from one column, at training and at serving by the same function."""

    name: str
    source: str
    function: Derivation


@dataclasses.dataclass(frozen=True)
class Feature:
    """One model input: which column, and how it is encoded. `bins` only goes with `bin` (quantile bins)."""

    name: str
    encoding: Encoding
    bins: int | None = None


@dataclasses.dataclass(frozen=True)
class Label:
    """What is predicted: the value of `column`, or, for classification, whether it exceeds `greater_than`."""

    name: str
    column: str
    greater_than: float


@dataclasses.dataclass(frozen=True)
class Facet:
    """The group whose treatment is compared (Clarify's term): rows where `column` is one of `values`."""

    column: str
    values: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Split:
    """Fractions of the rows, in order of time; what remains is the test set."""

    train: float
    validation: float


@dataclasses.dataclass(frozen=True)
class Schema:
    """A data set: what is read, what is refused, what is joined, and what the model sees.

    `null_values` are texts that mean null in its CSV files, besides an empty field; JSON has its own null.
    """

    name: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    time_column: str
    label: Label
    leakage: tuple[str, ...]
    features: tuple[Feature, ...]
    split: Split
    exclusions: tuple[Exclusion, ...] = ()
    joins: tuple[Join, ...] = ()
    derived: tuple[Derived, ...] = ()
    facet: Facet | None = None
    null_values: tuple[str, ...] = ()

    def column(self, name: str) -> Column:
        """The raw or joined column called `name`; `KeyError` if there is none."""
        for column in (*self.columns, *(c for join in self.joins for c in join.columns)):
            if column.name == name:
                return column
        raise KeyError(name)

    @functools.cached_property  # the stream asks for every record
    def request_columns(self) -> tuple[Column, ...]:
        """The columns a prediction request carries: the sources of all features, in the features' order."""
        sources = {d.name: d.source for d in self.derived}
        names = dict.fromkeys(sources.get(feature.name, feature.name) for feature in self.features)
        return tuple(self.column(name) for name in names)

    @property
    def curated_columns(self) -> tuple[Column, ...]:
        """The columns of the curated table: key, time, label source, facet and request columns, each once."""
        facet = (self.facet.column,) if self.facet else ()
        names = (*self.key, self.time_column, self.label.column, *facet)
        names += tuple(column.name for column in self.request_columns)
        return tuple(self.column(name) for name in dict.fromkeys(names))


def load(name_or_path: str) -> Schema:
    """Read a schema by the name of a file in `pipeline/schemas/`, which it must bear too, or by its path.

    Raises `SchemaError` if the file is missing, is not JSON in UTF-8, or contradicts itself.
    """
    by_path = name_or_path.endswith(".json")
    path = Path(name_or_path) if by_path else SCHEMAS / f"{name_or_path}.json"
    try:
        # A path inside Glue's --extra-py-files archive is not on the file system: read it through its loader.
        data = path.read_bytes() if path.exists() or __spec__ is None else _from_archive(path)
        text = data.decode("utf-8-sig")
    except OSError as error:
        known = ", ".join(sorted(p.stem for p in SCHEMAS.glob("*.json"))) or "none"
        raise SchemaError(f"{path}: no such schema file. Schemas in pipeline/schemas/: {known}.") from error
    except UnicodeDecodeError as error:
        raise SchemaError(f"{path}: not UTF-8 (byte {error.start + 1}). Save it as UTF-8.") from error
    schema = parse(text, source=str(path))
    if not by_path and schema.name != name_or_path:
        raise _Reader(str(path)).fail("name", schema.name, f"must be the file's name, {name_or_path}.")
    return schema


def parse(text: str, *, source: str) -> Schema:
    """Build and check a schema from JSON text; `source` is the file named in errors."""
    try:
        raw = json.loads(text, parse_constant=lambda constant: _refuse_constant(source, constant))
    except json.JSONDecodeError as error:
        raise SchemaError(
            f"{source}: not JSON ({error.msg}, line {error.lineno}). Mend that line."
        ) from error
    reader = _Reader(source)
    schema: Schema = reader.build(Schema, raw, "")
    _check(schema, source)
    return schema


def to_json(schema: Schema) -> str:
    """The schema as JSON text; `parse` reads it back to an equal schema. It ships inside every model."""
    return json.dumps(dataclasses.asdict(schema), indent=1, sort_keys=True)


def _refuse_constant(source: str, constant: str) -> NoReturn:
    raise SchemaError(f"{source}: {constant} is no number of JSON. Write a number, or leave the key out.")


def _from_archive(path: Path) -> bytes:
    loader = __spec__.loader if __spec__ else None
    if loader is None or not hasattr(loader, "get_data"):
        raise FileNotFoundError(str(path))
    data: bytes = loader.get_data(str(path))
    return data


class _Reader:
    """Turns JSON into the frozen classes above, refusing unknown keys, wrong types and missing keys."""

    _nested: Mapping[str, type] = {
        "columns": Column,
        "joins": Join,
        "exclusions": Exclusion,
        "derived": Derived,
        "features": Feature,
        "label": Label,
        "facet": Facet,
        "split": Split,
    }
    _choices: Mapping[tuple[type, str], tuple[str, ...]] = {
        (Column, "type"): get_args(ColumnType),
        (Feature, "encoding"): get_args(Encoding),
        (Derived, "function"): get_args(Derivation),
    }

    def __init__(self, source: str) -> None:
        self._source = source

    def fail(self, key: str, value: object, remedy: str) -> SchemaError:
        return SchemaError(f"{self._source}: {key} = {json.dumps(value)}: {remedy}")

    def build(self, cls: type, raw: object, at: str) -> Any:
        if not isinstance(raw, dict):
            raise self.fail(at or "the file", raw, "must be an object.")
        fields = {f.name: f for f in dataclasses.fields(cls)}
        for key in raw:
            if key not in fields:
                raise self.fail(f"{at}{key}", raw[key], f"unknown key. Known: {', '.join(fields)}.")
        values = {}
        for name, field in fields.items():
            if name in raw:
                values[name] = self.value(cls, name, str(field.type), raw[name], f"{at}{name}")
            elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
                raise self.fail(f"{at}{name}", None, f"missing: every {cls.__name__.lower()} states it.")
        return cls(**values)

    def value(self, cls: type, name: str, annotation: str, raw: object, key: str) -> Any:
        if raw is None and "None" in annotation:
            return None
        nested = self._nested.get(name)
        if nested and annotation.startswith("tuple"):
            items = self.sequence(raw, key)
            return tuple(self.build(nested, item, f"{key}[{i}].") for i, item in enumerate(items))
        if nested:
            return self.build(nested, raw, f"{key}.")
        if choices := self._choices.get((cls, name)):
            if raw not in choices:
                raise self.fail(key, raw, f"must be one of {', '.join(choices)}.")
            return raw
        if annotation.startswith("tuple"):
            items = self.sequence(raw, key)
            if not all(isinstance(item, str) for item in items):
                raise self.fail(key, raw, "must be a list of strings.")
            return tuple(items)
        return self.scalar(annotation, raw, key)

    def scalar(self, annotation: str, raw: object, key: str) -> object:
        number = isinstance(raw, int | float) and not isinstance(raw, bool)
        expected: tuple[str, bool]
        if annotation.startswith("float"):
            expected = ("a number", number)
        elif annotation.startswith("int"):
            expected = ("a whole number", number and isinstance(raw, int))
        elif annotation.startswith("bool"):
            expected = ("true or false", isinstance(raw, bool))
        elif annotation.startswith("Mapping"):
            names = isinstance(raw, dict) and all(isinstance(name, str) for name in raw.values())
            expected = ("an object of names", names)
        else:
            expected = ("a non-empty string", isinstance(raw, str) and raw != "")
        if not expected[1]:
            raise self.fail(key, raw, f"must be {expected[0]}.")
        return raw

    def sequence(self, raw: object, key: str) -> Sequence[Any]:
        if isinstance(raw, str) or not isinstance(raw, Sequence):
            raise self.fail(key, raw, "must be a list.")
        return raw


def _check(schema: Schema, source: str) -> None:
    """Refuse a schema that names a column it does not have, or lets the label's source reach the model."""
    fail = _Reader(source).fail
    raw = [column.name for column in schema.columns]
    joined = [column.name for join in schema.joins for column in join.columns]
    names = raw + joined + [derived.name for derived in schema.derived]
    _check_names("columns", names, fail)
    for column in schema.columns:
        _check_range(column, f"columns.{column.name}", fail)
    _check_joins(schema, fail)
    references = [
        *(("key", name, raw) for name in schema.key),
        *(("leakage", name, raw) for name in schema.leakage),
        *(("exclusions", exclusion.when_null, raw) for exclusion in schema.exclusions),
        *((f"joins.{join.table}.on", name, raw) for join in schema.joins for name in join.on),
        *((f"derived.{derived.name}", derived.source, raw + joined) for derived in schema.derived),
        *(("features", feature.name, names) for feature in schema.features),
        ("time_column", schema.time_column, raw),
        ("label.column", schema.label.column, raw),
        *([("facet.column", schema.facet.column, raw)] if schema.facet else []),
    ]
    for key, name, among in references:
        if name not in among:
            raise fail(key, name, f"no such column. Known: {', '.join(among)}.")
    if schema.column(schema.time_column).type != "timestamp":
        raise fail("time_column", schema.time_column, "must be of type timestamp.")
    if not schema.key:
        raise fail("key", [], "must name the columns that identify a row; duplicates are found by them.")
    total = schema.split.train + schema.split.validation
    if min(schema.split.train, schema.split.validation) <= 0 or total >= 1:
        raise fail(
            "split", dataclasses.asdict(schema.split), "fractions above 0 that leave some for the test."
        )
    if schema.facet:
        if not schema.facet.values:
            raise fail("facet.values", [], "must name at least one value.")
        allowed = schema.column(schema.facet.column).allowed
        if allowed is not None and (unknown := sorted(set(schema.facet.values) - set(allowed))):
            raise fail("facet.values", unknown, f"never in {schema.facet.column}. Use {', '.join(allowed)}.")
    _check_features(schema, fail)


def _check_names(key: str, names: Sequence[str], fail: Fail) -> None:
    for name in names:
        if not _NAME.fullmatch(name):
            raise fail(
                key,
                name,
                "must be of letters, digits and underscores, with no underscore in front. Rename it.",
            )
        if name.lower() in RESERVED:
            raise fail(key, name, f"reserved, as are {', '.join(RESERVED)}. Rename it.")
    # Spark and Glue take no notice of case.
    lower = [name.lower() for name in names]
    if repeated := sorted({name for name in names if lower.count(name.lower()) > 1}):
        raise fail(key, repeated, "defined twice. Rename the joined or derived one.")


def _check_range(column: Column, key: str, fail: Fail) -> None:
    low, high = column.minimum, column.maximum
    for bound, value in (("minimum", low), ("maximum", high)):
        if value is not None and column.type not in {"int", "float"}:
            raise fail(
                f"{key}.{bound}", value, f"goes with a number, and this is a {column.type}. Remove it."
            )
    if column.allowed is not None and (column.type != "string" or not column.allowed):
        raise fail(f"{key}.allowed", column.allowed, "names at least one value, of a string. Remove it.")
    if low is not None and high is not None and low > high:
        raise fail(f"{key}.minimum", low, f"above the maximum {high}: no value would do. Exchange them.")


def _check_joins(schema: Schema, fail: Fail) -> None:
    tables = [join.table for join in schema.joins]
    if repeated := sorted({table for table in tables if tables.count(table) > 1}):
        raise fail("joins", repeated, "joined twice. Put all columns of a table into one join.")
    for join in schema.joins:
        key = f"joins.{join.table}"
        if not _NAME.fullmatch(join.table):
            raise fail(
                "joins.table", join.table, "must be of letters, digits and underscores: it is a folder."
            )
        if not join.on:
            raise fail(f"{key}.on", [], "must name the columns that identify a row of the table.")
        if len(set(join.rename.values())) < len(join.rename):
            raise fail(f"{key}.rename", dict(join.rename), "two columns under one name. Keep one of them.")
        ours = [column.name for column in join.columns]
        theirs = {name: their for their, name in join.rename.items()}
        for their, name in join.rename.items():
            if name not in ours:
                raise fail(f"{key}.rename.{their}", name, f"no such column. Known: {', '.join(ours)}.")
        _check_names(key, [*join.on, *(theirs.get(name, name) for name in ours)], fail)
        for column in join.columns:
            _check_range(column, f"{key}.{column.name}", fail)
            if not column.nullable:
                raise fail(
                    f"{key}.{column.name}.nullable",
                    column.nullable,
                    "a left join finds no partner for some rows. Write true.",
                )


def _check_features(schema: Schema, fail: Fail) -> None:
    if not schema.features:
        raise fail("features", [], "a model needs at least one feature.")
    names = [feature.name for feature in schema.features]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise fail("features", repeated, "named twice. Keep one encoding of each.")
    sources = {derived.name: derived.source for derived in schema.derived}
    for derived in schema.derived:
        if schema.column(derived.source).type != "timestamp":
            raise fail(f"derived.{derived.name}", derived.source, f"{derived.function} needs a timestamp.")
    for feature in schema.features:
        source = sources.get(feature.name, feature.name)
        if source in schema.leakage or source == schema.label.column:
            raise fail(
                "features", feature.name, "known only after the fact (leakage). Remove it from features."
            )
        _check_encoding(feature, "float" if feature.name in sources else schema.column(source).type, fail)
    if schema.column(schema.label.column).type not in {"int", "float"}:
        raise fail("label.column", schema.label.column, "must be of type int or float.")


def _check_encoding(feature: Feature, kind: ColumnType, fail: Fail) -> None:
    key = f"features.{feature.name}"
    categorical = feature.encoding in {"label", "one_hot"}
    if kind == "timestamp":
        raise fail(key, feature.encoding, "a time is no feature by itself. Derive one from it (day_of_week).")
    if kind == "string" and not categorical:
        raise fail(key, feature.encoding, "a string takes 'label' or 'one_hot'.")
    if (feature.encoding == "bin") != (feature.bins is not None):
        raise fail(f"{key}.bins", feature.bins, "goes with encoding 'bin', only.")
    if feature.bins is not None and feature.bins < 2:
        raise fail(f"{key}.bins", feature.bins, "must be at least 2.")
