"""What serves is rejected, deleted or ordered away, and what then serves is told."""

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lambdas import release_model
from tests.lambdas.conftest import Context
from tests.lambdas.serving_world import (
    AGAIN,
    APPROVED_AT,
    DONE,
    ENDED_AT,
    World,
    approval_event,
    approve,
    failure,
    hourly_event,
    message,
    package,
    rejection_event,
)


def unapproved(capture: pytest.CaptureFixture[str]) -> list[float]:
    """The values of the metric that the alarm watches, in the order they were published."""
    printed = [json.loads(line) for line in capture.readouterr().out.splitlines()]
    return [line[release_model.METRIC][0] for line in printed if release_model.METRIC in line]


def test_rejecting_what_serves_brings_the_newest_approved_version_back_and_says_so(
    world: World, context: Context
) -> None:
    approve(world.serving(3), 1, 2)
    world.packages[package(3)] = "Rejected"
    assert release_model.handler(message(rejection_event(3)), context) == DONE
    assert world.parameters["ModelPackageArn"] == package(2)
    (told,) = world.results
    assert (told["package"], told["version"], told["result"]) == (package(3), 3, "withdrawn")
    assert told["reason"] == "rejected while in service: version 2 takes its place"
    assert world.metadata[package(3)]["rollout"] == "withdrawn"


def test_rejecting_what_serves_without_another_leaves_it_in_service_and_says_once_what_to_do(
    world: World, context: Context
) -> None:
    world.serving(1).packages[package(1)] = "Rejected"
    for _ in range(2):
        assert release_model.handler(message(rejection_event(1)), context) == DONE
    assert world.updates == []
    (told,) = world.results
    assert told["running"] == package(1)
    assert "nothing approved takes its place" in told["reason"]
    assert "make release ARGS=--none" in told["reason"]


def test_a_replacement_that_has_to_wait_is_told_once_and_comes(
    world: World, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def throttle(_: World, asked: dict[str, Any]) -> dict[str, Any]:
        raise failure("UpdateStack", "Rate exceeded", "Throttling")

    approve(world.serving(2), 1)
    world.packages[package(2)] = "Rejected"
    with monkeypatch.context() as patched:
        patched.setattr(World, "_UpdateStack", throttle)
        assert release_model.handler(message(rejection_event(2)), context) == AGAIN
    assert release_model.handler(message(rejection_event(2)), context) == DONE
    assert world.parameters["ModelPackageArn"] == package(1)
    assert len(world.results) == 1


@pytest.mark.filterwarnings("ignore:No application metrics")
def test_a_rejection_that_could_not_be_told_is_told_at_the_next_try(
    world: World, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: World, asked: dict[str, Any]) -> dict[str, Any]:
        raise failure("PutEvents", "try again", "InternalException")

    approve(world.serving(2), 1)
    world.packages[package(2)] = "Rejected"
    with monkeypatch.context() as patched:
        patched.setattr(World, "_PutEvents", refuse)
        with pytest.raises(ClientError, match="try again"):
            release_model.handler(message(rejection_event(2)), context)
    assert world.updates == []
    release_model.handler(message(rejection_event(2)), context)
    assert [told["result"] for told in world.results] == ["withdrawn"]
    assert world.parameters["ModelPackageArn"] == package(1)


def test_rejecting_during_its_own_rollout_waits_for_the_end_and_is_told(
    world: World, context: Context
) -> None:
    approve(world.serving(1), 2)
    release_model.handler(message(approval_event(2)), context)
    world.packages[package(2)] = "Rejected"
    rejection = rejection_event(2, time=APPROVED_AT)
    assert release_model.handler(message(rejection), context) == AGAIN
    world.finish()
    world.metadata[package(2)] = {"rollout": "in service", "rollout-at": ENDED_AT}
    assert release_model.handler(message(rejection), context) == DONE
    assert world.parameters["ModelPackageArn"] == package(1)
    assert [told["result"] for told in world.results] == ["withdrawn"]


def test_rejecting_a_version_that_does_not_serve_changes_nothing(world: World, context: Context) -> None:
    approve(world.serving(2), 1)
    world.packages[package(1)] = "Rejected"
    assert release_model.handler(message(rejection_event(1)), context) == DONE
    assert (world.updates, world.results, world.metadata) == ([], [], {})


def test_approving_again_what_was_rejected_and_still_serves_is_told(world: World, context: Context) -> None:
    world.serving(1).packages[package(1)] = "Rejected"
    release_model.handler(message(rejection_event(1)), context)
    approve(world, 1)
    release_model.handler(message(approval_event(1, time="2026-11-22T20:00:00Z")), context)
    assert [told["result"] for told in world.results] == ["withdrawn", "in service"]
    assert world.updates == []


def test_the_hourly_check_finds_what_was_deleted_while_it_serves(
    world: World, context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    approve(world.serving(2), 1)
    del world.packages[package(2)]
    assert release_model.handler(message(hourly_event()), context) == DONE
    assert world.parameters["ModelPackageArn"] == package(1)
    assert world.results[0]["reason"] == "deleted while in service: version 1 takes its place"
    assert unapproved(capsys) == [0]


def test_what_was_deleted_and_has_no_replacement_serves_on_and_raises_the_alarm(
    world: World, context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    world.serving(1)
    release_model.handler(message(hourly_event()), context)
    del world.packages[package(1)]
    release_model.handler(message(hourly_event()), context)
    assert unapproved(capsys) == [0, 1]
    assert (world.updates, world.results) == ([], [])


def test_the_hourly_check_neither_restores_nor_upgrades(world: World, context: Context) -> None:
    approve(world, 1)
    release_model.handler(message(hourly_event()), context)
    approve(world.serving(1), 2)
    release_model.handler(message(hourly_event()), context)
    assert world.updates == []


def test_an_order_to_serve_nothing_empties_the_parameter(world: World, context: Context) -> None:
    world.serving(1)
    order = {"id": "o-1", "time": APPROVED_AT, "detail-type": release_model.SERVE_NOTHING, "detail": {}}
    assert release_model.handler(message(order), context) == DONE
    assert world.parameters["ModelPackageArn"] == ""
    assert world.updates[0]["ClientRequestToken"] == "empty-o-1"


def test_an_approval_while_serving_is_not_deployed_says_what_to_do(
    world: World, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    approve(world, 1)
    monkeypatch.setenv("SERVING_STACK_NAME", "another")
    assert release_model.handler(message(approval_event(1)), context) == DONE
    (told,) = world.results
    assert told["reason"] == "another does not exist. Deploy it, then: make release"
    assert world.metadata == {}, "it has not failed: nothing keeps it from being released later"
