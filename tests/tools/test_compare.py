"""From captures, the curated table and CloudWatch to the report; what is missing is named."""

import base64
import datetime as dt
import json
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto import mock_aws

from pipeline import schema
from stacks.option_config import CHALLENGER, CHAMPION
from tools import compare
from tools.comparison import Prediction, Settings

ENDPOINT, BUCKET = "flights-sandbox-experiment", "captures"
SETTINGS = Settings("AB", minimum_effect=0.01, confidence=0.95, power=0.8)
FLIGHTS = schema.load("flights")
SECTION = {"kind": "AB", "minimum_effect": 0.01, "confidence": 0.95, "power": 0.8, "instance_count": 1}


BEGAN = dt.datetime.now(dt.UTC) - dt.timedelta(hours=2)


def line(
    key: str | None,
    *,
    data: str,
    encoding: str = "JSON",
    kind: str = "application/json",
    hours: float = 1,
) -> str:
    """One captured line, as SageMaker writes it, so many hours after the experiment began."""
    output = {"observedContentType": kind, "mode": "OUTPUT", "data": data, "encoding": encoding}
    moment = f"{BEGAN + dt.timedelta(hours=hours):%Y-%m-%dT%H:%M:%SZ}"
    metadata = {"eventId": "e", "inferenceTime": moment, **({"inferenceId": key} if key else {})}
    return json.dumps(
        {"captureData": {"endpointOutput": output}, "eventMetadata": metadata, "eventVersion": "0"}
    )


def predictions(*scores: float) -> str:
    return json.dumps({"predictions": [{"score": score, "label": int(score > 0.5)} for score in scores]})


@pytest.mark.parametrize(
    "captured",
    [
        line("a", data=predictions(0.7)),
        line("a", data="0.7,1", encoding="CSV", kind="text/csv; charset=utf-8"),
        line("a", data=base64.b64encode(predictions(0.7).encode()).decode(), encoding="BASE64"),
    ],
    ids=["JSON", "CSV", "base64"],
)
def test_an_answer_is_read_in_every_encoding_of_a_capture(captured: str) -> None:
    assert compare.answers([captured], BEGAN) == {"a": Prediction(0.7, 1)}


def test_what_cannot_be_told_apart_is_left_out_and_a_repeated_id_counts_once() -> None:
    lines = [
        line(None, data=predictions(0.1)),
        line("two", data=predictions(0.1, 0.2)),
        line("a", data=predictions(0.1)),
        line("a", data=predictions(0.9)),
    ]
    assert compare.answers(lines, BEGAN) == {"a": Prediction(0.1, 0)}


@pytest.mark.parametrize(
    "captured",
    [
        line("a", data='{"predictions": [{"value": 3}]}'),
        line("a", data="3.0", encoding="CSV", kind="text/csv"),
    ],
    ids=["JSON", "CSV"],
)
def test_a_regression_s_answers_cannot_be_compared_by_errors(captured: str) -> None:
    with pytest.raises(compare.CompareError, match="regression"):
        compare.answers([captured], BEGAN)


def curated(folder: Path, delays: list[int]) -> Path:
    """A curated table of flights that arrived so late, one an hour."""
    columns: dict[str, Any] = {}
    kinds = {
        "int": pa.int64(),
        "float": pa.float64(),
        "string": pa.string(),
        "timestamp": pa.timestamp("us", "UTC"),
    }
    for column in FLIGHTS.curated_columns:
        value: Any = {"int": 1, "float": 1.0, "string": "UA"}.get(column.type)
        columns[column.name] = pa.array([value] * len(delays), kinds[column.type])
    start = dt.datetime(2013, 1, 1, tzinfo=dt.UTC)
    columns["time_hour"] = pa.array(
        [start + dt.timedelta(hours=it) for it in range(len(delays))], kinds["timestamp"]
    )
    columns["arr_delay"] = pa.array(delays, kinds["int"])
    folder.mkdir()
    pq.write_table(pa.table(columns), folder / "part.parquet")
    return folder


def key(hour: int) -> str:
    return f"2013-01-01T{hour:02}:00:00Z/UA/1"


def test_the_truth_is_the_curated_table_s_class_by_the_flight_s_key(tmp_path: Path) -> None:
    assert compare.truth(curated(tmp_path / "table", [15, 16]), FLIGHTS) == {key(0): 0, key(1): 1}


def test_a_key_that_is_too_long_for_an_inference_id_is_named() -> None:
    record = {"time_hour": dt.datetime(2013, 1, 1, tzinfo=dt.UTC), "carrier": "U" * 50, "flight": 1}
    with pytest.raises(compare.CompareError, match="longer than the 64 characters"):
        compare.inference_id(record, FLIGHTS)


class SageMaker:
    """What the tool asks of an endpoint."""

    def __init__(self, destination: str | None) -> None:
        self.destination = destination

    def describe_endpoint(self, **request: str) -> Any:
        assert request == {"EndpointName": ENDPOINT}
        capture = {"DestinationS3Uri": self.destination}
        return {
            "EndpointConfigName": "running",
            **({"DataCaptureConfig": capture} if self.destination else {}),
        }

    def describe_endpoint_config(self, **request: str) -> Any:
        assert request == {"EndpointConfigName": "running"}
        return {"CreationTime": BEGAN}


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    with mock_aws():
        made = {name: boto3.client(name, region_name="us-east-1") for name in ("s3", "cloudwatch")}
        made["sagemaker"] = SageMaker(f"s3://{BUCKET}/datacapture")
        made["s3"].create_bucket(Bucket=BUCKET)
        yield made.__getitem__


def capture(clients: Any, variant: str, *lines: str) -> None:
    prefix = f"datacapture/{ENDPOINT}/{variant}/2013/01/01/00"
    clients("s3").put_object(Bucket=BUCKET, Key=f"{prefix}/00-00.jsonl", Body="\n".join(lines).encode())


def measured(clients: Any, variant: str, metric: str, *values: float, hours: float = 1) -> None:
    names = {"EndpointName": ENDPOINT, "VariantName": variant}
    dimensions = [{"Name": name, "Value": value} for name, value in names.items()]
    moment = BEGAN + dt.timedelta(hours=hours)
    same = {"MetricName": metric, "Dimensions": dimensions, "Timestamp": moment}
    data = [{**same, "Value": value} for value in values]
    clients("cloudwatch").put_metric_data(Namespace="AWS/SageMaker", MetricData=data)


def test_captures_truth_and_metrics_become_one_report(clients: Any) -> None:
    capture(clients, CHAMPION, line("a", data=predictions(0.1)), line("b", data=predictions(0.1)))
    capture(clients, CHALLENGER, line("c", data=predictions(0.9)), line("later", data=predictions(0.9)))
    measured(clients, CHAMPION, "ModelLatency", 1_000, 3_000)
    measured(clients, CHAMPION, "Invocations", 1, 1)
    measured(clients, CHAMPION, "Invocation5XXErrors", 0, 1)
    report = compare.report(clients, ENDPOINT, {"a": 0, "b": 1, "c": 1}, SETTINGS)
    champion, challenger = report["arms"][CHAMPION], report["arms"][CHALLENGER]
    assert (champion["errors"], champion["with_truth"]) == (1, 2)
    assert (challenger["errors"], challenger["with_truth"], challenger["answers"]) == (0, 1, 2)
    assert champion["service"] == {
        "invocations": 2,
        "server_errors": 1,
        "latency_milliseconds": {"average": 2.0, "maximum": 3.0},
    }
    assert challenger["service"]["latency_milliseconds"] is None
    assert report["verdict"].startswith("too early")


def test_another_challenger_is_not_judged_by_the_one_before_it(clients: Any) -> None:
    capture(
        clients,
        CHALLENGER,
        line("a", data=predictions(0.9), hours=-1),
        line("a", data=predictions(0.1)),
        line("b", data=predictions(0.9), hours=-1),
    )
    measured(clients, CHALLENGER, "Invocations", 1, hours=-1)
    measured(clients, CHALLENGER, "Invocations", 1)
    challenger = compare.report(clients, ENDPOINT, {"a": 0, "b": 1}, SETTINGS)["arms"][CHALLENGER]
    assert (challenger["answers"], challenger["errors"]) == (1, 0)
    assert challenger["service"]["invocations"] == 1


def test_the_command_writes_the_report(
    clients: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    capture(clients, CHAMPION, line(key(0), data=predictions(0.1)))
    capture(clients, CHALLENGER, line(key(1), data=predictions(0.9)))
    monkeypatch.setattr(compare, "ROOT", tmp_path)
    monkeypatch.setattr(compare, "OUT", tmp_path / "out" / "compare")
    monkeypatch.setattr(compare, "context", lambda stage: {"stages": {stage: {"experiment": SECTION}}})
    part = curated(tmp_path / "table", [15, 16]) / "part.parquet"
    clients("s3").upload_file(str(part), BUCKET, "curated/month=1/part.parquet")
    table = f"s3://{BUCKET}/curated/"
    assert compare.main(["--stage", "sandbox", "--truth", table], clients=clients) == 0
    report = json.loads((tmp_path / "out/compare/report.json").read_text())
    assert {"arms", "difference", "interval", "needed", "verdict"} <= report.keys()
    assert (report["arms"][CHAMPION]["errors"], report["arms"][CHALLENGER]["errors"]) == (0, 0)
    shown = (tmp_path / "out/compare/report.txt").read_text()
    assert shown.startswith("Experiment flights-sandbox-experiment (AB)")
    assert shown in capsys.readouterr().out


def test_a_truth_that_is_not_there_ends_the_command_with_one_line(
    clients: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compare, "context", lambda stage: {"stages": {stage: {"experiment": SECTION}}})
    with pytest.raises(SystemExit, match="No S3 objects found"):
        compare.main(["--truth", f"s3://{BUCKET}/nowhere/"], clients=clients)
    with pytest.raises(SystemExit, match="no Parquet file"):
        compare.main(["--truth", "nowhere"], clients=clients)


def test_an_experiment_that_has_ended_is_named_with_the_way_to_learn_why(
    clients: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(**request: str) -> Any:
        message = f'Could not find endpoint "{request["EndpointName"]}".'
        raise botocore.exceptions.ClientError(
            {"Error": {"Code": "ValidationException", "Message": message}}, "DescribeEndpoint"
        )

    monkeypatch.setattr(clients("sagemaker"), "describe_endpoint", gone)
    with pytest.raises(compare.CompareError, match=rf"{ENDPOINT} is not there: .*experiment status"):
        compare.report(clients, ENDPOINT, {}, SETTINGS)


def test_an_endpoint_without_captures_is_named_with_the_remedy(clients: Any) -> None:
    with pytest.raises(
        compare.CompareError, match=r"captures nothing\. Deploy it with experiment\.data_capture"
    ):
        compare.report({"sagemaker": SageMaker(None)}.__getitem__, ENDPOINT, {}, SETTINGS)


def test_a_stage_without_the_section_is_named() -> None:
    with pytest.raises(compare.CompareError, match=r"cdk\.json: stages\.sandbox\.experiment is missing"):
        compare.settings_of("sandbox", {"stages": {"sandbox": {}}})
    assert compare.settings_of("sandbox", {"stages": {"sandbox": {"experiment": SECTION}}}) == SETTINGS
