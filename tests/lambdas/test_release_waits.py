"""A release waits its turn while the stack changes; what does not pass by itself is an error."""

from typing import Any

import pytest
from botocore.exceptions import ClientError

from lambdas import release_model, serving_stack
from tests.lambdas.conftest import Context
from tests.lambdas.serving_world import (
    AGAIN,
    DONE,
    ROLE,
    STACK,
    World,
    approval_event,
    approve,
    failure,
    message,
    package,
)


def test_an_approval_during_a_rollout_waits_in_the_queue(world: World, context: Context) -> None:
    approve(world, 1)
    release_model.handler(message(approval_event(1)), context)
    approve(world, 2)
    assert release_model.handler(message(approval_event(2)), context) == AGAIN
    world.finish()
    assert release_model.handler(message(approval_event(2)), context) == DONE
    assert world.parameters["ModelPackageArn"] == package(2)


def test_an_older_approval_during_a_rollout_waits_to_see_whether_it_is_rolled_back(
    world: World, context: Context
) -> None:
    approve(world.serving(1), 2, 3)
    release_model.handler(message(approval_event(3)), context)
    assert release_model.handler(message(approval_event(2)), context) == AGAIN


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("ValidationError", f"Stack:{STACK} is in UPDATE_IN_PROGRESS state and can not be updated."),
        ("Throttling", "Rate exceeded"),
        ("ThrottlingException", "Rate exceeded"),
        ("RequestLimitExceeded", "Request limit exceeded."),
    ],
)
@pytest.mark.parametrize("operation", ["DescribeStacks", "UpdateStack"])
def test_a_stack_that_becomes_busy_or_is_asked_too_often_is_waited_for(
    world: World, context: Context, monkeypatch: pytest.MonkeyPatch, operation: str, code: str, said: str
) -> None:
    def refuse(_: World, asked: dict[str, Any]) -> dict[str, Any]:
        raise failure(operation, said, code)

    approve(world, 1)
    with monkeypatch.context() as patched:
        patched.setattr(World, f"_{operation}", refuse)
        assert release_model.handler(message(approval_event(1)), context) == AGAIN
    assert release_model.handler(message(approval_event(1)), context) == DONE
    assert world.parameters["ModelPackageArn"] == package(1)


@pytest.mark.parametrize("status", ["REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED"])
def test_a_stack_that_was_never_created_is_not_waited_for(
    world: World, context: Context, status: str
) -> None:
    """It will take no update, however long the approval waits: a person is told."""
    approve(world, 1)
    world.status = status
    assert release_model.handler(message(approval_event(1)), context) == DONE
    (told,) = world.results
    assert told["result"] == "not released"
    assert told["reason"] == (f"{STACK} has never been created ({status}). Deploy it, then: make release")


def test_serving_what_is_served_already_is_success(world: World) -> None:
    cloudformation = world.serving(1).client("cloudformation")
    stack = serving_stack.read(cloudformation, STACK)
    serving_stack.serve(cloudformation, stack, model_package=package(1), role=ROLE, token="t-1")
    assert (world.attempts, world.updates) == (1, [])


@pytest.mark.filterwarnings("ignore:No application metrics")
def test_a_stack_that_cannot_be_updated_is_an_error_of_the_function(world: World, context: Context) -> None:
    approve(world, 1)
    world.status = "UPDATE_ROLLBACK_FAILED"
    with pytest.raises(ClientError, match="UPDATE_ROLLBACK_FAILED"):
        release_model.handler(message(approval_event(1)), context)


@pytest.mark.filterwarnings("ignore:No application metrics")
@pytest.mark.parametrize("operation", ["DescribeModelPackage", "UpdateStack"])
def test_missing_permissions_are_an_error_of_the_function(
    world: World, context: Context, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    def deny(_: World, asked: dict[str, Any]) -> dict[str, Any]:
        raise failure(operation, "not authorized", "AccessDeniedException")

    approve(world, 1)
    monkeypatch.setattr(World, f"_{operation}", deny)
    with pytest.raises(ClientError, match="not authorized"):
        release_model.handler(message(approval_event(1)), context)
