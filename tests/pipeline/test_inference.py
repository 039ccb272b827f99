"""Serving: every accepted form of a request gives one answer, and every bad one a status and a reason."""

import csv
import io
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import inference
from pipeline.inference import InferenceError, Model
from pipeline.schema import Schema
from tests.pipeline.conftest import Prepared, run_prepare, run_train

Record = dict[str, Any]


@pytest.fixture(scope="module")
def model(xgboost_model: Path) -> Model:
    return inference.model_fn(str(xgboost_model))


def ask(
    model: Model, body: bytes | str, content_type: str = inference.JSON, accept: str = inference.JSON
) -> tuple[str, str]:
    request = inference.input_fn(body, content_type)
    answer: tuple[str, str] = inference.output_fn(inference.predict_fn(request, model), accept)
    return answer


def scores(model: Model, body: object) -> list[float]:
    text, _ = ask(model, json.dumps(body))
    return [prediction["score"] for prediction in json.loads(text)["predictions"]]


def as_csv(record: Record, names: list[str] | None = None, *, header: bool = False) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, names or list(record), lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerow(record)
    return out.getvalue()


def refuse(
    model: Model, body: object, content_type: str = inference.JSON, accept: str = inference.JSON
) -> InferenceError:
    content = body if isinstance(body, str | bytes) else json.dumps(body)
    with pytest.raises(InferenceError) as caught:
        ask(model, content, content_type, accept)
    return caught.value


def test_one_object_a_list_and_instances_give_the_same_answer(model: Model, request_record: Record) -> None:
    alone = scores(model, request_record)
    assert len(alone) == 1
    assert 0 < alone[0] < 1
    assert scores(model, [request_record] * 3) == alone * 3
    assert scores(model, {"instances": [request_record]}) == alone


def test_the_label_is_whether_the_score_reaches_the_models_threshold(
    model: Model, request_record: Record
) -> None:
    text, kind = ask(model, json.dumps([request_record | {"hour": hour} for hour in range(5, 23)]))
    assert kind == "application/json"
    predictions = json.loads(text)["predictions"]
    assert {prediction["label"] for prediction in predictions} == {0, 1}
    for prediction in predictions:
        assert prediction["label"] == int(prediction["score"] >= model.threshold)


def test_bytes_text_and_a_byte_order_mark_are_the_same_request(model: Model, request_record: Record) -> None:
    body = json.dumps(request_record)
    for form, content_type in ((body, inference.JSON), (as_csv(request_record, header=True), inference.CSV)):
        forms = (form, form.encode(), "\ufeff" + form, b"\xef\xbb\xbf" + form.encode())
        assert len({ask(model, form, content_type) for form in forms}) == 1


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "Application/JSON"])
def test_a_content_type_may_carry_a_charset_and_capitals(
    model: Model, request_record: Record, content_type: str
) -> None:
    assert ask(model, json.dumps(request_record).encode(), content_type) == ask(
        model, json.dumps(request_record)
    )


def test_csv_with_or_without_header_and_json_give_the_same_answer(
    model: Model, request_record: Record
) -> None:
    expected = ask(model, json.dumps(request_record))
    backwards = list(reversed(request_record))
    for body in (
        as_csv(request_record),
        as_csv(request_record, header=True),
        as_csv(request_record, backwards, header=True),
        as_csv(request_record).rstrip("\n"),
        as_csv(request_record).replace("\n", "\r\n"),
    ):
        assert ask(model, body, inference.CSV) == expected


def test_spaces_belong_to_a_text_and_not_to_a_number_or_a_time(tmp_path: Path) -> None:
    """As in training: a category that begins with a space is another one than that without."""
    served = shops_model(tmp_path, "A", " A")
    (plain,) = scores(served, {"day": "2020-08-01", "shop": "A"})
    (spaced,) = scores(served, {"day": "2020-08-01", "shop": " A"})
    assert plain != spaced
    for line, score in (("A,2020-08-01", plain), (" A, 2020-08-01 ", spaced)):
        assert json.loads(ask(served, line, inference.CSV)[0])["predictions"][0]["score"] == score


def test_a_null_an_empty_cell_na_and_an_absent_nullable_column_mean_missing(
    linear_model: Path, request_record: Record
) -> None:
    model = inference.model_fn(str(linear_model))
    missing = ask(model, json.dumps(request_record | {"temp": None}))
    assert missing != ask(model, json.dumps(request_record | {"temp": 110}))
    without = {name: value for name, value in request_record.items() if name != "temp"}
    assert ask(model, json.dumps(without)) == missing
    assert ask(model, as_csv(without, header=True), inference.CSV) == missing
    for cell in ("", " ", "NA"):
        assert ask(model, as_csv(request_record | {"temp": cell}), inference.CSV) == missing


def test_a_csv_answer_is_one_line_a_record(model: Model, request_record: Record) -> None:
    text, kind = ask(model, json.dumps([request_record] * 2), accept="text/csv")
    assert kind == "text/csv"
    first, second = (line.split(",") for line in text.splitlines())
    assert first == second
    assert float(first[0]) == scores(model, request_record)[0]
    assert first[1] in {"0", "1"}


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", inference.JSON),
        ("", inference.JSON),
        ("application/*", inference.JSON),
        ("application/json;q=0.9", inference.JSON),
        ("text/html, text/csv", inference.CSV),
        ("TEXT/CSV", inference.CSV),
    ],
)
def test_accept_chooses_the_first_form_that_we_have(
    model: Model, request_record: Record, accept: str, kind: str
) -> None:
    assert ask(model, json.dumps(request_record), accept=accept)[1] == kind


@pytest.mark.parametrize("time", ["2013-07-04T18:00:00Z", "2013-07-04T14:00:00-04:00", "2013-07-04 18:00:00"])
def test_a_time_is_an_instant_and_utc_where_no_zone_is_given(
    model: Model, request_record: Record, time: str
) -> None:
    expected = scores(model, request_record | {"time_hour": "2013-07-04T18:00:00+00:00"})
    assert scores(model, request_record | {"time_hour": time}) == expected


def test_a_whole_number_may_be_written_with_a_point(model: Model, request_record: Record) -> None:
    assert scores(model, request_record | {"hour": 15.0}) == scores(model, request_record | {"hour": 15})


def test_an_unseen_category_is_answered_and_counted_in_the_log(
    model: Model, request_record: Record, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO"):
        assert scores(model, [request_record | {"dest": "XYZ", "carrier": "ZZ"}] * 2)
    assert 'unseen categories: {"carrier": 2, "dest": 2}' in caplog.text


def test_regression_answers_values(
    prepared_regression: Prepared, tmp_path: Path, request_record: Record
) -> None:
    folder = run_train(prepared_regression, tmp_path, "linear", "--problem_type=regression", "--epochs=2")
    served = inference.model_fn(str(folder))
    (prediction,) = json.loads(ask(served, json.dumps(request_record))[0])["predictions"]
    assert set(prediction) == {"value"}
    assert -100 < prediction["value"] < 200
    assert ask(served, json.dumps(request_record), accept=inference.CSV)[0] == str(prediction["value"])


MALFORMED = [
    ("", "malformed JSON"),
    ("{", "malformed JSON: Expecting property name"),
    ('{"instances": [', "line 1 column"),
    ("nonsense", "malformed JSON"),
    ("[" * 100_000, "malformed JSON"),
    ("[" + "9" * 5000 + "]", "malformed JSON"),
    ("3", "send one object, a list of objects"),
    ('"text"', "send one object"),
    ("null", "send one object"),
    ('{"instances": 3}', "send one object"),
    ('{"instances": [], "parameters": {}}', "unknown key 'parameters'"),
    ("[]", "no record in the request"),
    ('{"instances": []}', "no record in the request"),
    ("[1]", "record 0 is 1: must be an object"),
    ("[[]]", "record 0 is []"),
    ("{}", "record 0: column carrier is missing or null"),
    (b"\xff\xfe", "not UTF-8"),
    # What a server decoded in our stead, and what stands where it could not.
    ('{"carrier": "\ufffd"}', "not UTF-8 at character 13"),
    ("\ufeff\ufeff{}", "malformed JSON"),
    ('{"hour": 3, "hour": 4}', "malformed JSON: key 'hour' stands twice in one object"),
    ('{"instances": [{}], "instances": []}', "key 'instances' stands twice"),
]


@pytest.mark.parametrize(("body", "reason"), MALFORMED)
def test_a_malformed_body_is_400_with_a_reason(model: Model, body: str | bytes, reason: str) -> None:
    error = refuse(model, body)
    assert error.status == 400
    assert reason in str(error)


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("hour", "15", 'column hour = "15": must be a whole number, at least 0, at most 23'),
        ("hour", 24, "column hour = 24: must be"),
        ("hour", -1, "column hour = -1: must be"),
        ("hour", 7.5, "column hour = 7.5: must be a whole number"),
        ("hour", True, "column hour = true: must be"),
        ("hour", None, "column hour is missing or null"),
        ("hour", [5], "column hour = [5]: must be"),
        ("seats", 5.5, "column seats = 5.5: must be a whole number"),
        ("temp", {"f": 50}, 'column temp = {"f": 50}: must be a number'),
        ("temp", 10**400, "column temp = 1000"),
        ("temp", 1e300, "temp, row 1: infinite or too large"),
        ("precip", -3, "precip = -3.0: log(1 + x) needs x above -1"),
        ("carrier", 7, "column carrier = 7: must be a string"),
        ("time_hour", 1_357_034_400, "column time_hour = 1357034400: must be a time"),
        (
            "time_hour",
            "yesterday",
            'column time_hour = "yesterday": must be a time such as 2013-01-01T10:00:00Z',
        ),
        ("time_hour", "2013-02-30T00:00:00Z", "must be a time"),
        ("altitude", 3, "unknown column 'altitude'. Known: carrier, origin"),
    ],
)
def test_a_bad_value_is_400_and_names_record_column_and_value(
    model: Model, request_record: Record, column: str, value: object, reason: str
) -> None:
    error = refuse(model, [request_record, request_record | {column: value}])
    assert error.status == 400
    assert reason in str(error)
    assert "1" in str(error)


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "-Infinity"])
def test_nan_and_infinity_are_400(model: Model, request_record: Record, literal: str) -> None:
    body = json.dumps(request_record | {"temp": 0}).replace('"temp": 0', f'"temp": {literal}')
    error = refuse(model, body)
    assert error.status == 400
    assert f"the body holds {literal}, which is not JSON" in str(error)


def test_a_number_too_large_for_any_float_is_400(model: Model, request_record: Record) -> None:
    body = json.dumps(request_record | {"temp": 0}).replace('"temp": 0', '"temp": 1e999')
    assert "column temp = Infinity" in str(refuse(model, body))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda line: line.replace(",", ";"), "record 0: 1 values; expected 18: carrier, origin"),
        (lambda line: line + "short,row\n", "record 1: 2 values; expected 18"),
        (lambda line: line + '"open', "malformed CSV"),
        (lambda _: "\n\n", "no record in the request"),
    ],
)
def test_malformed_csv_is_400_with_a_reason(
    model: Model, request_record: Record, spoil: Callable[[str], str], reason: str
) -> None:
    error = refuse(model, spoil(as_csv(request_record)), inference.CSV)
    assert error.status == 400
    assert reason in str(error)


@pytest.mark.parametrize(
    "cell", ["nan", "inf", "-Infinity", "1_0", "ten", "1e999", "\u0661\u0665", "\u00a05"]
)
def test_a_csv_cell_that_is_no_number_is_400(model: Model, request_record: Record, cell: str) -> None:
    error = refuse(model, as_csv(request_record | {"temp": cell}), inference.CSV)
    assert error.status == 400
    assert f"record 0: column temp = {json.dumps(cell)}: must be a number" in str(error)


def test_a_csv_header_must_name_known_columns_once_and_have_a_record_below(
    model: Model, request_record: Record
) -> None:
    header = list(request_record)
    for line, reason in (
        ([*header, "altitude"], "header: unknown column 'altitude'"),
        ([*header, "hour"], "header: column 'hour' stands in it twice"),
        (header, "no record in the request. Send at least one below the header"),
    ):
        assert reason in str(refuse(model, ",".join(line) + "\n", inference.CSV))
    missing = {name: value for name, value in request_record.items() if name != "hour"}
    assert "column hour is missing" in str(refuse(model, as_csv(missing, header=True), inference.CSV))


@pytest.mark.parametrize("content_type", ["text/html", "application/x-npy", "", "json"])
def test_another_content_type_is_415(model: Model, request_record: Record, content_type: str) -> None:
    error = refuse(model, request_record, content_type)
    assert error.status == 415
    assert "send application/json or text/csv" in str(error)


def test_an_accept_that_we_do_not_have_is_406(model: Model, request_record: Record) -> None:
    error = refuse(model, request_record, accept="image/png")
    assert error.status == 406
    assert "can answer application/json or text/csv" in str(error)


def test_more_records_than_the_limit_are_413(
    model: Model, request_record: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_RECORDS", "2")
    assert len(scores(model, [request_record] * 2)) == 2
    assert ask(model, as_csv(request_record, header=True) + as_csv(request_record), inference.CSV)
    error = refuse(model, [request_record] * 3)
    assert error.status == 413
    assert "3 records; the limit is 2 (MAX_RECORDS)" in str(error)
    for body in (as_csv(request_record) * 3, as_csv(request_record) * 4):
        assert refuse(model, body, inference.CSV).status == 413


def test_a_body_above_the_apis_limit_is_413(model: Model) -> None:
    error = refuse(model, b"[" + b" " * inference.MAX_BODY_BYTES)
    assert error.status == 413
    assert "the limit is 6291456" in str(error)


def test_under_awss_server_a_fault_travels_as_a_value_and_is_its_own_response(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sagemaker_containers", ModuleType("sagemaker_containers"))
    refused = inference.input_fn("{", inference.JSON)
    answer = inference.output_fn(inference.predict_fn(refused, model), inference.JSON)
    assert answer is refused
    started: list[Any] = []
    body = b"".join(answer({}, lambda status, headers: started.extend((status, dict(headers)))))
    assert started == [
        "400 Bad Request",
        {"Content-Type": "application/json", "Content-Length": str(len(body))},
    ]
    assert json.loads(body)["error"].startswith("malformed JSON")


@pytest.mark.parametrize("text", ["0", "-1", "many", ""])
def test_a_wrong_record_limit_stops_the_server_at_its_start(
    xgboost_model: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("MAX_RECORDS", text)
    with pytest.raises(ValueError, match=f"MAX_RECORDS = {text}: must be a whole number of at least 1"):
        inference.model_fn(str(xgboost_model))


def test_one_record_and_a_thousand_give_each_record_the_same_answer(
    model: Model, request_record: Record
) -> None:
    records = [request_record | {"hour": i % 24, "distance": 100 + i} for i in range(1000)]
    together = scores(model, records)
    for i in range(0, 1000, 199):
        assert scores(model, records[i]) == [together[i]]


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def outcome(model: Model, body: bytes | str, content_type: str) -> str:
    """`answered` with finite scores, or `refused` as a client's error with a reason; anything else is raised."""
    try:
        text, _ = ask(model, body, content_type)
    except InferenceError as error:
        return "refused" if 400 <= error.status < 500 and error.reason else "refused without a reason"
    finite = all(math.isfinite(prediction["score"]) for prediction in json.loads(text)["predictions"])
    return "answered" if finite else "answered with nonsense"


@given(body=st.binary() | st.text(), content_type=st.sampled_from([inference.JSON, inference.CSV]))
def test_no_body_whatever_ends_in_anything_but_a_reason(
    body: bytes | str, content_type: str, model: Model
) -> None:
    assert outcome(model, body, content_type) == "refused"


@given(data=st.data())
def test_any_value_in_any_column_ends_in_a_finite_answer_or_a_reason(
    data: st.DataObject, model: Model, request_record: Record
) -> None:
    column = data.draw(st.sampled_from(sorted(request_record)))
    value = data.draw(JSON_VALUES)
    possible = {"refused"} if isinstance(value, bool | list | dict) else {"answered", "refused"}
    assert outcome(model, json.dumps(request_record | {column: value}), inference.JSON) in possible


@given(data=st.data())
def test_any_valid_record_means_the_same_as_json_and_as_csv(
    data: st.DataObject, model: Model, flights_schema: Schema, request_record: Record
) -> None:
    record = dict(request_record)
    for column in flights_schema.request_columns:
        if column.type == "int":
            low, high = int(column.minimum or 0), int(column.maximum or 3000)
            record[column.name] = data.draw(st.integers(low, high))
        elif column.type == "float":
            record[column.name] = data.draw(st.floats(0, 1000) | st.none())
    answers = [ask(model, json.dumps(record)), ask(model, as_csv(record), inference.CSV)]
    values = [json.loads(text)["predictions"][0]["score"] for text, _ in answers]
    np.testing.assert_array_equal(values[0], values[1])


def shops_model(folder: Path, quiet: str, busy: str) -> Model:
    """Another data set, prepared, trained and loaded: the first shop sells 5 a day, the second 15."""
    mine = {
        "name": "sales",
        "description": "Which shops sell more than 10 a day.",
        "key": ["day", "shop"],
        "time_column": "day",
        "columns": [
            {"name": "day", "type": "timestamp"},
            {"name": "shop", "type": "string"},
            {"name": "sold", "type": "float"},
        ],
        "leakage": [],
        "exclusions": [],
        "joins": [],
        "derived": [{"name": "weekday", "source": "day", "function": "day_of_week"}],
        "features": [{"name": "shop", "encoding": "one_hot"}, {"name": "weekday", "encoding": "label"}],
        "label": {"name": "busy", "column": "sold", "greater_than": 10},
        "facet": {"column": "shop", "values": [quiet]},
        "split": {"train": 0.7, "validation": 0.15},
    }
    path = folder / "sales.json"
    path.write_text(json.dumps(mine))
    days = np.repeat(np.arange("2020-01-01", "2020-07-01", dtype="datetime64[D]"), 2).astype("datetime64[us]")
    shops = np.tile([quiet, busy], len(days) // 2)
    table = pa.table({"day": pa.array(days), "shop": shops, "sold": np.where(shops == quiet, 5.0, 15.0)})
    (folder / "curated").mkdir()
    pq.write_table(table, folder / "curated" / "a.parquet")
    folders = run_prepare(folder / "curated", folder / "out", schema=str(path))
    return inference.model_fn(str(run_train(folders, folder / "model", "xgboost", f"--schema={path}")))


def test_another_data_set_is_only_another_schema(tmp_path: Path) -> None:
    """Not one number among its features, other names, other label: prepared, trained and served by the same code."""
    served = shops_model(tmp_path, "A", "B")
    text, _ = ask(served, "B,2020-08-01\nA,2020-08-01\n", inference.CSV)
    assert [prediction["label"] for prediction in json.loads(text)["predictions"]] == [1, 0]
    assert "column shop is missing" in str(refuse(served, {"day": "2020-08-01"}))
