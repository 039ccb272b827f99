"""Read-only checks of a deployed system: what is deployed is healthy, encrypted, private and listened to.

Every check is a row of `CHECKS`: a CloudFormation type and a function that returns what is wrong, or nothing. Only
Describe, Get and List calls are made.
"""

import argparse
import datetime as dt
import functools
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import botocore.exceptions

from stacks.config import Config
from tools import aws

Clients = Callable[[str], Any]
Check = Callable[[Clients, str], str | None]
# One call gives 1,440 points at most, and the shortest period is a minute.
_HOURS = 12


def _bucket(clients: Clients, name: str) -> str | None:
    s3 = clients("s3")
    rules = s3.get_bucket_encryption(Bucket=name)["ServerSideEncryptionConfiguration"]["Rules"]
    if not any(
        rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] in {"aws:kms", "AES256"} for rule in rules
    ):
        return "is not encrypted by default"
    block = s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"]
    if not all(block.values()):
        return "does not block public access"
    statements = json.loads(s3.get_bucket_policy(Bucket=name)["Policy"])["Statement"]
    if not any(
        statement["Effect"] == "Deny"
        and "aws:SecureTransport" in statement.get("Condition", {}).get("Bool", {})
        for statement in statements
    ):
        return "does not deny plain HTTP"
    return None


def _key(clients: Clients, key: str) -> str | None:
    kms = clients("kms")
    state = kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"]
    if state != "Enabled":
        return f"is {state}"
    return None if kms.get_key_rotation_status(KeyId=key)["KeyRotationEnabled"] else "is not rotated"


def _stream(clients: Clients, name: str) -> str | None:
    stream = clients("kinesis").describe_stream_summary(StreamName=name)["StreamDescriptionSummary"]
    if stream["StreamStatus"] != "ACTIVE":
        return f"is {stream['StreamStatus']}"
    return None if stream.get("EncryptionType") == "KMS" else "is not encrypted"


def _delivery_stream(clients: Clients, name: str) -> str | None:
    description = clients("firehose").describe_delivery_stream(DeliveryStreamName=name)
    status = description["DeliveryStreamDescription"]["DeliveryStreamStatus"]
    return None if status == "ACTIVE" else f"is {status}"


def _function(clients: Clients, name: str) -> str | None:
    state = clients("lambda").get_function_configuration(FunctionName=name)["State"]
    # A function idle for weeks is Inactive, and wakes at its next call ("Lambda function states").
    return None if state in {"Active", "Inactive"} else f"is {state}"


def _event_source_mapping(clients: Clients, uuid: str) -> str | None:
    state = clients("lambda").get_event_source_mapping(UUID=uuid)["State"]
    return None if state == "Enabled" else f"is {state}"


def _topic(email: str | None, clients: Clients, arn: str) -> str | None:
    pages = clients("sns").get_paginator("list_subscriptions_by_topic").paginate(TopicArn=arn)
    found = [(item["Endpoint"], item["SubscriptionArn"]) for page in pages for item in page["Subscriptions"]]
    pending = [address for address, subscription in found if subscription == "PendingConfirmation"]
    if pending:
        return f"waits for {', '.join(pending)} to confirm the subscription e-mail"
    # An unsubscribed address may be listed for a while, as "Deleted".
    if email and email not in [address for address, subscription in found if subscription != "Deleted"]:
        return f"has no subscription of {email} (monitoring.alarm_email). Run make deploy, or create it in the SNS console"
    return None


def _alarm(clients: Clients, name: str) -> str | None:
    cloudwatch = clients("cloudwatch")
    alarms = cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"]
    if not alarms:
        return "is missing"
    if alarms[0]["StateValue"] == "ALARM":
        return f"is in ALARM: {alarms[0]['StateReason']}"
    return _percentile(cloudwatch, alarms[0])


def _percentile(cloudwatch: Any, alarm: Mapping[str, Any]) -> str | None:
    """An alarm on a percentile that its metric does not have would be quiet for ever.

    CloudWatch has percentiles of single values only ("GetMetricStatistics", CloudWatch API Reference), and the guide's
    page on SageMaker's metrics lists none for `ModelLatency`: only traffic in an account can tell.
    """
    percentile = alarm.get("ExtendedStatistic")
    if percentile is None:
        return None
    now = dt.datetime.now(dt.UTC)

    def points(**statistic: list[str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = cloudwatch.get_metric_statistics(
            **{key: alarm[key] for key in ("Namespace", "MetricName", "Dimensions", "Period")},
            StartTime=now - dt.timedelta(hours=_HOURS),
            EndTime=now,
            **statistic,
        )["Datapoints"]
        return found

    count = sum(point["SampleCount"] for point in points(Statistics=["SampleCount"]))
    if not count or any(point.get("ExtendedStatistics") for point in points(ExtendedStatistics=[percentile])):
        return None
    return (
        f"can never go off: {alarm['MetricName']} has {count:g} values of the last {_HOURS} hours, and no {percentile}. "
        "Set serving.alarms.latency_statistic in cdk.json to Maximum, or to Average and multiply the threshold by the "
        "canary's share (the old fleet's answers are in the mean), and deploy"
    )


def _pipeline(clients: Clients, name: str) -> str | None:
    status = clients("sagemaker").describe_pipeline(PipelineName=name)["PipelineStatus"]
    return None if status == "Active" else f"is {status}"


def _endpoint(clients: Clients, arn: str) -> str | None:
    endpoint = clients("sagemaker").describe_endpoint(EndpointName=arn.rsplit("/", 1)[-1])
    status = endpoint["EndpointStatus"]
    return (
        None if status == "InService" else f"is {status}: {endpoint.get('FailureReason', 'no reason given')}"
    )


def _log_group(clients: Clients, name: str) -> str | None:
    groups = clients("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    found = [group for group in groups if group["logGroupName"] == name]
    if not found:
        return "is missing"
    return None if "retentionInDays" in found[0] else "keeps its events for ever"


def _crawler(clients: Clients, name: str) -> str | None:
    last = clients("glue").get_crawler(Name=name)["Crawler"].get("LastCrawl", {})
    return f"failed: {last.get('ErrorMessage', '')}" if last.get("Status") == "FAILED" else None


CHECKS: Mapping[str, Check] = {  # and _topic, which knows the address to look for
    "AWS::S3::Bucket": _bucket,
    "AWS::KMS::Key": _key,
    "AWS::Kinesis::Stream": _stream,
    "AWS::KinesisFirehose::DeliveryStream": _delivery_stream,
    "AWS::Lambda::Function": _function,
    "AWS::Lambda::EventSourceMapping": _event_source_mapping,
    "AWS::CloudWatch::Alarm": _alarm,
    "AWS::SageMaker::Pipeline": _pipeline,
    "AWS::SageMaker::Endpoint": _endpoint,
    "AWS::Logs::LogGroup": _log_group,
    "AWS::Glue::Crawler": _crawler,
}


def findings(clients: Clients, config: Config) -> Iterator[tuple[str, str, str | None]]:
    """(what, physical id, what is wrong or `None`) for every stack, then for every resource that has a check."""
    cloudformation = clients("cloudformation")
    expected = [stack for stack in reversed(aws.STACKS) if stack not in aws.unlisted(config)]
    for name in expected:
        stack = config.stack_name(name)
        # The topics of an option tell results to whoever subscribes, and no person.
        email = None if name in aws.OPTIONS else config.monitoring.alarm_email
        checks: Mapping[str, Check] = {**CHECKS, "AWS::SNS::Topic": functools.partial(_topic, email)}
        description = aws.stack_status(cloudformation, stack)
        if description is None:
            yield "stack", stack, "is not deployed"
            continue
        status = description["StackStatus"]
        yield "stack", stack, None if status in {"CREATE_COMPLETE", "UPDATE_COMPLETE"} else f"is {status}"
        for kind, physical_id in aws.resources(cloudformation, stack):
            check = checks.get(kind)
            if check is None:
                continue
            try:
                yield kind, physical_id, check(clients, physical_id)
            except botocore.exceptions.ClientError as error:
                yield kind, physical_id, f"cannot be read: {error}"


@aws.told()
def main(argv: list[str] | None = None, *, clients: Clients | None = None) -> int:
    """Print one line a check; 1 if anything is wrong."""
    _, config = aws.parse_stage(argparse.ArgumentParser(prog="make verify-aws", description=__doc__), argv)
    wrong = 0
    for what, name, problem in findings(clients or aws.clients(), config):
        wrong += problem is not None
        print(
            f"{'ok   ' if problem is None else 'WRONG'} {what} {name}{'' if problem is None else ' ' + problem}"
        )
    if not config.monitoring.alarm_email:
        print("note  nobody is told of failures: monitoring.alarm_email is empty in cdk.json")
    print(f"\n{wrong} thing(s) wrong." if wrong else "\nAll checks passed.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
