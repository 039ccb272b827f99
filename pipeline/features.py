"""From columns to the model's matrix: fitted on the training rows, applied by the same function everywhere.

What was learned is plain numbers and names, kept as JSON: it can be read, compared, and loaded by any version of any
library (docs/decisions/0050). Columns are numpy arrays, not a data frame, because the same call also serves one
record at a time, where building a frame would cost more than the prediction.

A column is one of three arrays, by the schema's type: `int` and `float` are float64 with NaN for a missing value,
`string` is an object array with None, `timestamp` is datetime64 in UTC with NaT.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from pipeline.schema import Encoding, Feature, Schema

Array = npt.NDArray[Any]
Matrix = npt.NDArray[np.float32]
Columns = Mapping[str, Array]

VERSION = 1
UNSEEN = -1


class FeatureError(ValueError):
    """A value that cannot be encoded: the message names the column, the value and what is expected."""


def day_of_week(times: Array) -> Array:
    """Monday 0 … Sunday 6, in UTC, as float64; NaN where the time is missing."""
    days = times.astype("datetime64[D]")
    # Day 0 of the Unix epoch was a Thursday.
    return np.where(np.isnat(days), np.nan, (days.astype(np.int64) + 3) % 7)


_DERIVATIONS: Mapping[str, Callable[[Array], Array]] = {"day_of_week": day_of_week}


class _Encoder(Protocol):
    """One fitted feature: the outputs it fills, what it learned, and how it fills them."""

    @property
    def outputs(self) -> Sequence[str]:
        """The names of the matrix's columns that it fills."""

    def state(self) -> dict[str, Any]:
        """What was learned, as JSON values."""

    def encode(self, values: Array, out: Matrix) -> int:
        """Fill `out` (rows, outputs), which holds zeros; return how many values were never seen in training."""


class _Scaled:
    """(x - offset) / scale: `numeric` (0, 1), `normalize` (min, range) and `standardize` (mean, deviation).

    Values outside the training range are not clipped: they fall outside 0…1, as scikit-learn's MinMaxScaler does.
    """

    def __init__(self, name: str, state: Mapping[str, Any]) -> None:
        self.outputs = (name,)
        # Arrays of no dimension: NumPy would convert a Python number at every call.
        self.offset, self.scale = np.array(float(state["offset"])), np.array(float(state["scale"]))

    def state(self) -> dict[str, Any]:
        return {"offset": float(self.offset), "scale": float(self.scale)}

    def encode(self, values: Array, out: Matrix) -> int:
        out[:, 0] = (values - self.offset) / self.scale
        return 0


class _Logged:
    """log(1 + x), for what is never negative and has a long tail."""

    def __init__(self, name: str, state: Mapping[str, Any]) -> None:  # noqa: ARG002 - nothing is learned
        self.outputs = (name,)

    def state(self) -> dict[str, Any]:
        return {}

    def encode(self, values: Array, out: Matrix) -> int:
        if np.fmin.reduce(values) <= -1:
            raise FeatureError(
                f"{self.outputs[0]} = {values[values <= -1][0]}: log(1 + x) needs x above -1. Correct the value."
            )
        out[:, 0] = np.log1p(values)
        return 0


class _Binned:
    """The number of the quantile bin (0, 1, …); a bin contains its lower edge."""

    def __init__(self, name: str, state: Mapping[str, Any]) -> None:
        self.outputs = (name,)
        self.edges = np.array(state["edges"], dtype=np.float64)

    def state(self) -> dict[str, Any]:
        return {"edges": self.edges.tolist()}

    def encode(self, values: Array, out: Matrix) -> int:
        out[:, 0] = self.edges.searchsorted(values, side="right")
        out[np.isnan(values), 0] = np.nan
        return 0


class _Labelled:
    """A category's number in the sorted list of those in training; -1 if it is not in it, NaN if missing."""

    def __init__(self, name: str, state: Mapping[str, Any]) -> None:
        self.outputs = (name,)
        self.categories = list(state["categories"])
        codes = {category: code for code, category in enumerate(self.categories)}
        self._codes: Mapping[object, float] = {**codes, None: np.nan}

    def state(self) -> dict[str, Any]:
        return {"categories": self.categories}

    def encode(self, values: Array, out: Matrix) -> int:
        found = [self._codes.get(value, UNSEEN) for value in values.tolist()]
        out[:, 0] = found
        unseen = found.count(UNSEEN)
        if unseen and values.dtype != object:
            # A missing number is NaN, which no dictionary finds.
            missing = np.isnan(values)
            out[missing, 0] = np.nan
            unseen -= int(missing.sum())
        return unseen


class _OneHot:
    """A column of 0 and 1 for each category in training; all 0 if the category is missing or not among them."""

    def __init__(self, name: str, state: Mapping[str, Any]) -> None:
        self.categories = list(state["categories"])
        self.outputs = tuple(f"{name}={_text(category)}" for category in self.categories)
        self._codes = {category: code for code, category in enumerate(self.categories)}

    def state(self) -> dict[str, Any]:
        return {"categories": self.categories}

    def encode(self, values: Array, out: Matrix) -> int:
        unseen = 0
        for row, value in enumerate(values.tolist()):
            code = self._codes.get(value)
            if code is not None:
                out[row, code] = 1
            elif value is not None and value == value:  # noqa: PLR0124 - NaN is not equal to itself
                unseen += 1
        return unseen


_ENCODERS: Mapping[Encoding, Callable[[str, Mapping[str, Any]], _Encoder]] = {
    "numeric": _Scaled,
    "normalize": _Scaled,
    "standardize": _Scaled,
    "log": _Logged,
    "bin": _Binned,
    "label": _Labelled,
    "one_hot": _OneHot,
}


class Transform:
    """The fitted features of a schema. `names` are the matrix's columns, in order."""

    def __init__(self, features: Sequence[Mapping[str, Any]]) -> None:
        self._features = [
            (
                dict(f),
                _ENCODERS[f["encoding"]](f["name"], f["state"]),
                _DERIVATIONS.get(f["derivation"] or ""),
            )
            for f in features
        ]
        self.names: tuple[str, ...] = tuple(
            name for _, encoder, _ in self._features for name in encoder.outputs
        )

    @classmethod
    def fit(cls, schema: Schema, columns: Columns) -> Transform:
        """Learn from the training rows, and from nothing else.

        Raises `FeatureError` if a feature has no value at all, or an infinite one.
        """
        derived = {d.name: d for d in schema.derived}
        features = []
        for feature in schema.features:
            source = derived.get(feature.name)
            values = columns[source.source if source else feature.name]
            if source:
                values = _DERIVATIONS[source.function](values)
            _refuse_infinity(feature.name, values)
            features.append(
                {
                    "name": feature.name,
                    "encoding": feature.encoding,
                    "source": source.source if source else feature.name,
                    "derivation": source.function if source else None,
                    "state": _learn(feature, values),
                }
            )
        return cls(features)

    def apply(self, columns: Columns) -> tuple[Matrix, Counter[str]]:
        """Encode rows: the matrix (rows, len(names)), and how many unseen categories each column had.

        Raises `FeatureError` for an infinite value, or one that the encoding is not defined for.
        """
        rows = len(next(iter(columns.values())))
        matrix = np.zeros((rows, len(self.names)), dtype=np.float32)
        unseen: Counter[str] = Counter()
        start = 0
        # What overflows becomes infinite, and is refused below.
        with np.errstate(over="ignore"):
            for feature, encoder, derivation in self._features:
                values = columns[feature["source"]]
                if derivation:
                    values = derivation(values)
                stop = start + len(encoder.outputs)
                if count := encoder.encode(values, matrix[:, start:stop]):
                    unseen[feature["name"]] = count
                start = stop
        if np.isinf(matrix).any():
            row, column = np.argwhere(np.isinf(matrix))[0]
            raise FeatureError(
                f"{self.names[column]}, row {row}: infinite or too large for a 32-bit number. Correct the value."
            )
        return matrix, unseen

    def to_json(self) -> str:
        """The fitted state as JSON text; `from_json` reads it back to a transform with equal results."""
        features = [{**feature, "state": encoder.state()} for feature, encoder, _ in self._features]
        return json.dumps({"version": VERSION, "features": features}, indent=1)

    @classmethod
    def from_json(cls, text: str) -> Transform:
        """Read `to_json`'s text; raises `FeatureError` for a version this code does not know."""
        raw = json.loads(text)
        if raw.get("version") != VERSION:
            raise FeatureError(
                f"transform version {raw.get('version')}: this code reads version {VERSION}. Train the model again."
            )
        return cls(raw["features"])


def _learn(feature: Feature, values: Array) -> dict[str, Any]:
    present = values[~_missing(values)]
    if not len(present):
        raise FeatureError(
            f"{feature.name}: no value in any training row, so nothing to learn. Remove the feature from the schema."
        )
    match feature.encoding:
        case "label" | "one_hot":
            return {"categories": sorted(set(present.tolist()))}
        case "normalize":
            low, high = float(present.min()), float(present.max())
            # A constant feature says nothing: it becomes 0, not a division by zero.
            return {"offset": low, "scale": high - low or 1.0}
        case "standardize":
            return {"offset": float(present.mean()), "scale": float(present.std()) or 1.0}
        case "bin":
            quantiles = np.quantile(present, np.linspace(0, 1, (feature.bins or 1) + 1)[1:-1])
            return {"edges": np.unique(quantiles).tolist()}
        case "numeric":
            return {"offset": 0.0, "scale": 1.0}
        case "log":
            return {}


def _missing(values: Array) -> npt.NDArray[np.bool_]:
    if values.dtype == object:
        return np.array([value is None for value in values.tolist()], dtype=bool)
    return np.isnan(values)


def _refuse_infinity(name: str, values: Array) -> None:
    if values.dtype != object and np.isinf(values).any():
        row = int(np.flatnonzero(np.isinf(values))[0])
        raise FeatureError(
            f"{name}, row {row}: infinite. Correct the value, or quarantine it before training."
        )


def _text(category: object) -> str:
    """A category in an output's name: whole numbers without `.0`."""
    return str(int(category)) if isinstance(category, float) and category.is_integer() else str(category)
