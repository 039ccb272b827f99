"""A stage that lists options: their stacks follow Serving, and only what they need is added."""

import copy
import json
from typing import Any

import aws_cdk as cdk
import pytest

from stacks import config as configuration
from stacks.foundation.stack import Foundation
from stacks.release.followers import follower_stack_names
from stacks.release.stack import Release
from tests.lambdas.serving_world import completion_event
from tests.support.events import matches
from tools.assembly import context

FOLLOWS = "flights-sandbox-serverless"
HERE = {"AWS::Region": "eu-west-1", "AWS::AccountId": "123456789012", "AWS::Partition": "aws"}


def reads_endpoints(template: dict[str, Any]) -> set[str]:
    """The endpoints that a function of the stack may describe."""
    statements = [
        statement
        for policy in of_type(template, "AWS::IAM::Policy").values()
        for statement in policy["PolicyDocument"]["Statement"]
        if statement["Action"] == "sagemaker:DescribeEndpoint"
    ]
    resources = [
        arn
        for it in statements
        for arn in ([it["Resource"]] if isinstance(it["Resource"], dict) else it["Resource"])
    ]
    return {arn["Fn::Join"][1][-1].split(":endpoint/")[1] for arn in resources}


def template_of(**changes: Any) -> dict[str, Any]:
    """Release's template of a sandbox with these changes of its configuration."""
    config = configuration.load(context("sandbox")).model_copy(update=changes)
    app = cdk.App(context=context("sandbox"))
    foundation = Foundation(app, "Foundation", config=config)
    Release(app, "Release", config=config, foundation=foundation)
    template: dict[str, Any] = app.synth().get_stack_by_name("flights-sandbox-release").template
    return template


@pytest.fixture(scope="module")
def release() -> dict[str, Any]:
    return template_of(options=["serverless"])


def of_type(release: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    return {
        name: found["Properties"] for name, found in release["Resources"].items() if found["Type"] == kind
    }


def test_a_stage_without_options_has_no_followers() -> None:
    assert follower_stack_names(configuration.load(context("production"))) == []


def test_the_check_knows_the_stacks_that_follow_and_may_update_them_with_the_same_role(
    release: dict[str, Any],
) -> None:
    functions = of_type(release, "AWS::Lambda::Function")
    (check,) = [it for it in functions.values() if it["Handler"] == "lambdas.check_rollout.handler"]
    assert json.loads(check["Environment"]["Variables"]["FOLLOWER_STACK_NAMES"]) == [FOLLOWS]
    updates = {
        name: [
            json.dumps(statement)
            for statement in policy["PolicyDocument"]["Statement"]
            if statement["Action"] == "cloudformation:UpdateStack"
        ]
        for name, policy in of_type(release, "AWS::IAM::Policy").items()
    }
    may = {name.partition("Function")[0] for name, found in updates.items() if FOLLOWS in "".join(found)}
    assert may == {"RolloutsCheck"}, "and not the function that releases"
    (statement,) = next(found for found in updates.values() if FOLLOWS in "".join(found))
    assert "cloudformation:RoleArn" in statement


@pytest.mark.parametrize(
    ("stack", "status", "heard"),
    [
        ("flights-sandbox-serving", "UPDATE_ROLLBACK_FAILED", True),
        (FOLLOWS, "CREATE_COMPLETE", True),
        (FOLLOWS, "UPDATE_COMPLETE", True),
        (FOLLOWS, "UPDATE_ROLLBACK_COMPLETE", False),  # told again at once, it would fail for ever
        ("flights-sandbox-asynchronous", "CREATE_COMPLETE", False),
    ],
)
def test_the_end_of_a_followers_update_is_heard_unless_it_failed(
    release: dict[str, Any], stack: str, status: str, *, heard: bool
) -> None:
    (rule,) = [
        it
        for name, it in of_type(release, "AWS::Events::Rule").items()
        if name.startswith("RolloutsEventsRule")
    ]
    pattern = copy.deepcopy(rule["EventPattern"])
    for prefix in (prefix for ends in pattern["detail"]["$or"] for prefix in ends["stack-id"]):
        parts = prefix["prefix"]["Fn::Join"][1]
        prefix["prefix"] = "".join(part if isinstance(part, str) else HERE[part["Ref"]] for part in parts)
    assert matches(pattern, completion_event(status, stack=stack)) is heard


def test_the_check_sees_the_endpoints_of_the_listed_options_and_no_other(release: dict[str, Any]) -> None:
    assert reads_endpoints(release) == {"flights-sandbox", "flights-sandbox-serverless"}


@pytest.mark.parametrize(
    ("options", "longest"), [(["serverless", "asynchronous"], 7200), (["serverless"], 3600)]
)
def test_the_check_outlasts_the_longest_rollout_that_it_may_wait_for(
    options: list[str], longest: int
) -> None:
    config = configuration.load(context("sandbox"))
    assert config.serving.rollout.timeout_seconds == 3600
    rollout = config.asynchronous.rollout.model_copy(update={"timeout_seconds": 7200})
    template = template_of(
        options=options, asynchronous=config.asynchronous.model_copy(update={"rollout": rollout})
    )
    waits = {
        name: queue["VisibilityTimeout"] * queue["RedrivePolicy"]["maxReceiveCount"]
        for name, queue in of_type(template, "AWS::SQS::Queue").items()
        if "RedrivePolicy" in queue
    }
    (check,) = [wait for name, wait in waits.items() if name.startswith("RolloutsEventsQueue")]
    (approvals,) = [wait for name, wait in waits.items() if name.startswith("ApprovalsEventsQueue")]
    assert 2 * longest <= check < 2 * longest + 360
    assert 2 * 3600 <= approvals < 2 * 3600 + 360, "a release waits for Serving alone"
