"""The fitted transform: scikit-learn as oracle, JSON as its only form, and one function for training and serving."""

import dataclasses
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.preprocessing import KBinsDiscretizer, LabelEncoder, MinMaxScaler, OneHotEncoder, StandardScaler

from pipeline import curated
from pipeline.features import Columns, FeatureError, Transform, day_of_week
from pipeline.schema import Column, Encoding, Feature, Schema

NAN = float("nan")


def one_feature(data: Schema, encoding: Encoding, kind: Any = "float", bins: int | None = None) -> Schema:
    """The flights schema with a single feature `x`."""
    return dataclasses.replace(
        data,
        columns=(*data.columns, Column("x", kind)),
        derived=(),
        features=(Feature("x", encoding, bins),),
    )


def fit(data: Schema, encoding: Encoding, values: list[Any], bins: int | None = None) -> Transform:
    return Transform.fit(one_feature(data, encoding, bins=bins), column(values))


def column(values: list[Any]) -> Columns:
    strings = any(isinstance(value, str) for value in values)
    return {"x": np.array(values, dtype=object if strings else np.float64)}


def encode(transform: Transform, values: list[Any]) -> list[list[float]]:
    matrix, _ = transform.apply(column(values))
    return [[float(cell) for cell in row] for row in matrix]


NUMBERS = [3.0, -1.0, 4.0, 1.0, 5.0, 9.0, 2.0, 6.0]


def test_normalize_equals_scikit_learns_min_max_scaler(flights_schema: Schema) -> None:
    ours = encode(fit(flights_schema, "normalize", NUMBERS), [0.0, 20.0])
    oracle = MinMaxScaler().fit(np.array([NUMBERS]).T).transform([[0.0], [20.0]])
    assert ours == pytest.approx(oracle)


def test_standardize_equals_scikit_learns_standard_scaler(flights_schema: Schema) -> None:
    ours = encode(fit(flights_schema, "standardize", NUMBERS), NUMBERS)
    assert ours == pytest.approx(StandardScaler().fit_transform(np.array([NUMBERS]).T), rel=1e-6)
    assert np.mean(ours) == pytest.approx(0, abs=1e-7)
    assert np.var(ours) == pytest.approx(1)


def test_bin_equals_scikit_learns_quantile_bins(flights_schema: Schema) -> None:
    values = np.random.default_rng(0).normal(size=500)
    ours = encode(fit(flights_schema, "bin", list(values), bins=8), list(values))
    oracle = KBinsDiscretizer(8, encode="ordinal", strategy="quantile", quantile_method="linear")
    assert ours == pytest.approx(oracle.fit_transform(values.reshape(-1, 1)))


def test_label_equals_scikit_learns_label_encoder(flights_schema: Schema) -> None:
    values = ["b", "a", "c", "a"]
    ours = encode(fit(flights_schema, "label", values), values)
    assert [row[0] for row in ours] == LabelEncoder().fit_transform(values).tolist()


def test_one_hot_equals_scikit_learns_one_hot_encoder(flights_schema: Schema) -> None:
    values, later = ["b", "a", "c", "a"], ["c", "z"]
    oracle = OneHotEncoder(handle_unknown="ignore").fit(np.array([values]).T)
    ours = encode(fit(flights_schema, "one_hot", values), later)
    assert ours == oracle.transform(np.array([later]).T).toarray().tolist()


def test_log_is_log_of_one_plus_x(flights_schema: Schema) -> None:
    assert encode(fit(flights_schema, "log", [0.0]), [0.0, np.e - 1]) == [[0.0], [pytest.approx(1.0)]]


def test_numeric_is_the_value_itself(flights_schema: Schema) -> None:
    assert encode(fit(flights_schema, "numeric", [1.0]), [-7.5]) == [[-7.5]]


def test_a_bin_contains_its_lower_edge(flights_schema: Schema) -> None:
    transform = fit(flights_schema, "bin", [0.0, 1.0, 2.0, 3.0, 4.0], bins=2)
    assert encode(transform, [1.9, 2.0, -99.0, 99.0]) == [[0.0], [1.0], [0.0], [1.0]]


def test_an_unseen_category_is_minus_one_or_all_zeros_and_counted(flights_schema: Schema) -> None:
    for encoding, expected in (("label", [[-1.0], [0.0]]), ("one_hot", [[0.0, 0.0], [1.0, 0.0]])):
        transform = fit(flights_schema, encoding, ["a", "b"])  # type: ignore[arg-type]
        matrix, unseen = transform.apply(column(["z", "a"]))
        assert matrix.tolist() == expected
        assert unseen == {"x": 1}


def test_a_missing_category_is_missing_not_unseen(flights_schema: Schema) -> None:
    for encoding, expected in (("label", [NAN]), ("one_hot", [0.0, 0.0])):
        transform = fit(flights_schema, encoding, ["a", None, "b"])  # type: ignore[arg-type]
        matrix, unseen = transform.apply({"x": np.array([None], dtype=object)})
        np.testing.assert_array_equal(matrix[0], expected)
        assert not unseen


def test_a_missing_number_is_no_unseen_category(flights_schema: Schema) -> None:
    transform = fit(flights_schema, "label", [1.0, NAN, 2.0])
    matrix, unseen = transform.apply(column([NAN, 3.0, 2.0]))
    np.testing.assert_array_equal(matrix[:, 0], [NAN, -1.0, 1.0])
    assert unseen == {"x": 1}


@pytest.mark.parametrize("encoding", ["numeric", "normalize", "standardize", "log", "bin"])
def test_a_missing_number_stays_missing(flights_schema: Schema, encoding: Encoding) -> None:
    transform = fit(flights_schema, encoding, [1.0, NAN, 2.0], bins=2 if encoding == "bin" else None)
    matrix, _ = transform.apply(column([NAN, 1.0]))
    assert np.isnan(matrix[:, 0]).tolist() == [True, False]


def test_a_constant_feature_becomes_zero_not_a_division_by_zero(flights_schema: Schema) -> None:
    encodings: tuple[Encoding, ...] = ("normalize", "standardize")
    for encoding in encodings:
        assert encode(fit(flights_schema, encoding, [7.0, 7.0]), [7.0]) == [[0.0]]


def test_a_feature_without_any_value_is_refused(flights_schema: Schema) -> None:
    with pytest.raises(FeatureError, match="x: no value in any training row"):
        fit(flights_schema, "numeric", [NAN, NAN])


def test_infinity_is_refused_when_fitting(flights_schema: Schema) -> None:
    with pytest.raises(FeatureError, match="x, row 1: infinite"):
        fit(flights_schema, "standardize", [1.0, float("inf")])


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), 1e300])
def test_what_no_32_bit_number_holds_is_refused_when_encoding(flights_schema: Schema, value: float) -> None:
    with pytest.raises(FeatureError, match="x, row 1: infinite or too large"):
        fit(flights_schema, "numeric", [1.0]).apply(column([1.0, value]))


def test_log_of_minus_one_or_less_is_refused_with_the_value(flights_schema: Schema) -> None:
    with pytest.raises(FeatureError, match=r"x = -2.0: log"):
        fit(flights_schema, "log", [1.0]).apply(column([3.0, -2.0]))


def test_day_of_week_agrees_with_the_calendar() -> None:
    times = np.array(["2013-01-01T23:59:59", "1969-12-31", "NaT"], dtype="datetime64[s]")
    tuesday, wednesday = 1.0, 2.0
    np.testing.assert_array_equal(day_of_week(times), [tuesday, wednesday, NAN])


def test_transform_of_another_version_is_refused(flights_schema: Schema) -> None:
    text = fit(flights_schema, "numeric", [1.0]).to_json().replace('"version": 1', '"version": 2')
    with pytest.raises(FeatureError, match="version 2: this code reads version 1"):
        Transform.from_json(text)


def test_the_fitted_state_is_readable_json(flights_schema: Schema) -> None:
    state = json.loads(fit(flights_schema, "one_hot", ["b", "a"]).to_json())["features"][0]
    assert state["name"] == "x"
    assert state["state"] == {"categories": ["a", "b"]}


def test_names_say_which_category_a_column_is(flights: pa.Table, flights_schema: Schema) -> None:
    names = Transform.fit(flights_schema, curated.columns(flights, flights_schema.request_columns)).names
    assert {"carrier=AA", "origin=JFK", "weekday=0", "weekday=6", "dest", "distance"} <= set(names)
    assert len(names) == len(set(names))


def test_one_record_is_encoded_exactly_as_among_many(flights: pa.Table, flights_schema: Schema) -> None:
    columns = curated.columns(flights, flights_schema.request_columns)
    transform = Transform.fit(flights_schema, columns)
    together, _ = transform.apply(columns)
    for row in range(0, len(together), 97):
        alone, _ = transform.apply({name: values[row : row + 1] for name, values in columns.items()})
        assert alone.tobytes() == together[row].tobytes()


def test_a_transform_read_back_encodes_to_the_same_bytes(flights: pa.Table, flights_schema: Schema) -> None:
    columns = curated.columns(flights, flights_schema.request_columns)
    transform = Transform.fit(flights_schema, columns)
    again = Transform.from_json(transform.to_json())
    assert again.names == transform.names
    assert again.apply(columns)[0].tobytes() == transform.apply(columns)[0].tobytes()
    assert again.to_json() == transform.to_json()


FINITE = st.floats(-1e6, 1e6) | st.just(NAN)
ENCODINGS: tuple[Encoding, ...] = ("normalize", "standardize", "numeric", "bin")


@given(
    train=st.lists(FINITE, min_size=1, max_size=20),
    later=st.lists(FINITE, min_size=1),
    encoding=st.sampled_from(ENCODINGS),
)
def test_any_fit_on_any_numbers_survives_json(
    train: list[float], later: list[float], encoding: Encoding, flights_schema: Schema
) -> None:
    if all(np.isnan(train)):
        return
    transform = fit(flights_schema, encoding, train, bins=3 if encoding == "bin" else None)
    try:
        matrix, _ = transform.apply(column(later))
    except FeatureError:
        return
    np.testing.assert_array_equal(np.isnan(matrix[:, 0]), np.isnan(later))
    np.testing.assert_array_equal(matrix, Transform.from_json(transform.to_json()).apply(column(later))[0])


@given(train=st.lists(st.text(), min_size=1), later=st.lists(st.text() | st.none(), min_size=1))
def test_every_category_is_encoded_seen_unseen_or_missing(
    train: list[str], later: list[str | None], flights_schema: Schema
) -> None:
    values = {"x": np.array(later, dtype=object)}
    for encoding in ("label", "one_hot"):
        transform = fit(flights_schema, encoding, train)  # type: ignore[arg-type]
        matrix, unseen = Transform.from_json(transform.to_json()).apply(values)
        assert unseen.total() == sum(value is not None and value not in train for value in later)
        if encoding == "one_hot":
            assert matrix.sum(axis=1).tolist() == [float(value in train) for value in later]
