"""What the Release template promises: who may update Serving, how, and that no event is lost."""

import copy
import dataclasses
import fnmatch
from typing import Any

import pytest

from lambdas import check_rollout, release_model, rollout_result
from stacks import config
from tests.lambdas.serving_world import approval_event, completion_event
from tests.support.events import matches
from tests.support.intrinsics import Resolver
from tools.assembly import Assembly, Template, context

FUNCTIONS = {"release_model": "Approvals", "check_rollout": "Rollouts"}


@pytest.fixture
def release(each_assembly: Assembly) -> Template:
    return each_assembly.template("Release")


@pytest.fixture
def stage(each_assembly: Assembly) -> config.Config:
    return config.load(context(each_assembly.stage))


def statements(template: Template, function: str) -> list[dict[str, Any]]:
    (properties,) = [
        resource["Properties"]
        for resource in template.resources("AWS::Lambda::Function").values()
        if resource["Properties"]["Handler"] == f"lambdas.{function}.handler"
    ]
    role = properties["Role"]["Fn::GetAtt"][0]
    return [
        statement
        for policy in template.resources("AWS::IAM::Policy").values()
        if {"Ref": role} in policy["Properties"]["Roles"]
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]
    ]


def actions(statement: dict[str, Any]) -> list[str]:
    found = statement["Action"]
    return [found] if isinstance(found, str) else found


def allowing(template: Template, function: str, action: str) -> list[dict[str, Any]]:
    return [item for item in statements(template, function) if action in actions(item)]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_update_is_refused_without_the_narrow_role(release: Template, function: str) -> None:
    (update,) = allowing(release, function, "cloudformation:UpdateStack")
    assert (
        "ServingUpdateRole"
        in update["Condition"]["StringEquals"]["cloudformation:RoleArn"]["Fn::ImportValue"]
    )
    assert update["Resource"]["Fn::Join"][1][-1].endswith("-serving/*"), "and of this one stack only"


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_narrow_role_may_be_passed_to_cloudformation_only(release: Template, function: str) -> None:
    (passing,) = allowing(release, function, "iam:PassRole")
    assert "ServingUpdateRole" in passing["Resource"]["Fn::ImportValue"]
    assert passing["Condition"] == {"StringEquals": {"iam:PassedToService": "cloudformation.amazonaws.com"}}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_queue_is_read_with_what_lambda_needs_and_no_more(release: Template, function: str) -> None:
    allowed = {action for statement in statements(release, function) for action in actions(statement)}
    assert {action for action in allowed if action.startswith(("sqs:", "kms:"))} == {
        "sqs:ReceiveMessage",
        "sqs:DeleteMessage",
        "sqs:GetQueueAttributes",
        "kms:Decrypt",
    }


@pytest.mark.parametrize("function", FUNCTIONS)
def test_the_functions_change_nothing_but_the_stack_and_tell_what_became_of_it(
    release: Template, function: str
) -> None:
    allowed = {action for statement in statements(release, function) for action in actions(statement)}
    changing = {
        action
        for action in allowed
        if not fnmatch.fnmatch(action.split(":")[1], "Describe*")
        and action.split(":")[0] not in {"logs", "xray", "sqs", "kms", "ec2"}
    }
    assert changing - {"sagemaker:ListModelPackages"} == {
        "cloudformation:UpdateStack",
        "iam:PassRole",
        "sagemaker:UpdateModelPackage",
        "events:PutEvents",
    }


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_may_write_beside_a_version_and_never_approve_one(
    release: Template, stage: config.Config, function: str
) -> None:
    (write,) = allowing(release, function, "sagemaker:UpdateModelPackage")
    assert write["Condition"] == {"Null": {"sagemaker:ModelApprovalStatus": "true"}}
    assert write["Resource"]["Fn::Join"][1][-1].endswith(f":model-package/{stage.prefix}/*")


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_may_tell_results_under_our_source_only(
    release: Template, stage: config.Config, function: str
) -> None:
    (tell,) = allowing(release, function, "events:PutEvents")
    assert tell["Resource"]["Fn::Join"][1][-1].endswith(":event-bus/default")
    said = {"events:source": f"{stage.prefix}.release", "events:detail-type": rollout_result.DETAIL_TYPE}
    assert tell["Condition"] == {"StringEquals": said}
    assert _environment(release, function)["RESULT_SOURCE"] == said["events:source"]
    assert not said["events:source"].startswith("aws."), "EventBridge keeps these for AWS"


@pytest.mark.parametrize("status", ["Approved", "Rejected"])
def test_decisions_about_our_group_reach_the_function_and_others_do_not(
    release: Template, stage: config.Config, status: str
) -> None:
    pattern = _pattern(release, "ApprovalsEventsRule")
    decided = approval_event(1, ModelPackageGroupName=stage.prefix, ModelApprovalStatus=status)
    assert matches(pattern, decided)
    assert matches(pattern, _changed(decided, UpdatedModelPackageFields=["ModelApprovalStatus", "ModelCard"]))
    assert not matches(pattern, _changed(decided, ModelPackageGroupName="another"))
    assert not matches(pattern, _changed(decided, ModelApprovalStatus="PendingManualApproval"))
    registered = _changed(decided)
    del registered["detail"]["UpdatedModelPackageFields"]
    assert matches(pattern, registered)


def test_the_event_of_a_written_result_does_not_reach_the_function(
    release: Template, stage: config.Config
) -> None:
    """The first lock against a loop; the others are the function's (tests/lambdas/test_failed_tries.py)."""
    written = approval_event(
        1, ModelPackageGroupName=stage.prefix, UpdatedModelPackageFields=["CustomerMetadataProperties"]
    )
    assert not matches(_pattern(release, "ApprovalsEventsRule"), written)


def _changed(event: dict[str, Any], **detail: Any) -> dict[str, Any]:
    return {**event, "detail": {**event["detail"], **detail}}


def test_what_serves_is_looked_at_once_an_hour(release: Template) -> None:
    hourly = _rule(release, "ApprovalsEventsHourly")
    assert hourly["ScheduleExpression"] == "rate(1 hour)"
    assert "Input" not in hourly["Targets"][0], "the event's own id and time are read"
    assert hourly["Targets"] == _rule(release, "ApprovalsEventsRule")["Targets"], "behind the approvals"


@pytest.mark.parametrize(
    ("status", "checked"),
    [
        ("CREATE_COMPLETE", True),
        ("UPDATE_COMPLETE", True),
        ("UPDATE_ROLLBACK_COMPLETE", True),
        ("UPDATE_ROLLBACK_FAILED", True),
        ("UPDATE_IN_PROGRESS", False),
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", False),
    ],
)
def test_every_completion_of_serving_is_checked(
    each_assembly: Assembly, status: str, *, checked: bool
) -> None:
    release = each_assembly.template("Release")
    pattern = _pattern(release, "RolloutsEventsRule")
    (prefix,) = Resolver(each_assembly, release).strings(pattern["detail"]["stack-id"][0]["prefix"])
    pattern["detail"]["stack-id"] = [{"prefix": prefix}]
    assert prefix.endswith(f":stack/flights-{each_assembly.stage}-serving/")
    event = completion_event(status)
    event["detail"]["stack-id"] = f"{prefix}d0a825a0"
    assert matches(pattern, event) is checked
    event["detail"]["stack-id"] = f"{prefix[:-1]}-two/d0a825a0"
    assert not matches(pattern, event)


def _rule(release: Template, part: str) -> dict[str, Any]:
    (found,) = [
        rule["Properties"]
        for name, rule in release.resources("AWS::Events::Rule").items()
        if name.startswith(part)
    ]
    properties: dict[str, Any] = found
    return properties


def _pattern(release: Template, part: str) -> dict[str, Any]:
    return copy.deepcopy(_rule(release, part)["EventPattern"])


@pytest.mark.parametrize("part", FUNCTIONS.values())
def test_events_wait_in_one_ordered_group_without_repetition(release: Template, part: str) -> None:
    (target,) = _rule(release, f"{part}EventsRule")["Targets"]
    queue = release.resources()[target["Arn"]["Fn::GetAtt"][0]]["Properties"]
    assert queue["FifoQueue"] is True
    assert queue["ContentBasedDeduplication"] is True, "EventBridge sends no deduplication id"
    assert target["SqsParameters"] == {"MessageGroupId": "serving"}


@pytest.mark.parametrize("part", FUNCTIONS.values())
def test_what_cannot_be_delivered_or_handled_is_kept(release: Template, part: str) -> None:
    (target,) = _rule(release, f"{part}EventsRule")["Targets"]
    undelivered = release.resources()[target["DeadLetterConfig"]["Arn"]["Fn::GetAtt"][0]]["Properties"]
    assert "FifoQueue" not in undelivered, "EventBridge takes no FIFO queue for dead letters"
    queue = release.resources()[target["Arn"]["Fn::GetAtt"][0]]["Properties"]
    given_up = queue["RedrivePolicy"]["deadLetterTargetArn"]["Fn::GetAtt"][0]
    assert release.resources()[given_up]["Properties"]["FifoQueue"] is True


@pytest.mark.parametrize("part", FUNCTIONS.values())
def test_the_queue_outlasts_the_longest_rollout(release: Template, stage: config.Config, part: str) -> None:
    (target,) = _rule(release, f"{part}EventsRule")["Targets"]
    queue = release.resources()[target["Arn"]["Fn::GetAtt"][0]]["Properties"]
    waits = queue["VisibilityTimeout"] * queue["RedrivePolicy"]["maxReceiveCount"]
    assert 2 * stage.serving.rollout.timeout_seconds <= waits < queue["MessageRetentionPeriod"]
    assert queue["RedrivePolicy"]["maxReceiveCount"] <= 1_000
    timeouts = {f["Properties"]["Timeout"] for f in release.resources("AWS::Lambda::Function").values()}
    assert queue["VisibilityTimeout"] == 6 * max(timeouts)


def test_a_function_is_given_one_event_at_a_time_and_may_hand_it_back(release: Template) -> None:
    mappings = [m["Properties"] for m in release.resources("AWS::Lambda::EventSourceMapping").values()]
    assert [(m["BatchSize"], m["FunctionResponseTypes"]) for m in mappings] == [
        (1, ["ReportBatchItemFailures"]),
        (1, ["ReportBatchItemFailures"]),
    ]


def test_only_its_own_rules_may_send_to_a_queue(release: Template) -> None:
    for policy in release.resources("AWS::SQS::QueuePolicy").values():
        for statement in policy["Properties"]["PolicyDocument"]["Statement"]:
            if statement["Effect"] == "Allow":
                source = statement["Condition"]["ArnEquals"]["aws:SourceArn"]["Fn::GetAtt"][0]
                assert release.resources()[source]["Type"] == "AWS::Events::Rule"
                assert statement["Principal"] == {"Service": "events.amazonaws.com"}


@pytest.mark.parametrize(
    ("module", "id", "period", "missing"),
    [
        (check_rollout, "RolloutsDifference", 300, "notBreaching"),
        # One count an hour: an hour without one changes nothing, or the alarm would be told every hour.
        (release_model, "ApprovalsUnapproved", 3600, "ignore"),
    ],
)
def test_an_alarm_watches_the_metric_that_the_function_publishes(
    release: Template, stage: config.Config, module: Any, id: str, period: int, missing: str
) -> None:
    (alarm,) = [
        item["Properties"]
        for name, item in release.resources("AWS::CloudWatch::Alarm").items()
        if name.startswith(id)
    ]
    function = _environment(release, module.__name__.split(".")[1])
    assert alarm["MetricName"] == module.METRIC
    assert alarm["Namespace"] == function["POWERTOOLS_METRICS_NAMESPACE"] == stage.prefix
    assert alarm["Dimensions"] == [{"Name": "service", "Value": function["POWERTOOLS_SERVICE_NAME"]}]
    assert (alarm["Threshold"], alarm["EvaluationPeriods"], alarm["Period"]) == (1, 1, period)
    assert alarm["TreatMissingData"] == missing


def _environment(release: Template, function: str) -> dict[str, str]:
    (variables,) = [
        item["Properties"]["Environment"]["Variables"]
        for item in release.resources("AWS::Lambda::Function").values()
        if item["Properties"]["Handler"] == f"lambdas.{function}.handler"
    ]
    found: dict[str, str] = variables
    return found


def test_the_check_reads_the_alarms_of_serving_and_why_its_updates_failed(
    release: Template, stage: config.Config
) -> None:
    (alarms,) = allowing(release, "check_rollout", "cloudwatch:DescribeAlarms")
    assert alarms["Resource"]["Fn::Join"][1][-1].endswith(f":alarm:{stage.prefix}-serving-*")
    (events,) = allowing(release, "check_rollout", "cloudformation:DescribeStackEvents")
    assert events["Resource"]["Fn::Join"][1][-1].endswith(f":stack/{stage.prefix}-serving/*")


def test_make_release_finds_the_queue_of_approvals(release: Template) -> None:
    output = release.json["Outputs"]["ApprovalsQueueUrl"]
    assert output["Value"]["Ref"].startswith("ApprovalsEventsQueue")


@pytest.mark.parametrize("module", [release_model, check_rollout])
def test_every_setting_of_the_functions_is_in_their_environment(release: Template, module: Any) -> None:
    variables = _environment(release, module.__name__.split(".")[1])
    assert {field.name.upper() for field in dataclasses.fields(module.Settings)} <= set(variables)
