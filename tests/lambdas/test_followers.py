"""The stacks that follow Serving are told the version that a rollout accepted."""

import json

import pytest

from lambdas import check_rollout
from tests.lambdas.attempts import attempt
from tests.lambdas.conftest import Context
from tests.lambdas.serving_world import (
    AGAIN,
    DONE,
    FOLLOWER,
    ROLE,
    World,
    completion_event,
    message,
    package,
)


@pytest.fixture
def followed(world: World, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("FOLLOWER_STACK_NAMES", json.dumps(["not-deployed", FOLLOWER]))
    world.followers = {FOLLOWER: ""}
    return world.serving(1)


def test_a_version_in_service_is_passed_on_to_the_stacks_that_follow(
    followed: World, context: Context
) -> None:
    assert check_rollout.handler(message(completion_event()), context) == DONE
    assert followed.followers == {FOLLOWER: package(1)}
    (update,) = followed.follower_updates
    assert (update["RoleARN"], update["UsePreviousTemplate"]) == (ROLE, True)
    assert update["ClientRequestToken"].startswith("follow-")


def test_a_follower_that_serves_the_version_already_is_left_alone(followed: World, context: Context) -> None:
    check_rollout.handler(message(completion_event()), context)
    check_rollout.handler(message(completion_event(stack=FOLLOWER)), context)
    assert len(followed.follower_updates) == 1


def test_a_follower_that_is_busy_is_told_later(followed: World, context: Context) -> None:
    followed.follower_statuses[FOLLOWER] = "UPDATE_IN_PROGRESS"
    assert check_rollout.handler(message(completion_event()), context) == AGAIN
    followed.follower_statuses[FOLLOWER] = "UPDATE_COMPLETE"
    assert check_rollout.handler(message(completion_event()), context) == DONE
    assert followed.followers == {FOLLOWER: package(1)}


def test_while_one_follower_is_busy_the_others_are_told(
    followed: World, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FOLLOWER_STACK_NAMES", json.dumps([FOLLOWER, "flights-sandbox-batch"]))
    followed.followers["flights-sandbox-batch"] = ""
    followed.follower_statuses[FOLLOWER] = "UPDATE_IN_PROGRESS"
    assert check_rollout.handler(message(completion_event()), context) == AGAIN
    assert followed.followers == {FOLLOWER: "", "flights-sandbox-batch": package(1)}


@pytest.mark.parametrize(
    "status",
    ["REVIEW_IN_PROGRESS", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "UPDATE_ROLLBACK_FAILED", "DELETE_FAILED"],
)
def test_a_follower_that_takes_no_update_keeps_nobody_waiting(
    followed: World, context: Context, status: str
) -> None:
    """Its own failure was told; it is told the version when it has ended well once more."""
    followed.follower_statuses[FOLLOWER] = status
    assert check_rollout.handler(message(completion_event()), context) == DONE
    assert followed.followers == {FOLLOWER: ""}


def test_a_version_that_was_rolled_back_is_not_passed_on(followed: World, context: Context) -> None:
    followed.followers[FOLLOWER] = package(1)
    end = attempt(followed, context, 2, rolled_back=True)
    check_rollout.handler(message(end), context)
    assert followed.follower_updates == []


@pytest.mark.parametrize(("token", "follows"), [("", package(1)), ("empty-1", "")])
def test_followers_serve_nothing_only_if_that_was_ordered(
    followed: World, context: Context, token: str, follows: str
) -> None:
    followed.followers[FOLLOWER] = package(1)
    followed.parameters["ModelPackageArn"], followed.believed, followed.running = "", None, None
    check_rollout.handler(message(completion_event(token=token)), context)
    assert followed.followers == {FOLLOWER: follows}


def differs(world: World) -> list[str]:
    return [it["reason"] for it in world.results if it["result"] == "differs"]


def test_a_rollout_of_a_follower_that_was_rolled_back_unseen_is_told_and_counted_and_not_put_back(
    followed: World, context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    """The version has proved itself in Serving; put back, the follower would be told it again, for ever."""
    followed.followers[FOLLOWER] = package(1)
    followed.configs = [package(0), package(1)]
    followed.believed = followed.running = 1
    followed.follower_configs[FOLLOWER] = (1, 0)
    end = completion_event(stack=FOLLOWER, token="follow-1")
    assert check_rollout.handler(message(end), context) == DONE
    (reason,) = differs(followed)
    assert f"the endpoint {FOLLOWER}-endpoint runs EndpointConfig-0 ({package(0)})" in reason
    assert f"{FOLLOWER} believes that it runs EndpointConfig-1 ({package(1)})" in reason
    assert (
        f"aws sagemaker update-endpoint --endpoint-name {FOLLOWER}-endpoint --endpoint-config-name "
        "EndpointConfig-1" in reason
    )
    assert (followed.updates, followed.follower_updates) == ([], [])
    (counted,) = [json.loads(line) for line in capsys.readouterr().out.splitlines() if "_aws" in line]
    assert counted[check_rollout.METRIC] == [1]


def test_a_follower_that_runs_what_its_stack_believes_is_no_difference(
    followed: World, context: Context
) -> None:
    followed.followers[FOLLOWER] = package(1)
    followed.follower_configs[FOLLOWER] = (0, 0)
    end = completion_event(stack=FOLLOWER, token="follow-1")
    assert check_rollout.handler(message(end), context) == DONE
    assert differs(followed) == []


def test_a_follower_is_compared_when_it_has_been_told_and_not_before(
    followed: World, context: Context
) -> None:
    followed.follower_configs[FOLLOWER] = (0, None)
    assert check_rollout.handler(message(completion_event()), context) == DONE
    assert differs(followed) == []
    assert check_rollout.handler(message(completion_event(stack=FOLLOWER)), context) == DONE
    (reason,) = differs(followed)
    assert f"there is no endpoint {FOLLOWER}-endpoint" in reason


def test_a_difference_of_a_follower_is_told_once_though_another_keeps_the_check_waiting(
    followed: World, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = "flights-sandbox-batch"
    monkeypatch.setenv("FOLLOWER_STACK_NAMES", json.dumps([FOLLOWER, busy]))
    followed.followers |= {FOLLOWER: package(1), busy: ""}
    followed.follower_configs[FOLLOWER] = (0, None)
    followed.follower_statuses[busy] = "UPDATE_IN_PROGRESS"
    for _ in range(3):
        assert check_rollout.handler(message(completion_event()), context) == AGAIN
    del followed.follower_statuses[busy]
    assert check_rollout.handler(message(completion_event()), context) == DONE
    assert len(differs(followed)) == 1
