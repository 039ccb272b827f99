"""An alarm goes off for its own dimensions only, comes back by silence, and both are events."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from tests.local.cloud.test_events import arn, queue, rule
from tests.local.cloud.test_stream import eventually

Client = Callable[[str], Any]


@pytest.fixture
def name() -> str:
    return f"a{uuid.uuid4().hex[:8]}"


def alarm(client: Client, name: str, **settings: Any) -> None:
    given: dict[str, Any] = {
        "MetricName": name,
        "Dimensions": [{"Name": "side", "Value": "left"}],
        "Statistic": "Sum",
        "Period": 60,
        "EvaluationPeriods": 1,
        "Threshold": 0,
        "ComparisonOperator": "GreaterThanThreshold",
        "TreatMissingData": "notBreaching",
    }
    client("cloudwatch").put_metric_alarm(AlarmName=name, Namespace="tests", **given | settings)


def put(client: Client, name: str, side: str) -> None:
    datum = {"MetricName": name, "Value": 1, "Dimensions": [{"Name": "side", "Value": side}]}
    client("cloudwatch").put_metric_data(Namespace="tests", MetricData=[datum])


def state(client: Client, name: str) -> str:
    return str(client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"][0]["StateValue"])


def changes(client: Client, url: str) -> list[str]:
    """The states in the events so far, deleted as they are read."""
    found = []
    while messages := client("sqs").receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        for message in messages:
            detail = json.loads(message["Body"])["detail"]
            found.append(f"{detail['previousState']['value']} -> {detail['state']['value']}")
            client("sqs").delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    return found


def test_it_goes_off_for_its_dimension_and_comes_back_by_silence(client: Client, name: str) -> None:
    url, queue_arn = queue(client, name, [arn(name)])
    rule(client, name, {"Arn": queue_arn})
    pattern = {"source": ["aws.cloudwatch"], "detail": {"alarmName": [name]}}
    client("events").put_rule(Name=name, EventPattern=json.dumps(pattern))
    alarm(client, name)
    assert eventually(lambda: state(client, name) == "OK")
    put(client, name, "right")
    put(client, name, "left")
    assert eventually(lambda: state(client, name) == "ALARM")
    assert eventually(lambda: state(client, name) == "OK")
    assert changes(client, url) == ["INSUFFICIENT_DATA -> OK", "OK -> ALARM", "ALARM -> OK"]


def test_another_dimension_is_not_its_business(client: Client, name: str) -> None:
    alarm(client, name)
    assert eventually(lambda: state(client, name) == "OK")
    put(client, name, "right")
    assert not eventually(lambda: state(client, name) != "OK", seconds=2.5)


def test_an_alarm_that_cannot_be_judged_here_says_so_and_keeps_no_other_from_it(
    client: Client, name: str
) -> None:
    alarm(client, name, ComparisonOperator="LessThanLowerThreshold")
    alarm(client, f"{name}-2")

    def reason() -> str:
        (found,) = client("cloudwatch").describe_alarms(AlarmNames=[name])["MetricAlarms"]
        return str(found.get("StateReason", ""))

    assert eventually(lambda: "LessThanLowerThreshold is unsupported in the embedded cloud" in reason())
    assert state(client, name) == "INSUFFICIENT_DATA"
    assert eventually(lambda: state(client, f"{name}-2") == "OK")
    client("cloudwatch").delete_alarms(AlarmNames=[name, f"{name}-2"])


def test_an_action_needs_the_topic_s_permission(client: Client, name: str) -> None:
    url, queue_arn = queue(client, name, [])
    topic = client("sns").create_topic(Name=name)["TopicArn"]
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "sns.amazonaws.com"},
        "Action": "sqs:SendMessage",
        "Resource": queue_arn,
    }
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    client("sqs").set_queue_attributes(QueueUrl=url, Attributes={"Policy": document})
    client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue_arn)

    def received() -> bool:
        return bool(client("sqs").receive_message(QueueUrl=url, VisibilityTimeout=0).get("Messages"))

    def allow(service: str) -> None:
        statement = {
            "Effect": "Allow",
            "Principal": {"Service": service},
            "Action": "sns:Publish",
            "Resource": topic,
        }
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        client("sns").set_topic_attributes(TopicArn=topic, AttributeName="Policy", AttributeValue=document)

    allow("events.amazonaws.com")
    alarm(client, name, AlarmActions=[topic])
    client("cloudwatch").set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="by hand")
    assert not received()
    allow("cloudwatch.amazonaws.com")
    assert eventually(lambda: state(client, name) == "OK")
    client("cloudwatch").set_alarm_state(AlarmName=name, StateValue="ALARM", StateReason="by hand")
    assert eventually(received)
