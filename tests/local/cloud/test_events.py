"""Rules reach their targets, once, if the target lets them; what cannot be delivered waits in the dead-letter queue."""

import json
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local.cloud.lifecycle import PYTHON
from local.cloud.place import ACCOUNT, ROOT
from tests.local.cloud.test_metrics import values
from tests.local.cloud.test_stream import Flow, eventually
from tests.support.trust import trust

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


def test_a_dead_letter_queue_that_does_not_let_the_rule_send_gets_nothing(client: Client, name: str) -> None:
    _, queue_arn = queue(client, name, [])
    letters, letters_arn = queue(client, f"{name}-letters", [arn(f"{name}-other")])
    rule(client, name, {"Arn": queue_arn, "DeadLetterConfig": {"Arn": letters_arn}})
    put(client, name, {"x": 7})
    assert messages(client, letters, 0.3) == []


def test_a_schedule_of_a_minute_fires_after_a_second(client: Client, name: str) -> None:
    url, queue_arn = queue(client, name, [arn(name)])
    client("events").put_rule(Name=name, ScheduleExpression="rate(1 minute)")
    client("events").put_targets(Rule=name, Targets=[{"Id": "Target", "Arn": queue_arn}])
    first = messages(client, url)
    client("events").remove_targets(Rule=name, Ids=["Target"])
    client("events").delete_rule(Name=name)
    assert json.loads(first[0]["Body"])["detail-type"] == "Scheduled Event"


def test_a_calendar_of_every_minute_fires_every_second(client: Client, name: str) -> None:
    url, queue_arn = queue(client, name, [arn(name)])
    client("events").put_rule(Name=name, ScheduleExpression="cron(* * * * ? *)")
    client("events").put_targets(Rule=name, Targets=[{"Id": "Target", "Arn": queue_arn}])
    fired = eventually(
        lambda: len(messages(client, url)) >= 2 or None
    )  # a real clock has one minute in that time
    client("events").remove_targets(Rule=name, Ids=["Target"])
    client("events").delete_rule(Name=name)
    assert fired


def test_a_schedule_s_target_without_permission_leaves_a_letter_by_the_schedule_s_role(
    client: Client, name: str
) -> None:
    letters, letters_arn = queue(client, name, [])
    pipeline = f"arn:aws:sagemaker:us-east-1:000000000000:pipeline/{name}"
    role = client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=trust("scheduler"))["Role"][
        "Arn"
    ]
    statement = {"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": letters_arn}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    client("iam").put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=document)
    client("scheduler").create_schedule(
        Name=name,
        ScheduleExpression="rate(1 minute)",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target={
            "Arn": pipeline,
            "RoleArn": role,
            "SageMakerPipelineParameters": {"PipelineParameterList": []},
            "DeadLetterConfig": {"Arn": letters_arn},
        },
    )
    letter = messages(client, letters, 5)[0]
    client("scheduler").delete_schedule(Name=name)
    attributes = {key: value["StringValue"] for key, value in letter["MessageAttributes"].items()}
    assert attributes["SCHEDULE_ARN"].endswith(f":schedule/default/{name}")
    assert attributes["TARGET_ARN"] == pipeline
    assert attributes["ERROR_CODE"] == "NO_PERMISSIONS"


RETRIES = """
import json, time
from local.cloud import clock, events
from local.cloud.protocol import ApiError

def attempts(error, **policy):
    made = []
    def deliver():
        made.append(1)
        if len(made) < 4:
            raise error
    ended = events.attempt(deliver, policy)
    return [len(made), ended and ended[0].code, ended and ended[2]]

clock.set_factor(1000, time.time())
busy = ApiError("ThrottlingException", "later")
print(json.dumps({
    "passes": attempts(busy),
    "limited": attempts(busy, MaximumRetryAttempts=1),
    "too_old": attempts(busy, MaximumEventAgeInSeconds=20),
    "wrong": attempts(ApiError("ValidationException", "no")),
    "absent": attempts(ApiError("ResourceNotFound", "no")),
}))
"""


def test_what_may_pass_is_tried_again_as_the_policy_says_and_nothing_else(tmp_path: Path) -> None:
    paths = dict.fromkeys(("HOME", "TMPDIR", "STATE_DIR", "S3_DATA_DIR"), str(tmp_path))
    ran = subprocess.run(
        [PYTHON, "-c", RETRIES], cwd=ROOT, env=paths, capture_output=True, text=True, check=True
    )
    assert json.loads(ran.stdout.splitlines()[-1]) == {
        "passes": [4, None, None],
        "limited": [2, "ThrottlingException", "MaximumRetryAttempts"],
        "too_old": [1, "ThrottlingException", "MaximumEventAgeInSeconds"],
        "wrong": [1, "ValidationException", ""],
        "absent": [1, "NO_RESOURCE", ""],
    }


TARGET = """
import json, time
from local.cloud import clock, events
from local.cloud.protocol import ApiError

made, buried = [], []

def start(target, payload, session):
    made.append(payload)
    raise ApiError("ThrottlingException", "later")

clock.set_factor(1000, time.time())
events.TARGETS["glue"] = start
events._bury = lambda letters, target, rule, event, failed, cloud: buried.append([letters, *failed[1:]])
target = {
    "Arn": "arn:aws:glue:us-east-1:000000000000:workflow/w",
    "RetryPolicy": {"MaximumRetryAttempts": 2},
    "DeadLetterConfig": {"Arn": "letters"},
}
events._deliver(target, "{}", "{}", {"Arn": "arn:aws:events:us-east-1:000000000000:rule/r", "Name": "r"}, None)
print(json.dumps([len(made), buried]))
"""


def test_a_target_is_tried_as_often_as_its_own_policy_says(tmp_path: Path) -> None:
    paths = dict.fromkeys(("HOME", "TMPDIR", "STATE_DIR", "S3_DATA_DIR"), str(tmp_path))
    ran = subprocess.run(
        [PYTHON, "-c", TARGET], cwd=ROOT, env=paths, capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(ran.stdout.splitlines()[-1]) == [3, [["letters", 2, "MaximumRetryAttempts"]]]


CALENDAR = """
import datetime as dt
from local.cloud import clock, events, seams

start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
clock.set_factor(60, start.timestamp())
following = events._cron(seams.eventbridge._cron_next_fire)
fields = seams.eventbridge._parse_cron_fields("cron(0 2 * * ? *)")
first = following(fields, start)
print((first - start).total_seconds(), (following(fields, first) - first).total_seconds())
"""


def test_every_night_at_two_is_every_24_minutes(tmp_path: Path) -> None:
    paths = dict.fromkeys(("HOME", "TMPDIR", "STATE_DIR", "S3_DATA_DIR"), str(tmp_path))
    ran = subprocess.run(
        [PYTHON, "-c", CALENDAR], cwd=ROOT, env=paths, capture_output=True, text=True, check=True
    )
    assert ran.stdout.splitlines()[-1] == "120.0 1440.0"


def test_a_message_that_a_function_gives_back_after_a_minute_comes_again_after_a_second(
    client: Client,
) -> None:
    flow = Flow(client, ["sqs:ReceiveMessage", "sqs:DeleteMessage", "sqs:GetQueueAttributes"], "*")
    url = client("sqs").create_queue(QueueName=flow.name, Attributes={"VisibilityTimeout": "60"})["QueueUrl"]
    arn = f"arn:aws:sqs:us-east-1:{ACCOUNT}:{flow.name}"
    client("lambda").create_event_source_mapping(FunctionName=flow.name, EventSourceArn=arn, BatchSize=1)
    client("sqs").send_message(QueueUrl=url, MessageBody="no record of a stream: the function crashes")
    found = eventually(
        lambda: sum(values(client, "AWS/Lambda", "Errors", {"FunctionName": flow.name}, "Sum")) >= 2
    )
    client("sqs").delete_queue(QueueUrl=url)
    assert found
