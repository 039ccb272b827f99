"""Records of the stream, good and bad, and the endpoint that answers for them."""

import base64
import io
import json
from collections.abc import Callable, Sequence
from typing import Any

from botocore.exceptions import ClientError

from lambdas.stream_batch import Received

SHARD = "shardId-000000000003"
ARRIVED = 1_357_034_400.0  # 2013-01-01T10:00:00Z

FLIGHT: dict[str, Any] = {
    "year": 2013, "month": 1, "day": 1, "dep_time": None, "sched_dep_time": 515, "dep_delay": None,
    "arr_time": None, "sched_arr_time": 819, "arr_delay": None, "carrier": "UA", "flight": 1545,
    "tailnum": "N14228", "origin": "EWR", "dest": "IAH", "air_time": None, "distance": 1400, "hour": 5,
    "minute": 15, "time_hour": "2013-01-01T10:00:00Z",
}  # fmt: skip


def event(event_id: str, /, **changes: Any) -> dict[str, Any]:
    """One flight as the producer sends it."""
    return {"event_id": event_id, "event_time": "2013-01-01T09:00:00Z", **FLIGHT, **changes}


def sequence(position: int) -> str:
    return f"4954598344{position:046d}"


def received(position: int, content: bytes | dict[str, Any]) -> Received:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    return Received(SHARD, sequence(position), ARRIVED, data)


def kinesis_event(contents: Sequence[bytes | dict[str, Any]], start: int = 0) -> dict[str, Any]:
    """What Lambda hands to the function for these records ("Using Lambda with Kinesis", example event)."""
    records = [received(start + i, content) for i, content in enumerate(contents)]
    return {
        "Records": [
            {
                "kinesis": {
                    "kinesisSchemaVersion": "1.0",
                    "partitionKey": "UA",
                    "sequenceNumber": record.sequence,
                    "data": base64.b64encode(record.data).decode(),
                    "approximateArrivalTimestamp": record.arrived,
                },
                "eventSource": "aws:kinesis",
                "eventVersion": "1.0",
                "eventID": f"{record.shard}:{record.sequence}",
                "eventName": "aws:kinesis:record",
                "awsRegion": "eu-west-1",
                "eventSourceARN": "arn:aws:kinesis:eu-west-1:123456789012:stream/flights",
            }
            for record in records
        ]
    }


def client_error(code: str, message: str = "no", **members: Any) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": message}, **members}, "InvokeEndpoint")


class Endpoint:
    """Stands in for sagemaker-runtime (moto runs no model): `judge` may raise for the instances of a request."""

    def __init__(self, judge: Callable[[list[dict[str, Any]]], None] = lambda _: None) -> None:
        self.judge = judge
        self.requests: list[dict[str, Any]] = []

    def invoke_endpoint(self, **request: Any) -> dict[str, Any]:
        self.requests.append(request)
        instances = json.loads(request["Body"])["instances"]
        self.judge(instances)
        answer = {"predictions": [{"score": 0.25, "label": 0} for _ in instances]}
        return {"Body": io.BytesIO(json.dumps(answer).encode())}
