"""Which model is better? The captured answers of an experiment beside what came true; into out/compare.

The truth is the curated table: a request's inference id is its flight's key, as `inference_id` writes it, and a request
carries one record. Only what was answered since the running configuration was made counts: another challenger, or a
released champion, is another experiment. Latency and failures are what CloudWatch keeps of each variant: captures have
neither.
"""

from __future__ import annotations

import argparse
import base64
import csv
import datetime as dt
import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import botocore.exceptions

from local.runner import storage
from pipeline import curated, schema
from pipeline.step import StepError
from stacks.config import FILE
from stacks.option_config import CHALLENGER, CHAMPION
from stacks.serving_rules import Option
from tools import aws
from tools.assembly import ROOT, context
from tools.comparison import Answers, Prediction, Settings, Truth, compare, text

Clients = Callable[[str], Any]
OUT = ROOT / "out" / "compare"
_DAYS, _DAY = 14, 86_400  # CloudWatch keeps a minute's values for 15 days
_REGRESSION = "a model of regression decides for no class: its errors cannot be counted here."
_ID = 64  # "InvokeEndpoint" (SageMaker Runtime API Reference)


class CompareError(Exception):
    """Something that is needed for a comparison is missing: the message says what, and the remedy."""


def settings_of(stage: str, found: Mapping[str, Any]) -> Settings:
    """The `experiment` section of a stage in the context of cdk.json."""
    section = found.get("stages", {}).get(stage, {}).get("experiment")
    if not isinstance(section, dict):
        raise CompareError(
            f"{FILE}: stages.{stage}.experiment is missing. Say there what counts as a difference."
        )
    return Settings(section["kind"], section["minimum_effect"], section["confidence"], section["power"])


def inference_id(record: Mapping[str, Any], data: schema.Schema) -> str:
    """The id under which a record is asked: the values of its key, times in UTC; at most 64 characters."""
    found = "/".join(_plain(record[name]) for name in data.key)
    if len(found) > _ID:
        raise CompareError(
            f"{found}: longer than the {_ID} characters of an InferenceId. Choose a shorter key."
        )
    return found


def answers(lines: Iterable[str], since: dt.datetime) -> dict[str, Prediction]:
    """The predictions of captured lines from then on, by inference id.

    What has no id, or is no answer to one record, is left out.
    """
    found: dict[str, Prediction] = {}
    for line in lines:
        captured = json.loads(line)
        if dt.datetime.fromisoformat(captured["eventMetadata"]["inferenceTime"]) < since:
            continue
        given = captured["captureData"].get("endpointOutput")
        key = captured["eventMetadata"].get("inferenceId")
        if key and given and (predictions := list(_predictions(given))) and len(predictions) == 1:
            found.setdefault(key, predictions[0])
    return found


def truth(folder: Path, data: schema.Schema) -> dict[str, int]:
    """Class by inference id, from the Parquet files of a curated table."""
    table = curated.read(folder, data)
    labels = curated.label(table, data, "classification")
    rows = table.select(list(data.key)).to_pylist()
    return {inference_id(row, data): int(label) for row, label in zip(rows, labels, strict=True)}


def service(cloudwatch: Any, endpoint: str, variant: str, since: dt.datetime) -> dict[str, Any]:
    """What CloudWatch has of a variant from then on, of 14 days at most.

    Requests, failures (5xx), and the model's latency by its documented statistics.
    """
    now = dt.datetime.now(dt.UTC)

    def over(metric: str, statistics: list[str]) -> list[dict[str, Any]]:
        points: list[dict[str, Any]] = cloudwatch.get_metric_statistics(
            Namespace="AWS/SageMaker",
            MetricName=metric,
            Dimensions=[
                {"Name": "EndpointName", "Value": endpoint},
                {"Name": "VariantName", "Value": variant},
            ],
            StartTime=max(since, now - dt.timedelta(days=_DAYS)),
            EndTime=now,
            Period=_DAY,
            Statistics=statistics,
        )["Datapoints"]
        return points

    latency = over("ModelLatency", ["Sum", "SampleCount", "Maximum"])
    count = sum(point["SampleCount"] for point in latency)
    return {
        "invocations": int(sum(point["Sum"] for point in over("Invocations", ["Sum"]))),
        "server_errors": int(sum(point["Sum"] for point in over("Invocation5XXErrors", ["Sum"]))),
        "latency_milliseconds": {
            "average": sum(point["Sum"] for point in latency) / count / 1000,
            "maximum": max(point["Maximum"] for point in latency) / 1000,
        }
        if count
        else None,
    }


def report(clients: Clients, endpoint: str, known: Truth, settings: Settings) -> dict[str, Any]:
    """Compare the two variants of an endpoint that captures its answers."""
    sagemaker = clients("sagemaker")
    described = _described(sagemaker, endpoint)
    captures = described.get("DataCaptureConfig", {}).get("DestinationS3Uri")
    if captures is None:
        raise CompareError(
            f"{endpoint} captures nothing. Deploy it with experiment.data_capture_percent above 0."
        )
    config = sagemaker.describe_endpoint_config(EndpointConfigName=described["EndpointConfigName"])
    since = config["CreationTime"].replace(microsecond=0)  # captures tell whole seconds
    given: dict[str, Answers] = {
        name: answers(_lines(clients("s3"), f"{captures.rstrip('/')}/{endpoint}/{name}/"), since)
        for name in (CHAMPION, CHALLENGER)
    }
    found = compare(given, known, settings)
    for name, arm in found["arms"].items():
        arm["service"] = service(clients("cloudwatch"), endpoint, name, since)
    return {"endpoint": endpoint, **found}


def _described(sagemaker: Any, endpoint: str) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = sagemaker.describe_endpoint(EndpointName=endpoint)
    except botocore.exceptions.ClientError as error:
        if "Could not find" not in str(error):
            raise
        raise CompareError(
            f"{endpoint} is not there: no experiment runs. The reason: python -m tools.experiment status"
        ) from None
    return found


def _lines(s3: Any, uri: str) -> Iterator[str]:
    bucket, prefix = storage.split(uri)
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", []):
            body = s3.get_object(Bucket=bucket, Key=item["Key"])["Body"].read()
            yield from body.decode().splitlines()


def _predictions(side: Mapping[str, str]) -> Iterator[Prediction]:
    data = base64.b64decode(side["data"]).decode() if side["encoding"] == "BASE64" else side["data"]
    if side["observedContentType"].startswith("text/csv"):
        for score, *label in csv.reader(io.StringIO(data)):
            if not label:
                raise CompareError(_REGRESSION)
            yield Prediction(float(score), int(label[0]))
    else:
        for one in json.loads(data)["predictions"]:
            if "label" not in one:
                raise CompareError(_REGRESSION)
            yield Prediction(float(one["score"]), int(one["label"]))


def _plain(value: object) -> str:
    return f"{value:%Y-%m-%dT%H:%M:%SZ}" if isinstance(value, dt.datetime) else str(value)


def main(argv: list[str] | None = None, *, clients: Clients | None = None) -> int:
    """Write report.json and report.txt, and print the latter."""
    parser = argparse.ArgumentParser(prog="python -m tools.compare", description=__doc__)
    parser.add_argument("--truth", required=True, help="the curated table: a folder, or s3://bucket/prefix")
    options, config = aws.parse_stage(parser, argv)
    clients = clients or aws.clients()
    endpoint = config.endpoint_names[Option.AB]
    try:
        with tempfile.TemporaryDirectory() as folder, aws.told():
            settings = settings_of(options.stage, context(options.stage))
            place = Path(options.truth)
            if options.truth.startswith("s3://"):
                place = Path(folder)
                storage.download(clients("s3"), options.truth, place)
            known = truth(place, schema.load(config.dataset))
            found = report(clients, endpoint, known, settings)
    except (CompareError, StepError, storage.StorageError) as error:
        sys.exit(str(error))
    shown = text(found, title=f"Experiment {endpoint} ({settings.kind})")
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "report.json").write_text(json.dumps(found, indent=1) + "\n")
    (OUT / "report.txt").write_text(shown)
    print(shown)
    print(f"Written: {OUT.relative_to(ROOT)}/report.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
