"""Each failure and each result of an approval is told once, with a sentence; other successes are not."""

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from lambdas import registry
from tests.support.events import matches
from tests.support.intrinsics import Resolver
from tools.assembly import Assembly

Event = dict[str, Any]
HERE = "us-east-1:111122223333"
# Samples as the services document them, cut to what a rule could look at; {} is the stage.
FAILURES: dict[str, tuple[str, str, Event]] = {
    "a record that was given up": (
        "aws.s3",
        "Object Created",
        {"bucket": {"name": "raw"}, "object": {"key": "aws/lambda/0a1b/2026/11/22/x"}},
    ),
    "a record that Firehose could not deliver": (
        "aws.s3",
        "Object Created",
        {"bucket": {"name": "raw"}, "object": {"key": "stream-errors/processing-failed/2026/11/22/x"}},
    ),
    "a failed job": ("aws.glue", "Glue Job State Change", {"jobName": "curatejob", "state": "FAILED"}),
    "a job that took too long": (
        "aws.glue",
        "Glue Job State Change",
        {"jobName": "curatejob", "state": "TIMEOUT"},
    ),
    "a failed quality gate": (
        "aws.glue",
        "Glue Job State Change",
        {"jobName": "qualitygatejob", "state": "FAILED"},
    ),
    "a failed crawler": (
        "aws.glue",
        "Glue Crawler State Change",
        {"crawlerName": "curatedcrawler", "state": "Failed"},
    ),
    "data of bad quality": (
        "aws.glue-dataquality",
        "Data Quality Evaluation Results Available",
        {"state": "FAILED", "context": {"databaseName": "flights_{}"}},
    ),
    "a failed pipeline": (
        "aws.sagemaker",
        "SageMaker Model Building Pipeline Execution Status Change",
        {
            "pipelineArn": f"arn:aws:sagemaker:{HERE}:pipeline/flights-{{}}",
            "currentPipelineExecutionStatus": "Failed",
        },
    ),
    "an endpoint that failed": (
        "aws.sagemaker",
        "SageMaker Endpoint State Change",
        {"EndpointName": "flights-{}", "EndpointStatus": "FAILED"},
    ),
    "an update of Serving that was rolled back": (
        "aws.cloudformation",
        "CloudFormation Stack Status Change",
        {
            "stack-id": f"arn:aws:cloudformation:{HERE}:stack/flights-{{}}-serving/0a1b",
            "status-details": {"status": "UPDATE_ROLLBACK_COMPLETE"},
            "client-request-token": "",
        },
    ),
    "an update without a token that was rolled back": (
        "aws.cloudformation",
        "CloudFormation Stack Status Change",
        {
            "stack-id": f"arn:aws:cloudformation:{HERE}:stack/flights-{{}}-serving/0a1b",
            "status-details": {"status": "UPDATE_ROLLBACK_FAILED"},
        },
    ),
    "a repair that was rolled back": (
        "aws.cloudformation",
        "CloudFormation Stack Status Change",
        {
            "stack-id": f"arn:aws:cloudformation:{HERE}:stack/flights-{{}}-serving/0a1b",
            "status-details": {"status": "UPDATE_ROLLBACK_COMPLETE"},
            "client-request-token": "repair-6a7e8feb",
        },
    ),
    **{
        f"an approval that is {word}": (
            "flights-{}.release",
            "Rollout Result",
            {"result": word, "version": 2},
        )
        for word in (registry.IN_SERVICE, registry.WAITING, registry.WITHDRAWN, *sorted(registry.FAILED))
    },
    "an endpoint that nobody puts right": (
        "flights-{}.release",
        "Rollout Result",
        {"result": registry.DIFFERS, "version": 2},
    ),
    "an alarm of the endpoint": (
        "aws.cloudwatch",
        "CloudWatch Alarm State Change",
        {"alarmName": "flights-{}-serving-AlarmsErrors", "state": {"value": "ALARM"}},
    ),
    "an endpoint that runs another model": (
        "aws.cloudwatch",
        "CloudWatch Alarm State Change",
        {"alarmName": "flights-{}-release-Difference", "state": {"value": "ALARM"}},
    ),
}
# As above, of the options: told where the stage lists them.
OPTIONS: dict[str, tuple[str, str, Event]] = {
    "an asynchronous endpoint that failed": (
        "aws.sagemaker",
        "SageMaker Endpoint State Change",
        {"EndpointName": "flights-{}-async", "EndpointStatus": "FAILED"},
    ),
    "too many asynchronous failures": (
        "aws.cloudwatch",
        "CloudWatch Alarm State Change",
        {"alarmName": "flights-{}-asynchronous-Failures0A1B", "state": {"value": "ALARM"}},
    ),
    "a batch that failed": (
        "aws.sagemaker",
        "SageMaker Transform Job State Change",
        {"TransformJobName": "flights-{}-0a1b2c", "TransformJobStatus": "Failed"},
    ),
}
# Of the options, and quiet: requests that wait start an instance, and that is all.
QUIET_OPTIONS: dict[str, tuple[str, Event]] = {
    "requests that wait": (
        "too many asynchronous failures",
        {"alarmName": "flights-{}-asynchronous-ScalingWaiting0A1B"},
    ),
    "a batch that is done": ("a batch that failed", {"TransformJobStatus": "Completed"}),
    "a batch of somebody else": ("a batch that failed", {"TransformJobName": "other"}),
}
# What changes in a sample above, and must keep it quiet.
QUIET: dict[str, tuple[str, Event]] = {
    "an upload": ("a record that was given up", {"object": {"key": "batch/flights.csv"}}),
    "a record that was refused": (
        "a record that was given up",
        {"object": {"key": "quarantine/date=2026-11-22/shardId-0-1.jsonl"}},
    ),
    "another bucket": ("a record that was given up", {"bucket": {"name": "somebody-elses"}}),
    "a job that succeeded": ("a failed job", {"state": "SUCCEEDED"}),
    "another job": ("a failed job", {"jobName": "somebody-elses"}),
    "a crawler that succeeded": ("a failed crawler", {"state": "Succeeded"}),
    "data of good quality": ("data of bad quality", {"state": "SUCCEEDED"}),
    "a pipeline that succeeded": ("a failed pipeline", {"currentPipelineExecutionStatus": "Succeeded"}),
    "another pipeline": ("a failed pipeline", {"pipelineArn": f"arn:aws:sagemaker:{HERE}:pipeline/other"}),
    "an endpoint in service": ("an endpoint that failed", {"EndpointStatus": "IN_SERVICE"}),
    "another endpoint": ("an endpoint that failed", {"EndpointName": "other"}),
    "a rollout that is being rolled back, which its result tells": (
        "an endpoint that failed",
        {"EndpointStatus": "ROLLING_BACK"},
    ),
    "a release that was taken back, which its result tells": (
        "an update of Serving that was rolled back",
        {"client-request-token": "release-2-6a7e8feb"},
    ),
    "a word of nobody": ("an approval that is stuck", {"result": "fine"}),
    "a rollout that succeeded": (
        "an update of Serving that was rolled back",
        {"status-details": {"status": "UPDATE_COMPLETE"}},
    ),
    "an alarm that is over": ("an alarm of the endpoint", {"state": {"value": "OK"}}),
    "an alarm of somebody else": ("an alarm of the endpoint", {"alarmName": "other"}),
}


def _resolve(resolver: Resolver, node: Any) -> Any:
    if isinstance(node, bool):
        return node
    if isinstance(node, list):
        return [_resolve(resolver, item) for item in node]
    if isinstance(node, dict) and not any(key == "Ref" or key.startswith("Fn::") for key in node):
        return {key: _resolve(resolver, value) for key, value in node.items()}
    return resolver.strings(node)[0]


def _rules(assembly: Assembly) -> dict[str, dict[str, Any]]:
    """Rules by logical id, patterns resolved; sample names lose the hash that CDK appends."""
    template = assembly.template("Monitoring")
    resolver = Resolver(assembly, template)

    def plain(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: plain(value) for key, value in node.items()}
        if isinstance(node, list):
            return [plain(item) for item in node]
        return _without_hash(node) if isinstance(node, str) else node

    return {
        name: {
            **found["Properties"],
            "EventPattern": plain(_resolve(resolver, found["Properties"]["EventPattern"])),
        }
        for name, found in template.resources("AWS::Events::Rule").items()
    }


def _without_hash(name: str) -> str:
    return re.sub(r"^([a-z]+?)[0-9a-f]{8}$", r"\1", name)


def _event(sample: tuple[str, str, Event], stage: str) -> Event:
    source, detail_type, detail = sample
    return {
        "source": source.replace("{}", stage),
        "detail-type": detail_type,
        "detail": json.loads(json.dumps(detail).replace("{}", stage)),
    }


def _told(assembly: Assembly, event: Event) -> list[str]:
    return [name for name, rule in _rules(assembly).items() if matches(rule["EventPattern"], event)]


@pytest.mark.parametrize("failure", FAILURES)
def test_a_failure_is_told_once(each_assembly: Assembly, failure: str) -> None:
    assert len(_told(each_assembly, _event(FAILURES[failure], each_assembly.stage))) == 1


@pytest.mark.parametrize("quiet", QUIET)
def test_what_is_no_failure_of_ours_is_not_told(each_assembly: Assembly, quiet: str) -> None:
    failure, change = QUIET[quiet]
    event = _event(FAILURES[failure], each_assembly.stage)
    event["detail"] |= change
    assert _told(each_assembly, event) == []


@pytest.mark.parametrize("failure", OPTIONS)
def test_a_failure_of_an_option_is_told_once_where_it_is_listed(
    each_assembly: Assembly, complete: Callable[[str], Assembly], failure: str
) -> None:
    event = _event(OPTIONS[failure], each_assembly.stage)
    assert _told(each_assembly, event) == []
    assert len(_told(complete(each_assembly.stage), event)) == 1


@pytest.mark.parametrize("quiet", QUIET_OPTIONS)
def test_what_is_no_failure_of_an_option_is_not_told(each_complete: Assembly, quiet: str) -> None:
    failure, change = QUIET_OPTIONS[quiet]
    source, detail_type, detail = OPTIONS[failure]
    event = _event((source, detail_type, detail | change), each_complete.stage)
    assert _told(each_complete, event) == []


def test_every_rule_is_tried_here(every_assembly: Assembly) -> None:
    tried = {
        name
        for sample in (*FAILURES.values(), *OPTIONS.values())
        for name in _told(every_assembly, _event(sample, every_assembly.stage))
    }
    assert tried == _rules(every_assembly).keys()


def test_a_rule_tells_the_topic_what_happened_when_and_the_details(each_assembly: Assembly) -> None:
    (topic,) = each_assembly.template("Monitoring").resources("AWS::SNS::Topic")
    for rule in _rules(each_assembly).values():
        (target,) = rule["Targets"]
        assert target["Arn"] == {"Ref": topic}
        text = json.loads(target["InputTransformer"]["InputTemplate"])
        assert text == f"{rule['Description']}\n\n<time>\n<detail>"
        assert set(target["InputTransformer"]["InputPathsMap"]) == {"time", "detail"}


def test_another_deployments_results_are_not_told_here(each_assembly: Assembly) -> None:
    sample = ("another-{}.release", "Rollout Result", {"result": "stuck"})
    assert _told(each_assembly, _event(sample, each_assembly.stage)) == []
