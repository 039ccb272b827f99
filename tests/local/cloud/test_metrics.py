"""Metrics that nobody puts: those in a function's log, those of the stream, those of queues."""

import time
import uuid
from collections.abc import Callable
from typing import Any

from tests.local.cloud.test_stream import Flow, eventually

Client = Callable[[str], Any]


def values(
    client: Client, namespace: str, name: str, dimensions: dict[str, str], statistic: str
) -> list[float]:
    now = time.time()
    points = client("cloudwatch").get_metric_statistics(
        Namespace=namespace,
        MetricName=name,
        Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
        StartTime=now - 3600,
        EndTime=now + 60,
        Period=7200,
        Statistics=[statistic],
    )["Datapoints"]
    return [float(point[statistic]) for point in points]


def test_an_embedded_metric_leaves_the_log_of_any_invocation(client: Client) -> None:
    flow = Flow(client, [])
    client("lambda").invoke(FunctionName=flow.name, Payload=b'{"Records": []}')
    assert values(client, "tests", "Called", {"function": flow.name}, "Sum") == [2.0]
    assert values(client, "AWS/Lambda", "Invocations", {"FunctionName": flow.name}, "Sum") == [1.0]


def test_records_put_are_counted(client: Client) -> None:
    flow = Flow(client, [])
    flow.put("a", "b")
    client("kinesis").put_record(StreamName=flow.name, Data=b"c", PartitionKey="k")
    assert values(client, "AWS/Kinesis", "IncomingRecords", {"StreamName": flow.name}, "Sum") == [3.0]


def test_a_queue_that_holds_messages_is_measured_every_minute(client: Client) -> None:
    name = f"q{uuid.uuid4().hex[:8]}"
    url = client("sqs").create_queue(QueueName=name)["QueueUrl"]
    client("sqs").send_message(QueueUrl=url, MessageBody="x")
    metric = ("AWS/SQS", "ApproximateNumberOfMessagesVisible", {"QueueName": name})
    assert eventually(lambda: values(client, *metric, "Maximum")) == [1.0]
    client("sqs").purge_queue(QueueUrl=url)
    assert eventually(lambda: values(client, *metric, "Minimum") == [0.0])
