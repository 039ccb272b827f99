"""Rules reach their targets, once, if the target lets them; what cannot be delivered waits in the dead-letter queue."""

import json
import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

Client = Callable[[str], Any]


def queue(client: Client, name: str, sources: list[str], **attributes: str) -> tuple[str, str]:
    """A queue that EventBridge may send to for these rules: its URL and ARN."""
    arn = f"arn:aws:sqs:us-east-1:000000000000:{name}"
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "events.amazonaws.com"},
                "Action": "sqs:SendMessage",
                "Resource": arn,
                "Condition": {"ArnEquals": {"aws:SourceArn": sources}},
            }
        ],
    }
    if sources:
        attributes["Policy"] = json.dumps(policy)
    return client("sqs").create_queue(QueueName=name, Attributes=attributes)["QueueUrl"], arn


def messages(client: Client, url: str, seconds: float = 3) -> list[dict[str, Any]]:
    """What comes first within the time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = client("sqs").receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"], VisibilityTimeout=0
        )
        if answer.get("Messages"):
            return list(answer["Messages"])
        time.sleep(0.05)
    return []


@pytest.fixture
def name() -> str:
    return f"r{uuid.uuid4().hex[:8]}"


def rule(client: Client, name: str, target: dict[str, Any]) -> None:
    client("events").put_rule(Name=name, EventPattern=json.dumps({"source": [name]}))
    client("events").put_targets(Rule=name, Targets=[{"Id": "Target"} | target])


def put(client: Client, name: str, detail: dict[str, Any]) -> None:
    entry = {"Source": name, "DetailType": "Test", "Detail": json.dumps(detail)}
    client("events").put_events(Entries=[entry])


def arn(name: str) -> str:
    return f"arn:aws:events:us-east-1:000000000000:rule/{name}"


def test_a_target_gets_what_the_transformer_makes_of_the_event(client: Client, name: str) -> None:
    url, queue_arn = queue(client, name, [arn(name)])
    transformer = {"InputPathsMap": {"x": "$.detail.x"}, "InputTemplate": '{"seen": <x>}'}
    rule(client, name, {"Arn": queue_arn, "InputTransformer": transformer})
    put(client, name, {"x": 7})
    assert [json.loads(message["Body"]) for message in messages(client, url)] == [{"seen": 7}]


def test_a_fifo_queue_drops_an_event_that_comes_twice(client: Client, name: str) -> None:
    fifo = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}
    url, queue_arn = queue(client, f"{name}.fifo", [arn(name)], **fifo)
    rule(
        client,
        name,
        {"Arn": queue_arn, "SqsParameters": {"MessageGroupId": "g"}, "InputPath": "$.detail"},
    )
    for value in (1, 1, 2):
        put(client, name, {"x": value})
    assert [json.loads(message["Body"]) for message in messages(client, url)] == [{"x": 1}, {"x": 2}]


def test_an_event_for_a_target_without_permission_waits_in_the_dead_letter_queue(
    client: Client, name: str
) -> None:
    url, queue_arn = queue(client, name, [])
    letters, letters_arn = queue(client, f"{name}-letters", [arn(name)])
    rule(client, name, {"Arn": queue_arn, "DeadLetterConfig": {"Arn": letters_arn}})
    put(client, name, {"x": 7})
    [letter] = messages(client, letters)
    attributes = {key: value["StringValue"] for key, value in letter["MessageAttributes"].items()}
    assert attributes["ERROR_CODE"] == "NO_PERMISSIONS"
    assert attributes["RULE_ARN"] == arn(name)
    assert attributes["TARGET_ARN"] == queue_arn
    assert json.loads(letter["Body"])["detail"] == {"x": 7}
    assert messages(client, url, 0.2) == []


def test_a_schedule_of_a_minute_fires_after_a_second(client: Client, name: str) -> None:
    url, queue_arn = queue(client, name, [arn(name)])
    client("events").put_rule(Name=name, ScheduleExpression="rate(1 minute)")
    client("events").put_targets(Rule=name, Targets=[{"Id": "Target", "Arn": queue_arn}])
    first = messages(client, url)
    client("events").remove_targets(Rule=name, Ids=["Target"])
    client("events").delete_rule(Name=name)
    assert json.loads(first[0]["Body"])["detail-type"] == "Scheduled Event"
