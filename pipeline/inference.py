"""Serving: what AWS's XGBoost server, and ours, calls for each request (script mode: model_fn, input_fn, …).

This file travels inside every model as `code/inference.py`, with the modules it imports.

Request: JSON, `{"instances": [{column: value, …}, …]}`, one bare object or a list of objects; or CSV, the columns of
`Schema.request_columns` in order, or in any order below a header line. A nullable column may be null, empty or absent.
Response: `{"predictions": [{"score": 0.7, "label": 1}, …]}` for classification, `{"predictions": [{"value": 12.5}, …]}`
for regression; as CSV, the same numbers, one line a record. A category the model has never seen is encoded as such
(`pipeline.features`), answered, and counted in the log.

Whatever is wrong with a request raises `InferenceError`, which carries the HTTP status and a reason.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import functools
import io
import json
import logging
import math
import operator
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np

from pipeline import predictors, schema
from pipeline.features import Array, FeatureError, Transform
from pipeline.schema import Column, ColumnType, Schema

JSON, CSV = "application/json", "text/csv"
# "InvokeEndpoint" (SageMaker Runtime API Reference): AWS refuses a larger body before it reaches the container.
MAX_BODY_BYTES = 6_291_456
# Ours, so that one request cannot hold a worker for long; override with the environment variable MAX_RECORDS.
DEFAULT_MAX_RECORDS = 10_000

# The Python types that JSON values of a column may have, by the column's type and whether it is nullable.
_KINDS: Mapping[tuple[ColumnType, bool], set[type]] = {
    ("int", False): {int, float},
    ("int", True): {int, float, type(None)},
    ("float", False): {int, float},
    ("float", True): {int, float, type(None)},
    ("string", False): {str},
    ("string", True): {str, type(None)},
    ("timestamp", False): {str},
    ("timestamp", True): {str, type(None)},
}
_HUGE = sys.float_info.max
# numpy's NaT as a number of seconds.
_MISSING_TIME = int(np.iinfo(np.int64).min)

logger = logging.getLogger(__name__)


class InferenceError(ValueError):
    """A request that cannot be answered. `status` is the HTTP status, `reason` what to correct.

    It is also a WSGI application that sends itself, as werkzeug's HTTP errors are: see `_server_safe`.
    """

    def __init__(self, reason: str, status: HTTPStatus = HTTPStatus.BAD_REQUEST) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = int(status)

    @property
    def body(self) -> str:
        """The response's JSON text."""
        return json.dumps({"error": self.reason})

    def __call__(self, _environ: Mapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer as WSGI (PEP 3333)."""
        body = self.body.encode()
        start_response(
            f"{self.status} {HTTPStatus(self.status).phrase}",
            [("Content-Type", JSON), ("Content-Length", str(len(body)))],
        )
        return [body]


@dataclasses.dataclass(frozen=True)
class Model:
    """What a model folder holds. `threshold` decides the class; None for regression.

    `columns` are the request's, `numbers` the names of those of numbers, `limits` their lowest and highest values.
    """

    schema: Schema
    transform: Transform
    predict: predictors.Predictor
    threshold: float | None
    columns: Mapping[str, Column]
    numbers: Sequence[str]
    limits: tuple[Array, Array]


@dataclasses.dataclass(frozen=True)
class Request:
    """A parsed body: JSON `records`, or CSV `rows` of text, whose columns only the model's schema can name."""

    records: Sequence[Mapping[str, Any]] = ()
    rows: Sequence[Sequence[str]] = ()


@dataclasses.dataclass(frozen=True)
class Prediction:
    """`values` (records,): probabilities of class 1, or predicted values; `labels` the classes, if any."""

    values: Array
    labels: Array | None


def _server_safe(function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Let an `InferenceError` reach the client with its own status under AWS's server too.

    That server (sagemaker-containers 2.8, `_functions.error_wrapper`) turns every exception of these functions into a
    ClientError, which Flask answers with 500: a client's fault would look like the model's, and could roll a good model
    back. What the functions *return* it hands to Flask untouched, and Flask sends any WSGI application. So there, and
    only there, the error travels as a value.
    """

    @functools.wraps(function)
    def call(first: Any, second: Any) -> Any:
        if isinstance(first, InferenceError):
            return first
        try:
            return function(first, second)
        except InferenceError as error:
            if "sagemaker_containers" in sys.modules:
                logger.warning("refused with %d: %s", error.status, error.reason)
                return error
            raise

    return call


def model_fn(model_dir: str) -> Model:
    """Load a model folder (`pipeline.train` describes it)."""
    # A wrong limit must stop the server at its start, not each request.
    max_records()
    folder = Path(model_dir)
    data = schema.parse((folder / "schema.json").read_text(), source=str(folder / "schema.json"))
    metadata = json.loads((folder / "metadata.json").read_text())
    numbers = [column for column in data.request_columns if column.type in {"int", "float"}]
    low = [-_HUGE if column.minimum is None else column.minimum for column in numbers]
    high = [_HUGE if column.maximum is None else column.maximum for column in numbers]
    return Model(
        schema=data,
        transform=Transform.from_json((folder / "transform.json").read_text()),
        predict=predictors.load(folder),
        threshold=metadata["threshold"],
        columns={column.name: column for column in data.request_columns},
        numbers=tuple(column.name for column in numbers),
        limits=(np.array(low), np.array(high)),
    )


@_server_safe
def input_fn(body: bytes | str, content_type: str) -> Request:
    """Parse a request's body; 400 malformed or empty, 413 too large or too many records, 415 neither JSON nor CSV."""
    if len(body) > MAX_BODY_BYTES:
        raise InferenceError(
            f"the body has {len(body)} bytes; the limit is {MAX_BODY_BYTES}. Send fewer records a request.",
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
        )
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in {JSON, CSV}:
        raise InferenceError(
            f"content type {content_type!r}: send {JSON} or {CSV}.", HTTPStatus.UNSUPPORTED_MEDIA_TYPE
        )
    # Servers decode plain JSON and CSV themselves and put U+FFFD where it failed: such text is another than was sent.
    text = body.decode(errors="replace") if isinstance(body, bytes) else body
    if "\ufffd" in text:
        raise InferenceError(f"the body is not UTF-8 at character {text.index(chr(0xFFFD))}. Send UTF-8.")
    text = text.removeprefix("\ufeff")
    request = Request(records=_records(text)) if kind == JSON else Request(rows=_rows(text))
    count, limit = len(request.records) + len(request.rows), max_records()
    if not count:
        raise InferenceError("no record in the request. Send at least one.")
    # A CSV header is one row more than records; it is told apart only where the schema is known.
    if count > limit + bool(request.rows):
        raise _too_many(count, limit)
    return request


@_server_safe
def predict_fn(request: Request, model: Model) -> Prediction:
    """Check every value against the schema, encode, predict; 400 names the record, the column and the value."""
    values = _from_csv(request.rows, model) if request.rows else _from_json(request.records, model.columns)
    columns = _arrays(values, model)
    try:
        matrix, unseen = model.transform.apply(columns)
    except FeatureError as error:
        raise InferenceError(str(error)) from error
    if unseen:
        logger.info("unseen categories: %s", json.dumps(unseen))
    predicted = model.predict(matrix)
    labels = None if model.threshold is None else (predicted >= model.threshold).astype(int)
    return Prediction(predicted, labels)


@_server_safe
def output_fn(prediction: Prediction, accept: str) -> tuple[str, str]:
    """The response's text and content type: the first of `accept` that is JSON or CSV; 406 if none is."""
    kinds = [part.partition(";")[0].strip().lower() for part in (accept or "*/*").split(",")]
    kind = next((JSON if "*" in k else k for k in kinds if k in {JSON, CSV, "*/*", "application/*"}), None)
    if kind is None:
        raise InferenceError(f"accept {accept!r}: can answer {JSON} or {CSV}.", HTTPStatus.NOT_ACCEPTABLE)
    values = prediction.values.tolist()
    if prediction.labels is None:
        if kind == CSV:
            return "\n".join(map(str, values)), CSV
        return json.dumps({"predictions": [{"value": value} for value in values]}), JSON
    pairs = zip(values, prediction.labels.tolist(), strict=True)
    if kind == CSV:
        return "\n".join(f"{score},{label}" for score, label in pairs), CSV
    # As `json.dumps` would write it, in half the time.
    predictions = ", ".join([f'{{"score": {score!r}, "label": {label}}}' for score, label in pairs])
    return f'{{"predictions": [{predictions}]}}', JSON


def max_records() -> int:
    """The most records one request may carry; `ValueError` if MAX_RECORDS is not a positive whole number."""
    text = os.environ.get("MAX_RECORDS", str(DEFAULT_MAX_RECORDS))
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"environment variable MAX_RECORDS = {text}: must be a whole number of at least 1.")
    return int(text)


def _too_many(count: int, limit: int) -> InferenceError:
    return InferenceError(
        f"{count} records; the limit is {limit} (MAX_RECORDS). Send fewer records a request.",
        HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    )


def _records(text: str) -> list[dict[str, Any]]:
    try:
        body = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise InferenceError(
            f"malformed JSON: {error.msg}, line {error.lineno} column {error.colno}."
        ) from error
    except (RecursionError, ValueError) as error:
        # Nesting deeper than the stack, an integer of more digits than Python converts, or what the hooks refuse.
        raise InferenceError(f"malformed JSON: {error}.") from error
    if isinstance(body, dict) and "instances" in body:
        if unknown := sorted(set(body) - {"instances"}):
            raise InferenceError(f"unknown key {unknown[0]!r} beside 'instances'.")
        body = body["instances"]
    records = [body] if isinstance(body, dict) else body
    if not isinstance(records, list):
        raise InferenceError("send one object, a list of objects, or {'instances': [objects]}.")
    for i, record in enumerate(records):
        if not isinstance(record, dict):
            raise InferenceError(f"record {i} is {json.dumps(record)[:50]}: must be an object of columns.")
    return records


def _refuse(constant: str) -> None:
    raise ValueError(f"the body holds {constant}, which is not JSON; send null for a missing value")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        repeated, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise ValueError(f"key {repeated!r} stands twice in one object")
    return found


# Made once: `json.loads` makes one for each call that has such hooks.
_DECODER = json.JSONDecoder(parse_constant=_refuse, object_pairs_hook=_unique)


def _rows(text: str) -> list[list[str]]:
    try:
        return [row for row in csv.reader(io.StringIO(text), strict=True) if row]
    except csv.Error as error:
        raise InferenceError(f"malformed CSV: {error}.") from error


def _from_json(
    records: Sequence[Mapping[str, Any]], columns: Mapping[str, Column]
) -> dict[str, Sequence[Any]]:
    names = tuple(columns)
    if {*map(len, records)} == {len(names)}:
        with contextlib.suppress(KeyError):
            # As most requests are: each record has every column and nothing else. One name more, so that a schema of
            # one column gets a tuple too.
            whole = operator.itemgetter(*names, names[0])
            return dict(zip(names, zip(*map(whole, records), strict=True), strict=False))
    for i, record in enumerate(records):
        if not record.keys() <= columns.keys():
            unknown = next(name for name in record if name not in columns)
            raise InferenceError(f"record {i}: unknown column {unknown!r}. Known: {', '.join(columns)}.")
    return {name: [record.get(name) for record in records] for name in names}


def _from_csv(rows: Sequence[Sequence[str]], model: Model) -> dict[str, Sequence[Any]]:
    columns = model.columns
    names: Sequence[str] = tuple(columns)
    first = [cell.strip() for cell in rows[0]]
    # A line made mostly of column names is a header, even one with a wrong name in it.
    if sum(cell in columns for cell in first) > len(first) / 2:
        names, rows = first, rows[1:]
        if unknown := [name for name in names if name not in columns]:
            raise InferenceError(f"header: unknown column {unknown[0]!r}. Known: {', '.join(columns)}.")
        if repeated := [name for name in names if names.count(name) > 1]:
            raise InferenceError(f"header: column {repeated[0]!r} stands in it twice.")
        if not rows:
            raise InferenceError("no record in the request. Send at least one below the header.")
    if len(rows) > (limit := max_records()):
        raise _too_many(len(rows), limit)
    for i, row in enumerate(rows):
        if len(row) != len(names):
            raise InferenceError(f"record {i}: {len(row)} values; expected {len(names)}: {', '.join(names)}.")
    nulls = {"", *model.schema.null_values}
    texts = dict(zip(names, zip(*rows, strict=True), strict=True))
    absent = [None] * len(rows)
    return {
        name: _cells(texts[name], column, nulls) if name in texts else absent
        for name, column in columns.items()
    }


def _cells(texts: Sequence[str], column: Column, nulls: AbstractSet[str]) -> Sequence[Any]:
    """A column's values: all at once if every cell is plain, else one by one, which also finds the wrong one."""
    if column.type == "string":
        return [None if text in nulls else text for text in texts]
    if column.type != "timestamp" and (plain := "".join(texts)).isascii() and "_" not in plain:
        read = _whole if column.type == "int" else float
        with contextlib.suppress(ValueError, OverflowError):
            numbers = [None if text in nulls else read(text) for text in texts]
            if all(number is None or math.isfinite(number) for number in numbers):
                return numbers
    return [_value(text, column, i, nulls) for i, text in enumerate(texts)]


def _whole(text: str) -> float:
    return int(text) if text.isdecimal() else float(text)


def _value(cell: str, column: Column, record: int, nulls: AbstractSet[str]) -> str | float | None:
    # As in training: a text is taken as it stands; white space around a number or a time is ignored.
    text = cell if column.type == "string" else cell.strip(" \t\n\r\f\v")
    if text in nulls:
        return None
    if column.type in {"string", "timestamp"}:
        return text
    try:
        number = _whole(text) if column.type == "int" else float(text)
        finite = math.isfinite(number)
    except (ValueError, OverflowError) as error:
        raise _wrong(column, text, record) from error
    # Python reads "nan", "inf", "1_0" and the digits of other scripts as numbers; no CSV means them so.
    if not finite or "_" in text or not text.isascii():
        raise _wrong(column, text, record)
    return number


def _arrays(values: Mapping[str, Sequence[Any]], model: Model) -> dict[str, Array]:
    """The columns as `pipeline.features` takes them, once type, null and range are checked.

    A single record passes here too: faults are noticed by few calls, and located only when there is one.
    """
    kinds = {name: set(map(type, values[name])) for name in model.columns}
    for name, column in model.columns.items():
        if not kinds[name] <= _KINDS[column.type, column.nullable]:
            raise _wrong_kind(values[name], column)
    arrays = dict(zip(model.numbers, _numbers(values, kinds, model), strict=True))
    for name, column in model.columns.items():
        if column.type == "string":
            arrays[name] = np.array(values[name], dtype=object)
        elif column.type == "timestamp":
            arrays[name] = np.array(_times(values[name], column), dtype="datetime64[s]")
    return arrays


def _numbers(values: Mapping[str, Sequence[Any]], kinds: Mapping[str, set[type]], model: Model) -> Array:
    """All columns of numbers at once: float64 (columns, records), within their ranges."""
    if not model.numbers:
        return np.empty((0, 0))
    try:
        numbers = np.array([values[name] for name in model.numbers], dtype=np.float64)
    except OverflowError:
        # JSON has whole numbers of any length.
        rows = [[math.inf if abs(v or 0) > _HUGE else v for v in values[name]] for name in model.numbers]
        numbers = np.array(rows, dtype=np.float64)
    records, (low, high) = numbers.T, model.limits
    # NaN, which is a missing value, is neither below nor above anything; infinity is out of every range.
    if (wrong := (records < low) | (records > high)).any():
        name, record = _first(wrong, model)
        raise _wrong(model.columns[name], values[name][record], record)
    broken = [model.columns[name].type == "int" and float in kinds[name] for name in model.numbers]
    if any(broken) and (wrong := (np.abs(np.fmod(records, 1)) > 0) & broken).any():
        name, record = _first(wrong, model)
        raise _wrong(model.columns[name], values[name][record], record)
    return numbers


def _first(wrong: Array, model: Model) -> tuple[str, int]:
    """The first marked place in `wrong` (records, columns of numbers): the column's name and the record."""
    record, column = np.argwhere(wrong)[0]
    return model.numbers[int(column)], int(record)


def _wrong_kind(values: Sequence[Any], column: Column) -> InferenceError:
    allowed = _KINDS[column.type, column.nullable]
    record = next(i for i, value in enumerate(values) if type(value) not in allowed)
    if values[record] is None:
        return InferenceError(
            f"record {record}: column {column.name} is missing or null; it must have a value."
        )
    return _wrong(column, values[record], record)


def _wrong(column: Column, value: object, record: int) -> InferenceError:
    expected = {
        "int": "a whole number",
        "float": "a number",
        "string": "a string",
        "timestamp": "a time such as 2013-01-01T10:00:00Z",
    }[column.type]
    if column.minimum is not None:
        expected += f", at least {column.minimum:g}"
    if column.maximum is not None:
        expected += f", at most {column.maximum:g}"
    shown = json.dumps(value)[:50]
    return InferenceError(f"record {record}: column {column.name} = {shown}: must be {expected}.")


def _times(values: Sequence[str | None], column: Column) -> list[int]:
    """The column's times in seconds; a batch names few, each of them often."""
    seconds: dict[str | None, int] = {}
    for i, value in enumerate(values):
        if value not in seconds:
            seconds[value] = _seconds(value, column, i)
    return [seconds[value] for value in values]


def _seconds(value: str | None, column: Column, record: int) -> int:
    """An ISO 8601 time as seconds since 1970 UTC; one without a zone is UTC, as in `pipeline.curated`."""
    if value is None:
        return _MISSING_TIME
    try:
        time = datetime.fromisoformat(value)
        return int((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError) as error:
        raise _wrong(column, value, record) from error
