"""What would spoil a try is waited for: alarms that ring already, an endpoint that scales, a stack to be put right."""

import pytest

from lambdas import check_rollout, release_model
from lambdas.check_rollout import ENDPOINT_TYPE, IN_PROGRESS
from tests.lambdas.attempts import attempt
from tests.lambdas.conftest import Context
from tests.lambdas.serving_world import (
    AGAIN,
    APPROVED_AT,
    DONE,
    ERRORS_ALARM,
    FOLLOWER,
    REJECTED_AT,
    World,
    approval_event,
    approve,
    completion_event,
    hourly_event,
    message,
    package,
    rejection_event,
)

WAITS = {"rollout": "waiting", "rollout-at": APPROVED_AT, "rollout-reason": "an alarm rings"}


def parameters(world: World) -> tuple[str, str]:
    return world.parameters["ModelPackageArn"], world.parameters["RollbackAlarms"]


def test_an_approval_waits_while_an_alarm_that_would_take_it_back_rings_and_says_so_once(
    world: World, context: Context
) -> None:
    approve(world.serving(1), 2)
    world.alarms[ERRORS_ALARM] = "ALARM"
    for _ in range(2):
        assert release_model.handler(message(approval_event(2)), context) == AGAIN
    assert world.updates == []
    (told,) = world.results
    assert (told["version"], told["result"]) == (2, "waiting")
    assert told["reason"].startswith(f"{ERRORS_ALARM} rings and would take it back")
    world.alarms[ERRORS_ALARM] = "OK"
    assert release_model.handler(message(approval_event(2)), context) == DONE
    assert parameters(world) == (package(2), "on")


def test_an_approval_that_waited_so_long_that_its_event_was_given_up_is_released_once_the_alarm_is_quiet(
    world: World, context: Context
) -> None:
    approve(world.serving(1), 2)
    world.alarms[ERRORS_ALARM] = "ALARM"
    release_model.handler(message(approval_event(2)), context)
    for _ in range(2):
        assert release_model.handler(message(hourly_event()), context) == DONE, "no decision queues behind it"
    assert world.updates == []
    world.alarms[ERRORS_ALARM] = "OK"
    assert release_model.handler(message(hourly_event()), context) == DONE
    assert parameters(world) == (package(2), "on")
    assert [told["result"] for told in world.results] == ["waiting"]


def test_a_version_that_waited_and_then_failed_is_not_tried_again_every_hour(
    world: World, context: Context
) -> None:
    approve(world.serving(1), 2)
    world.alarms[ERRORS_ALARM] = "ALARM"
    release_model.handler(message(approval_event(2)), context)
    world.alarms[ERRORS_ALARM] = "OK"
    release_model.handler(message(hourly_event()), context)
    world.fail(ENDPOINT_TYPE, "UPDATE_FAILED", "an alarm went off", time=REJECTED_AT)
    token = world.updates[-1]["ClientRequestToken"]
    end = completion_event("UPDATE_ROLLBACK_COMPLETE", token=token, time=REJECTED_AT)
    assert release_model.handler(message(hourly_event()), context) == AGAIN, "its result is not written yet"
    check_rollout.handler(message(end), context)
    assert release_model.handler(message(hourly_event()), context) == DONE
    assert len(world.updates) == 1
    assert [told["result"] for told in world.results] == ["waiting", "rolled back"]


@pytest.mark.parametrize("status", ["Approved", "PendingManualApproval"])
def test_a_version_that_waited_replaces_no_newer_one_that_nobody_has_rejected(
    world: World, context: Context, status: str
) -> None:
    approve(world.serving(3), 2)
    world.packages[package(3)] = status
    world.metadata[package(2)] = WAITS
    release_model.handler(message(hourly_event()), context)
    assert world.updates == []


def test_a_version_that_waited_does_not_fill_a_stack_that_serves_nothing(
    world: World, context: Context
) -> None:
    """A person may have emptied it."""
    approve(world, 2)
    world.metadata[package(2)] = WAITS
    release_model.handler(message(hourly_event()), context)
    assert world.updates == []


def test_an_older_version_that_waits_does_not_keep_the_hourly_look_waiting_while_the_stack_is_wrong(
    world: World, context: Context
) -> None:
    attempt(world.serving(1), context, 3, rolled_back=True)
    approve(world, 2)
    world.packages[package(3)] = "PendingManualApproval"
    world.metadata[package(2)] = WAITS
    assert release_model.handler(message(hourly_event()), context) == DONE


def test_a_release_that_met_a_scaling_endpoint_and_then_a_ringing_alarm_waits_for_the_hourly_look(
    world: World, context: Context
) -> None:
    approve(world.serving(1), 2)
    world.metadata[package(2)] = WAITS
    release_model.handler(message(approval_event(2)), context)
    end = completion_event("UPDATE_ROLLBACK_COMPLETE", token=world.updates[-1]["ClientRequestToken"])
    world.fail(ENDPOINT_TYPE, "UPDATE_FAILED", f"{IN_PROGRESS} arn:aws:sagemaker:…:endpoint/flights-sandbox")
    world.alarms[ERRORS_ALARM] = "ALARM"
    for _ in range(2):
        assert check_rollout.handler(message(end), context) == DONE
    assert [told["result"] for told in world.results] == ["waiting"]
    world.alarms[ERRORS_ALARM] = "OK"
    assert release_model.handler(message(hourly_event()), context) == DONE
    assert parameters(world) == (package(2), "on")
    assert len(world.updates) == 2


def test_that_it_waits_is_told_of_a_version_about_which_something_was_written_at_the_same_moment(
    world: World, context: Context
) -> None:
    approve(world.serving(1), 2)
    world.metadata[package(2)] = {
        "rollout": "withdrawn",
        "rollout-at": APPROVED_AT,
        "rollout-reason": "asked for",
    }
    world.alarms[ERRORS_ALARM] = "ALARM"
    for _ in range(2):
        assert release_model.handler(message(approval_event(2)), context) == AGAIN
    assert [told["result"] for told in world.results] == ["waiting"]


def test_rejecting_what_makes_the_alarm_ring_lets_the_waiting_version_replace_it_without_that_alarm(
    world: World, context: Context
) -> None:
    approve(world.serving(1), 2)
    world.alarms[ERRORS_ALARM] = "ALARM"
    release_model.handler(message(approval_event(2)), context)
    world.packages[package(1)] = "Rejected"
    # The rejection stands behind the approval in the queue: the approval itself has to see it.
    assert release_model.handler(message(approval_event(2)), context) == DONE
    assert parameters(world) == (package(2), "off")
    assert world.results[-1]["reason"].endswith(f"without rollback alarms: {ERRORS_ALARM} rings already")


def test_what_replaces_a_withdrawn_version_is_guarded_while_no_alarm_rings(
    world: World, context: Context
) -> None:
    approve(world.serving(2), 1)
    world.packages[package(2)] = "Rejected"
    release_model.handler(message(rejection_event(2)), context)
    assert parameters(world) == (package(1), "on")


def test_the_release_after_an_unguarded_one_is_guarded_again(world: World, context: Context) -> None:
    approve(world.serving(2), 1)
    world.packages[package(2)] = "Rejected"
    world.alarms[ERRORS_ALARM] = "ALARM"
    release_model.handler(message(rejection_event(2)), context)
    world.finish()
    world.alarms[ERRORS_ALARM] = "OK"
    approve(world, 3)
    release_model.handler(message(approval_event(3)), context)
    assert parameters(world) == (package(3), "on")


@pytest.mark.parametrize("status", ["Updating", "SystemUpdating", "RollingBack"])
def test_an_approval_waits_while_the_endpoint_scales(world: World, context: Context, status: str) -> None:
    approve(world.serving(1), 2)
    world.endpoint_status = status
    assert release_model.handler(message(approval_event(2)), context) == AGAIN
    assert (world.updates, world.results) == ([], [])
    world.endpoint_status = "InService"
    assert release_model.handler(message(approval_event(2)), context) == DONE
    assert parameters(world) == (package(2), "on")


def test_a_release_that_met_a_scaling_endpoint_is_tried_again_and_is_no_failure(
    world: World, context: Context
) -> None:
    approve(world.serving(1), 2)
    release_model.handler(message(approval_event(2)), context)
    end = completion_event("UPDATE_ROLLBACK_COMPLETE", token=world.updates[-1]["ClientRequestToken"])
    world.fail(ENDPOINT_TYPE, "UPDATE_FAILED", f"{IN_PROGRESS} arn:aws:sagemaker:…:endpoint/flights-sandbox")
    world.endpoint_status = "Updating"
    assert check_rollout.handler(message(end), context) == AGAIN
    world.endpoint_status = "InService"
    assert check_rollout.handler(message(end), context) == DONE
    assert parameters(world) == (package(2), "on")
    assert world.results == []
    world.finish()
    assert check_rollout.handler(message(end), context) == DONE, "the same end once more"
    assert len(world.updates) == 2


def test_a_version_rejected_meanwhile_is_not_tried_again(world: World, context: Context) -> None:
    approve(world.serving(1), 2)
    release_model.handler(message(approval_event(2)), context)
    end = completion_event("UPDATE_ROLLBACK_COMPLETE", token=world.updates[-1]["ClientRequestToken"])
    world.fail(ENDPOINT_TYPE, "UPDATE_FAILED", f"{IN_PROGRESS} arn:aws:sagemaker:…:endpoint/flights-sandbox")
    world.packages[package(2)] = "Rejected"
    assert check_rollout.handler(message(end), context) == DONE
    assert parameters(world) == (package(1), "on")


def test_a_follower_that_scales_is_told_when_it_has(
    world: World, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLLOWER_STACK_NAMES", f'["{FOLLOWER}"]')
    end = attempt(world.serving(1), context, 2)
    world.followers, world.follower_configs = {FOLLOWER: package(1)}, {FOLLOWER: (7, 7)}
    world.follower_endpoint_status = "Updating"
    assert check_rollout.handler(message(end), context) == AGAIN
    assert world.follower_updates == []
    world.follower_endpoint_status = "InService"
    assert check_rollout.handler(message(end), context) == DONE
    assert world.followers == {FOLLOWER: package(2)}


def test_an_older_approval_waits_until_a_newer_one_that_was_taken_back_unseen_is_out_of_the_stack(
    world: World, context: Context
) -> None:
    end = attempt(world.serving(1), context, 3, rolled_back=True)
    approve(world, 2)
    assert release_model.handler(message(approval_event(2)), context) == AGAIN
    check_rollout.handler(message(end), context)
    world.finish()
    assert release_model.handler(message(approval_event(2)), context) == DONE
    assert parameters(world) == (package(2), "on")


@pytest.mark.parametrize("first", ["release", "check"])
def test_what_was_rejected_during_its_own_rollout_ends_as_withdrawn_whoever_sees_the_end_first(
    world: World, context: Context, monkeypatch: pytest.MonkeyPatch, first: str
) -> None:
    monkeypatch.setenv("FOLLOWER_STACK_NAMES", f'["{FOLLOWER}"]')
    world.followers = {FOLLOWER: package(1)}
    end = message(attempt(world.serving(1), context, 2))
    world.packages[package(2)] = "Rejected"
    rejection = message(rejection_event(2, time=APPROVED_AT))
    order = [(release_model.handler, rejection), (check_rollout.handler, end)]
    for handler, event in order if first == "release" else order[::-1]:
        handler(event, context)
    assert parameters(world) == (package(1), "on")
    assert [told["result"] for told in world.results] == ["withdrawn"]
    assert world.metadata[package(2)]["rollout"] == "withdrawn"
    assert world.followers == {FOLLOWER: package(1)}
