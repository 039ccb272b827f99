"""`make verify-aws`: a healthy deployment passes; each thing that can be wrong is named."""

import json

import pytest
from moto import mock_aws

from tests.tools.deployed import TLS_ONLY, Account
from tools import aws, verify_aws

STACK = "flights-sandbox-foundation"


@pytest.fixture
def account():
    with mock_aws():
        account = Account()
        for stack in aws.STACKS:
            account.stacks.stacks[f"flights-sandbox-{stack.lower()}"] = []
        account.bucket(STACK, "raw")
        kms = account("kms")
        key = kms.create_key()["KeyMetadata"]["KeyId"]
        kms.enable_key_rotation(KeyId=key)
        account.stacks.add(STACK, "AWS::KMS::Key", key)
        kinesis = account("kinesis")
        kinesis.create_stream(StreamName="stream", ShardCount=1)
        kinesis.start_stream_encryption(StreamName="stream", EncryptionType="KMS", KeyId=key)
        account.stacks.add(STACK, "AWS::Kinesis::Stream", "stream")
        topic = account("sns").create_topic(Name="alarms")["TopicArn"]
        account("sns").subscribe(
            TopicArn=topic, Protocol="sqs", Endpoint="arn:aws:sqs:us-east-1:123456789012:q"
        )
        account.stacks.add(STACK, "AWS::SNS::Topic", topic)
        put_alarm(account)
        account.stacks.add(STACK, "AWS::CloudWatch::Alarm", "latency")
        account("logs").create_log_group(logGroupName="/flights")
        account("logs").put_retention_policy(logGroupName="/flights", retentionInDays=7)
        account.stacks.add(STACK, "AWS::Logs::LogGroup", "/flights")
        yield account


def put_alarm(account):
    account("cloudwatch").put_metric_alarm(
        AlarmName="latency",
        MetricName="ModelLatency",
        Namespace="AWS/SageMaker",
        ComparisonOperator="GreaterThanThreshold",
        EvaluationPeriods=1,
        Period=60,
        Statistic="Average",
        Threshold=1,
    )


def problems(account):
    config = aws.load_config("sandbox")
    return {name: wrong for _, name, wrong in verify_aws.findings(account, config) if wrong}


def test_a_healthy_deployment_passes(account, capsys):
    assert verify_aws.main([], clients=account) == 0
    assert "All checks passed." in capsys.readouterr().out


def test_a_missing_stack_is_named(account, capsys):
    del account.stacks.stacks["flights-sandbox-serving"]
    assert verify_aws.main([], clients=account) == 1
    assert "WRONG stack flights-sandbox-serving is not deployed" in capsys.readouterr().out


def test_a_stack_that_rolled_back_is_wrong(account):
    account.stacks.status[STACK] = "UPDATE_ROLLBACK_COMPLETE"
    assert problems(account) == {STACK: "is UPDATE_ROLLBACK_COMPLETE"}


def test_a_bucket_that_admits_the_public_is_wrong(account):
    account("s3").put_public_access_block(
        Bucket="raw", PublicAccessBlockConfiguration={"BlockPublicAcls": True, "BlockPublicPolicy": False}
    )
    assert problems(account) == {"raw": "does not block public access"}


def test_a_bucket_that_answers_plain_http_is_wrong(account):
    policy = {**TLS_ONLY, "Statement": [{**TLS_ONLY["Statement"][0], "Condition": {}}]}
    account("s3").put_bucket_policy(Bucket="raw", Policy=json.dumps(policy))
    assert problems(account) == {"raw": "does not deny plain HTTP"}


def test_a_key_that_is_not_rotated_is_wrong(account):
    key = account("kms").list_keys()["Keys"][0]["KeyId"]
    account("kms").disable_key_rotation(KeyId=key)
    assert problems(account) == {key: "is not rotated"}


def test_a_disabled_key_is_wrong(account):
    key = account("kms").list_keys()["Keys"][0]["KeyId"]
    account("kms").disable_key(KeyId=key)
    assert problems(account)[key] == "is Disabled"


def test_a_stream_in_the_clear_is_wrong(account):
    account("kinesis").stop_stream_encryption(StreamName="stream", EncryptionType="KMS", KeyId="any")
    assert problems(account) == {"stream": "is not encrypted"}


def test_an_alarm_in_alarm_is_wrong(account):
    account("cloudwatch").set_alarm_state(AlarmName="latency", StateValue="ALARM", StateReason="too slow")
    assert problems(account) == {"latency": "is in ALARM: too slow"}


def test_a_deleted_alarm_is_missing(account):
    account("cloudwatch").delete_alarms(AlarmNames=["latency"])
    assert problems(account) == {"latency": "is missing"}


class Latency:
    """CloudWatch with an alarm on p99: values came, if `count`, and have percentiles, if `percentiles`."""

    def __init__(self, count, *, percentiles):
        self.count, self.percentiles = count, percentiles

    def describe_alarms(self, *, AlarmNames):  # noqa: N803
        metric = {"Namespace": "AWS/SageMaker", "MetricName": "ModelLatency", "Dimensions": [], "Period": 60}
        return {"MetricAlarms": [{"StateValue": "OK", "ExtendedStatistic": "p99", **metric}]}

    def get_metric_statistics(self, *, Statistics=(), ExtendedStatistics=(), **asked):  # noqa: N803
        assert (asked["EndTime"] - asked["StartTime"]).total_seconds() / asked["Period"] <= 1440
        if Statistics:
            return {"Datapoints": [{"SampleCount": float(self.count)}] if self.count else []}
        return {"Datapoints": [{"ExtendedStatistics": {ExtendedStatistics[0]: 1.0}}] * self.percentiles}


def test_an_alarm_on_a_percentile_that_its_metric_lacks_is_wrong_once_there_is_traffic():
    def said(cloudwatch):
        return verify_aws.CHECKS["AWS::CloudWatch::Alarm"](lambda _: cloudwatch, "latency")

    assert said(Latency(0, percentiles=False)) is None
    assert said(Latency(500, percentiles=True)) is None
    assert said(Latency(500, percentiles=False)) == (
        "can never go off: ModelLatency has 500 values of the last 12 hours, and no p99. Set "
        "serving.alarms.latency_statistic in cdk.json to Maximum, or to Average and multiply the threshold by the "
        "canary's share (the old fleet's answers are in the mean), and deploy"
    )


def test_logs_kept_for_ever_are_wrong(account):
    account("logs").delete_retention_policy(logGroupName="/flights")
    assert problems(account) == {"/flights": "keeps its events for ever"}


def test_a_topic_without_readers_is_a_note_where_no_address_is_configured(account, capsys):
    topic = account("sns").create_topic(Name="lonely")["TopicArn"]
    account.stacks.add(STACK, "AWS::SNS::Topic", topic)
    assert verify_aws.main([], clients=account) == 0
    assert "note  nobody is told of failures: monitoring.alarm_email is empty" in capsys.readouterr().out


def test_a_resource_that_cannot_be_read_is_wrong_and_the_rest_is_still_checked(account):
    account.stacks.stacks[STACK].insert(0, ("AWS::Glue::Crawler", "gone"))
    account("logs").delete_retention_policy(logGroupName="/flights")
    found = problems(account)
    assert found.keys() == {"gone", "/flights"}
    assert found["gone"].startswith("cannot be read: An error occurred (EntityNotFoundException)")


@pytest.fixture
def mail(monkeypatch):
    """`monitoring.alarm_email` is a@b.c."""
    config = aws.load_config("sandbox")
    told = config.monitoring.model_copy(update={"alarm_email": "a@b.c"})
    config = config.model_copy(update={"monitoring": told})
    monkeypatch.setattr(aws, "load_config", lambda _: config)


def subscribed(account, address, arn="arn:aws:sns:us-east-1:123456789012:alarms:1"):
    """The same account, with one address subscribed to every topic, on the second page of the listing."""

    class Sns:
        def get_paginator(self, operation):
            assert operation == "list_subscriptions_by_topic"
            return self

        def paginate(self, *, TopicArn):  # noqa: N803
            assert TopicArn.endswith(":alarms")
            entry = {"Protocol": "email", "Endpoint": address, "SubscriptionArn": arn}
            return [{"Subscriptions": []}, {"Subscriptions": [entry]}]

    return lambda service: Sns() if service == "sns" else account(service)


def test_an_alarm_address_that_nobody_subscribed_is_wrong(account, mail, capsys):
    wrong = "has no subscription of a@b.c (monitoring.alarm_email). Run make deploy, or create it in the SNS console"
    for address, arn in (("other@b.c", "arn:aws:sns:us-east-1:123456789012:alarms:1"), ("a@b.c", "Deleted")):
        assert verify_aws.main([], clients=subscribed(account, address, arn)) == 1
        assert wrong in capsys.readouterr().out


def test_an_alarm_address_that_is_not_confirmed_is_wrong(account, mail, capsys):
    assert verify_aws.main([], clients=subscribed(account, "a@b.c", "PendingConfirmation")) == 1
    assert "waits for a@b.c to confirm the subscription e-mail" in capsys.readouterr().out


def test_an_alarm_address_that_is_confirmed_passes(account, mail, capsys):
    assert verify_aws.main([], clients=subscribed(account, "a@b.c")) == 0
    assert "note" not in capsys.readouterr().out


class Describes:
    """One service whose every call answers `answer`."""

    def __init__(self, answer):
        self.answer = answer

    def __getattr__(self, _name):
        return lambda **_: self.answer


@pytest.mark.parametrize(
    ("kind", "answer", "problem"),
    [
        ("AWS::SageMaker::Endpoint", {"EndpointStatus": "InService"}, None),
        (
            "AWS::SageMaker::Endpoint",
            {"EndpointStatus": "Failed", "FailureReason": "no image"},
            "is Failed: no image",
        ),
        ("AWS::SageMaker::Pipeline", {"PipelineStatus": "Deleting"}, "is Deleting"),
        ("AWS::Lambda::Function", {"State": "Inactive"}, None),
        ("AWS::Lambda::Function", {"State": "Failed"}, "is Failed"),
        ("AWS::Lambda::EventSourceMapping", {"State": "Disabled"}, "is Disabled"),
        (
            "AWS::Glue::Crawler",
            {"Crawler": {"LastCrawl": {"Status": "FAILED", "ErrorMessage": "denied"}}},
            "failed: denied",
        ),
        ("AWS::Glue::Crawler", {"Crawler": {}}, None),
        (
            "AWS::KinesisFirehose::DeliveryStream",
            {"DeliveryStreamDescription": {"DeliveryStreamStatus": "DELETING"}},
            "is DELETING",
        ),
        (
            "AWS::S3::Bucket",
            {"ServerSideEncryptionConfiguration": {"Rules": []}},
            "is not encrypted by default",
        ),
    ],
)
def test_the_state_that_aws_reports_decides(kind, answer, problem):
    assert verify_aws.CHECKS[kind](lambda _: Describes(answer), "arn:aws:x:::endpoint/name") == problem


def test_an_option_is_looked_for_where_the_stage_lists_it(account, monkeypatch, capsys):
    del account.stacks.stacks["flights-sandbox-batch"]
    assert verify_aws.main([], clients=account) == 0
    listed = aws.load_config("sandbox").model_copy(update={"options": ["batch"]})
    monkeypatch.setattr(aws, "load_config", lambda _: listed)
    assert verify_aws.main([], clients=account) == 1
    assert "WRONG stack flights-sandbox-batch is not deployed" in capsys.readouterr().out


def test_the_topics_of_results_need_no_alarm_address(account, mail):
    topic = account("sns").create_topic(Name="results")["TopicArn"]
    account.stacks.add("flights-sandbox-asynchronous", "AWS::SNS::Topic", topic)
    listed = aws.load_config("sandbox").model_copy(update={"options": ["asynchronous"]})
    assert listed.monitoring.alarm_email == "a@b.c"
    found = {name: problem for _, name, problem in verify_aws.findings(account, listed)}
    assert found[topic] is None
