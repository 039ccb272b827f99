"""Metrics that the templates' alarms and dashboards read: embedded ones in logs, and those of Lambda, Kinesis and SQS.

Firehose's stand in `archive`, the mapping's `IteratorAge` in `stream`, Glue's and SageMaker's with those services.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from local.cloud import clock, seams
from local.cloud.extensions import Cloud

PERIOD_SECONDS = 60  # SQS publishes every minute


def install(cloud: Cloud) -> None:
    """Count every invocation and every record, and look at every queue once a minute."""
    seams.replace(seams.lambda_svc, "_emit_lambda_logs", _invocation)
    seams.replace(seams.lambda_svc, "_emit_lambda_metrics", _throttle)
    seams.replace(seams.kinesis, "_put_record", _puts)
    seams.replace(seams.kinesis, "_put_records", _puts)
    stopped = threading.Event()
    cloud.closing.callback(stopped.set)
    threading.Thread(target=_queues, args=(stopped,), name="metrics.sqs", daemon=True).start()


def embedded(line: str) -> Iterator[tuple[str, str, float, str, dict[str, str]]]:
    """The metrics of one log line in the embedded metric format: namespace, name, value, unit, dimensions."""
    if '"_aws"' not in line:
        return
    try:
        document = json.loads(line)
        directives = document["_aws"]["CloudWatchMetrics"]
    except (ValueError, LookupError, TypeError):
        return
    for directive in directives:
        for names in directive.get("Dimensions") or [[]]:
            dimensions = {name: str(document[name]) for name in names}
            for metric in directive["Metrics"]:
                values = document[metric["Name"]]
                for value in values if isinstance(values, list) else [values]:
                    yield (
                        directive["Namespace"],
                        metric["Name"],
                        value,
                        metric.get("Unit", "None"),
                        dimensions,
                    )


def _invocation(original: Callable[..., None]) -> Callable[..., None]:
    """Every invocation writes its log here, whoever caused it: API, mapping or event."""

    def emit(
        function: dict[str, Any], request: str, text: str, error: object, milliseconds: int, **rest: Any
    ) -> None:
        original(function, request, text, error, milliseconds, **rest)
        record = seams.cloudwatch.record_metric
        for line in (text or "").splitlines():
            for metric in embedded(line):
                record(*metric)
        name = {"FunctionName": (function.get("config") or function)["FunctionName"]}
        record("AWS/Lambda", "Invocations", 1, "Count", name)
        record("AWS/Lambda", "Errors", int(bool(error)), "Count", name)
        record("AWS/Lambda", "Duration", milliseconds, "Milliseconds", name)

    return emit


def _throttle(original: Callable[..., None]) -> Callable[..., None]:
    """MiniStack counts invocations of its API only; the rest is counted above, and nothing twice."""

    def emit(name: str, **counted: Any) -> None:
        if counted["throttle"]:
            original(name, **counted)

    return emit


def _puts(original: Callable[[dict[str, Any]], Any]) -> Callable[[dict[str, Any]], Any]:
    def put(request: dict[str, Any]) -> Any:
        answer = original(request)
        if answer[0] == 200:
            name = request.get("StreamName") or request.get("StreamARN", "").rpartition("/")[2]
            record, dimensions = seams.cloudwatch.record_metric, {"StreamName": name}
            record("AWS/Kinesis", "IncomingRecords", len(request.get("Records", [0])), "Count", dimensions)
            record("AWS/Kinesis", "WriteProvisionedThroughputExceeded", 0, "Count", dimensions)
        return answer

    return put


def _queues(stopped: threading.Event) -> None:
    active: set[str] = set()
    while not stopped.wait(max(0.5, clock.scaled(PERIOD_SECONDS))):
        now = time.time()
        for queue in list(seams.sqs._queues._data.values()):
            visible = sum(message["visible_at"] <= now for message in list(queue["messages"]))
            if visible or queue["name"] in active:  # AWS publishes nothing for an idle queue
                seams.cloudwatch.record_metric(
                    "AWS/SQS",
                    "ApproximateNumberOfMessagesVisible",
                    visible,
                    "Count",
                    {"QueueName": queue["name"]},
                )
            (active.add if visible else active.discard)(queue["name"])
