"""A model of regression answers minutes, not scores: at an endpoint, in a batch, and to the alarm with its band."""

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk.assertions import Template

from local.cloud.evaluation import calculate
from pipeline import inference, schema
from stacks.serving.quality_alarm import QualityAlarm
from stacks.serving_config import AlarmConfig
from tests.local.cloud.test_sagemaker_transform import Batch
from tests.pipeline.conftest import (
    archive,
    as_curated,
    curated_flights,
    run_prepare,
    run_train,
    write_partitions,
)
from tools.assembly import context

SECTION = context("sandbox")["stages"]["sandbox"]["serving"]["alarms"]


class Regression(Batch):
    """The pipeline's own model of minutes, stored, with a few records and what it says of them in this process."""

    def __init__(self, client: Callable[[str], Any], folder: Path) -> None:
        super().__init__(client)
        flights = schema.load("flights")
        table = as_curated(curated_flights(every=400), flights)
        write_partitions(table, flights, folder / "curated")
        prepared = run_prepare(folder / "curated", folder / "prepared", "regression")
        trained = run_train(prepared, folder / "model", "linear", "--problem_type=regression", "--epochs=2")
        names = [column.name for column in flights.request_columns]
        records = table.select(names).slice(0, 3).to_pylist()
        self.lines = "".join(json.dumps(it, default=lambda time: time.isoformat()) + "\n" for it in records)
        served, asked = inference.model_fn(str(trained)), [json.loads(it) for it in self.lines.splitlines()]
        parsed = inference.input_fn(json.dumps(asked), "application/json")
        answer, _ = inference.output_fn(inference.predict_fn(parsed, served), "application/json")
        self.values = [it["value"] for it in json.loads(answer)["predictions"]]
        self.s3.upload_file(str(archive(trained, folder / "packed") / "model.tar.gz"), self.bucket, "model/r")
        self.name = self.model(f"s3://{self.bucket}/model/r")


@pytest.fixture(scope="module")
def regression(client: Callable[[str], Any], tmp_path_factory: pytest.TempPathFactory) -> Regression:
    return Regression(client, tmp_path_factory.mktemp("regression"))


def test_an_endpoint_answers_minutes(regression: Regression) -> None:
    name = regression.endpoint(regression.config(regression.name))
    assert regression.settled(name)["EndpointStatus"] == "InService"
    body = json.dumps([json.loads(line) for line in regression.lines.splitlines()])
    answered = json.loads(regression.ask(name, body)["Body"].read())["predictions"]
    assert answered == [{"value": pytest.approx(value)} for value in regression.values]
    assert len(set(regression.values)) > 1
    regression.delete(name)


def test_a_batch_writes_minutes(regression: Regression) -> None:
    name = regression.start(
        regression.name,
        {"flights.jsonl": regression.lines},
        given={"ContentType": "application/json", "SplitType": "Line"},
        BatchStrategy="SingleRecord",
    )
    job = regression.ended(name)
    assert (job["TransformJobStatus"], job.get("FailureReason")) == ("Completed", None)
    (written,) = regression.outputs(name).values()
    assert [float(line) for line in written.splitlines()] == [
        pytest.approx(value) for value in regression.values
    ]


@functools.cache
def band(minimum: float, maximum: float) -> str:
    """The expression of the alarm that is deployed with this band."""
    quality = {"minimum_mean_score": minimum, "maximum_mean_score": maximum, "minimum_predictions": 10}
    stack = cdk.Stack()
    QualityAlarm(
        stack, "Alarm", namespace="tests", settings=AlarmConfig.model_validate(SECTION | {"quality": quality})
    )
    (alarm,) = Template.from_stack(stack).find_resources("AWS::CloudWatch::Alarm").values()
    (expression,) = (it["Expression"] for it in alarm["Properties"]["Metrics"] if "Expression" in it)
    return str(expression)


@pytest.mark.parametrize(
    ("predicted", "minutes", "outside"),
    [(100, 500, 0.0), (100, -1900, 0.0), (100, -2100, 1.0), (100, 4100, 1.0), (9, -4000, 0.0)],
)
def test_a_band_of_minutes_may_begin_below_zero(predicted: int, minutes: float, outside: float) -> None:
    """Flights that arrive early: a mean of -20 to 40 minutes."""
    assert calculate(band(-20.0, 40.0), {"predicted": predicted, "scores": minutes}) == outside
