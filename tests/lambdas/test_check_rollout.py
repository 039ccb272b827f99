"""What the endpoint runs beside what the stack believes: a difference is counted, and put right where that can be."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lambdas import check_rollout, difference, release_model
from tests.lambdas.attempts import attempt
from tests.lambdas.conftest import Context
from tests.lambdas.serving_world import (
    AGAIN,
    DONE,
    ERRORS_ALARM,
    ROLE,
    STACK,
    World,
    approval_event,
    completion_event,
    failure,
    message,
    package,
)


def differences(capture: pytest.CaptureFixture[str]) -> list[float]:
    """The values of the metric that the alarm watches, in the order they were published."""
    printed = [json.loads(line) for line in capture.readouterr().out.splitlines()]
    return [line[check_rollout.METRIC][0] for line in printed if check_rollout.METRIC in line]


def test_a_rollout_that_arrived_is_no_difference(
    world: World, context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    world.serving(1)
    assert check_rollout.handler(message(completion_event()), context) == DONE
    assert differences(capsys) == [0]
    assert world.updates == []


def test_after_an_automatic_rollback_the_parameter_is_put_back_and_then_there_is_peace(
    world: World, context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    world.serving(1).packages[package(2)] = "Approved"
    release_model.handler(message(approval_event(2)), context)
    world.finish(rolled_back=True)
    assert check_rollout.handler(message(completion_event()), context) == DONE
    assert world.parameters["ModelPackageArn"] == package(1)
    assert world.updates[-1]["RoleARN"] == ROLE
    world.finish()
    assert check_rollout.handler(message(completion_event()), context) == DONE
    assert differences(capsys) == [1, 0]
    assert len(world.updates) == 2


def test_a_put_back_that_is_rolled_back_too_alarms_and_does_not_loop(
    world: World, context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    world.serving(1).parameters["ModelPackageArn"] = package(2)
    world.finish(rolled_back=True)
    check_rollout.handler(message(completion_event()), context)
    world.finish(rolled_back=True)
    check_rollout.handler(message(completion_event()), context)
    check_rollout.handler(message(completion_event()), context)
    assert differences(capsys) == [1, 1, 1]
    assert world.attempts == 1


def test_a_stack_without_a_model_believes_nothing(
    world: World, context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check_rollout.handler(message(completion_event("CREATE_COMPLETE")), context) == DONE
    world.configs, world.running = [package(1)], 0  # made by hand
    assert check_rollout.handler(message(completion_event("CREATE_COMPLETE")), context) == DONE
    assert differences(capsys) == [0, 0]


def test_an_endpoint_deleted_by_hand_alarms_and_nothing_is_put_back(
    world: World, context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    world.serving(1).running = None
    assert check_rollout.handler(message(completion_event()), context) == DONE
    assert differences(capsys) == [1]
    assert world.updates == []


@pytest.mark.parametrize("status", sorted(difference.UNSETTLED))
def test_an_endpoint_that_is_changing_is_looked_at_again_later(
    world: World, context: Context, status: str
) -> None:
    world.serving(1).endpoint_status = status
    assert check_rollout.handler(message(completion_event()), context) == AGAIN


def test_a_newer_update_is_left_to_its_own_check(
    world: World, context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    world.serving(1).running = None
    world.status = "UPDATE_IN_PROGRESS"
    assert check_rollout.handler(message(completion_event()), context) == DONE
    assert differences(capsys) == [0]


def test_a_stack_that_becomes_busy_is_looked_at_again_later(
    world: World, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.serving(1).parameters["ModelPackageArn"] = package(2)
    world.finish(rolled_back=True)

    def refuse(_: World, asked: dict[str, Any]) -> dict[str, Any]:
        raise failure("UpdateStack", f"Stack:{STACK} is in UPDATE_IN_PROGRESS state and can not be updated.")

    monkeypatch.setattr(World, "_UpdateStack", refuse)
    assert check_rollout.handler(message(completion_event()), context) == AGAIN


@pytest.mark.filterwarnings("ignore:No application metrics")
def test_missing_permissions_are_an_error_of_the_function(
    world: World, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(_: World, asked: dict[str, Any]) -> dict[str, Any]:
        raise failure("DescribeEndpoint", "not authorized", "AccessDeniedException")

    monkeypatch.setattr(World, "_DescribeEndpoint", deny)
    with pytest.raises(ClientError, match="not authorized"):
        check_rollout.handler(message(completion_event()), context)


def test_the_stack_is_put_right_only_when_no_alarm_would_roll_that_back_too(
    world: World, context: Context
) -> None:
    end = attempt(world.serving(1), context, 2, rolled_back=True)
    world.alarms[ERRORS_ALARM] = "ALARM"
    assert check_rollout.handler(message(end), context) == AGAIN
    assert world.parameters["ModelPackageArn"] == package(2)
    world.alarms[ERRORS_ALARM] = "INSUFFICIENT_DATA"
    assert check_rollout.handler(message(end), context) == DONE
    assert world.parameters["ModelPackageArn"] == package(1)
    assert len(world.results) == 1, "told at the first look, not at every one"


def test_a_stack_that_was_deleted_meanwhile_is_no_error(
    world: World, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVING_STACK_NAME", "deleted")
    assert check_rollout.handler(message(completion_event()), context) == DONE
