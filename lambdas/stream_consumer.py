"""Kinesis → endpoint → S3: a prediction for every flight of the stream, and no record lost (Tasks 1.1 and 3.1).

Lambda may send a whole batch again, or half of it after a crash. Therefore a batch writes one object for each kind of
outcome, named by the shard and the sequence number it begins with: the same records overwrite the same objects.
Duplicates in different batches stay, with the same event id: without a table nobody can know them here.
"""

import base64
import datetime as dt
import functools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit
from aws_lambda_powertools.utilities.data_classes import KinesisStreamEvent
from aws_lambda_powertools.utilities.typing import LambdaContext
from botocore.exceptions import BotoCoreError, ClientError

from lambdas import clients, settings, stream_batch
from lambdas.stream_batch import (
    Flight,
    NoModelError,
    Received,
    RefusedError,
    Settlement,
    UnavailableError,
)
from pipeline.schema import load

logger = Logger()
metrics = Metrics()
_schema = functools.cache(load)  # read once a cold start


@dataclass(frozen=True)
class Settings:
    """Where to ask, and where to write."""

    endpoint_name: str
    predictions_bucket: str
    predictions_prefix: str
    quarantine_bucket: str
    quarantine_prefix: str
    dataset: str


def classify(error: ClientError) -> Exception:
    """Whose fault a failed InvokeEndpoint is.

    The container's own status stands in `OriginalStatusCode` of a ModelError (424). Missing permissions are a 4xx too,
    but no record's fault, so they are retried, and end in the failure destination rather than in quarantine.
    """
    code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
    if code == "ValidationError":
        absent = message.endswith("not found.") or "Could not find endpoint" in message
        return NoModelError(message) if absent else RefusedError(message)
    status = int(error.response.get("OriginalStatusCode", 500))
    if code == "ModelError" and 400 <= status < 500 and status not in {408, 429}:
        return RefusedError(message)
    return UnavailableError(message)


def invoke_endpoint(runtime: Any, endpoint_name: str, flights: Sequence[Flight]) -> list[dict[str, Any]]:
    """Predict these flights with one InvokeEndpoint: one answer each, in order."""
    try:
        response = runtime.invoke_endpoint(
            EndpointName=endpoint_name,
            ContentType="application/json",
            Accept="application/json",
            Body=stream_batch.body(flights),
        )
        predictions: list[dict[str, Any]] = json.loads(response["Body"].read())["predictions"]
    except ClientError as error:
        logger.warning("the endpoint did not predict", error=str(error), records=len(flights))
        raise classify(error) from error
    except (BotoCoreError, ValueError, LookupError, TypeError) as error:
        logger.warning("no usable answer", error=repr(error), records=len(flights))
        raise UnavailableError(str(error)) from error
    if len(predictions) != len(flights):
        logger.warning("wrong number of answers", answers=len(predictions), records=len(flights))
        raise UnavailableError(f"{len(predictions)} answers for {len(flights)} records")
    return predictions


def quarantine_lines(batch: Sequence[Received], refused: Mapping[int, list[str]]) -> list[dict[str, Any]]:
    """Refused records, whole (base64, because they may be no text at all), with reasons and place in the stream."""
    return [
        {
            "reasons": reasons,
            "shard": batch[position].shard,
            "sequence": batch[position].sequence,
            "arrived": _instant(batch[position]).isoformat(),
            "data": base64.b64encode(batch[position].data).decode(),
        }
        for position, reasons in refused.items()
    ]


def prediction_lines(
    predicted: Iterable[tuple[Flight, Mapping[str, Any]]],
) -> list[dict[str, Any]]:
    """One line a prediction: which event, and what the model said."""
    return [
        {"event_id": flight.event_id, "event_time": flight.event_time, **prediction}
        for flight, prediction in predicted
    ]


def object_key(prefix: str, first: Received) -> str:
    """Named by what never changes when Lambda sends the batch again: the first record's day, shard and sequence."""
    return f"{prefix.rstrip('/')}/date={_instant(first).date()}/{first.shard}-{first.sequence}.jsonl"


def _instant(received: Received) -> dt.datetime:
    return dt.datetime.fromtimestamp(received.arrived, dt.UTC)


def _write(s3: Any, bucket: str, key: str, lines: Sequence[Mapping[str, Any]]) -> None:
    if lines:
        text = "".join(json.dumps(line) + "\n" for line in lines)
        s3.put_object(Bucket=bucket, Key=key, Body=text.encode(), ContentType="application/x-ndjson")


def receive(event: KinesisStreamEvent) -> list[Received]:
    """The records of an invocation: all of one shard, in the shard's order."""
    return [
        Received(
            shard=record.event_id.split(":", 1)[0],
            sequence=record.kinesis.sequence_number,
            arrived=record.kinesis.approximate_arrival_timestamp,
            data=record.kinesis.data_as_bytes(),
        )
        for record in event.records
    ]


def count(settlement: Settlement) -> dict[str, int]:
    """The metrics of a batch: the first is the sum of the others."""
    return {
        "RecordsReceived": settlement.received,
        "RecordsPredicted": len(settlement.predicted),
        "RecordsQuarantined": len(settlement.refused),
        "RecordsDuplicated": settlement.duplicates,
        "NoModelYet": settlement.skipped,
        "RecordsReturned": settlement.returned,
    }


def sum_of_scores(predicted: Iterable[tuple[Flight, Mapping[str, Any]]]) -> float:
    """What the model said, added up: a score for each record, or in regression a value in the label's unit.

    Divided by `RecordsPredicted` it is the mean prediction, which an alarm of Serving watches during a rollout. What is
    no number counts as 0: the answer is written as it came, and no metric may stop the batch.
    """
    said = (answer.get("score", answer.get("value")) for _, answer in predicted)
    return sum(float(each) for each in said if isinstance(each, int | float) and math.isfinite(each))


@logger.inject_lambda_context
@metrics.log_metrics
def handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001 - Lambda's signature
    """Lambda's entry point for the event source mapping (partial batch responses switched on)."""
    batch = receive(KinesisStreamEvent(event))
    if not batch:
        return {"batchItemFailures": []}
    to = settings.read(Settings)
    runtime, s3 = clients.client("sagemaker-runtime"), clients.client("s3")
    settlement = stream_batch.settle(
        batch, _schema(to.dataset), lambda flights: invoke_endpoint(runtime, to.endpoint_name, flights)
    )
    _write(
        s3,
        to.quarantine_bucket,
        object_key(to.quarantine_prefix, batch[0]),
        quarantine_lines(batch, settlement.refused),
    )
    _write(
        s3,
        to.predictions_bucket,
        object_key(to.predictions_prefix, batch[0]),
        prediction_lines(settlement.predicted),
    )
    counts = count(settlement)
    for name, value in counts.items():
        metrics.add_metric(name=name, unit=MetricUnit.Count, value=value)
    metrics.add_metric(name="SumOfScores", unit=MetricUnit.NoUnit, value=sum_of_scores(settlement.predicted))
    logger.info("batch settled", extra=counts)
    again_from = settlement.again_from
    return {"batchItemFailures": [{"itemIdentifier": again_from}] if again_from else []}
