import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lambdas import check_rollout, clients, release_model
from tests.lambdas.conftest import Context
from tests.lambdas.serving_world import (
    ENDED_AT,
    ERRORS_ALARM,
    FOLLOWER,
    HOURLY_AT,
    ROLE,
    SETTINGS,
    STACK,
    World,
    approval_event,
    completion_event,
    failure,
    message,
    package,
)

AGAIN = {"batchItemFailures": [{"itemIdentifier": "m-1"}]}
DONE: dict[str, Any] = {"batchItemFailures": []}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    for module in (check_rollout, release_model):
        monkeypatch.setattr(module.metrics.provider, "namespace", "flights-sandbox")
    made = World()
    monkeypatch.setattr(clients, "client", made.client)
    return made


def differences(capture: pytest.CaptureFixture[str]) -> list[float]:
    """The values of the metric that the alarm watches, in the order they were published."""
    printed = [json.loads(line) for line in capture.readouterr().out.splitlines()]
    return [line[check_rollout.METRIC][0] for line in printed if check_rollout.METRIC in line]


def attempt(world: World, context: Context, version: int, **ending: bool) -> dict[str, Any]:
    """An approval whose rollout CloudFormation believes in; gives the event of its end."""
    world.packages[package(version)] = "Approved"
    release_model.handler(message(approval_event(version)), context)
    world.finish(**ending)
    return completion_event(token=world.updates[-1]["ClientRequestToken"])


def fails(world: World, context: Context, kind: str, status: str, reason: str) -> dict[str, Any]:
    """An approval of version 2 that CloudFormation takes back; gives the event of its end."""
    world.packages[package(2)] = "Approved"
    release_model.handler(message(approval_event(2)), context)
    world.fail(kind, status, reason)
    return completion_event("UPDATE_ROLLBACK_COMPLETE", token=world.updates[-1]["ClientRequestToken"])


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


@pytest.mark.parametrize("status", sorted(check_rollout.UNSETTLED))
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


# --- what became of the approval --------------------------------------------------------------------------------------


def test_a_rollout_that_arrived_is_told_and_written_beside_the_version(
    world: World, context: Context
) -> None:
    end = attempt(world.serving(1), context, 2)
    check_rollout.handler(message(end), context)
    assert world.results == [
        {
            "package": package(2),
            "version": 2,
            "result": "in service",
            "reason": "the endpoint runs it",
            "running": package(2),
            "stack-status": "UPDATE_COMPLETE",
            "at": ENDED_AT,
        }
    ]
    assert world.metadata == {
        package(2): {
            "rollout": "in service",
            "rollout-at": ENDED_AT,
            "rollout-reason": "the endpoint runs it",
        }
    }


def test_an_end_that_comes_twice_is_told_once(world: World, context: Context) -> None:
    end = attempt(world.serving(1), context, 2)
    check_rollout.handler(message(end), context)
    check_rollout.handler(message(end), context)
    assert len(world.results) == 1


def test_an_end_that_comes_after_a_later_one_of_the_same_version_is_not_told(
    world: World, context: Context
) -> None:
    end = attempt(world.serving(1), context, 2)
    world.metadata[package(2)] = {"rollout": "in service", "rollout-at": HOURLY_AT}
    check_rollout.handler(message(end), context)
    assert (world.results, world.metadata[package(2)]["rollout-at"]) == ([], HOURLY_AT)


def test_an_end_that_comes_when_another_version_serves_is_left_to_the_end_of_that_one(
    world: World, context: Context
) -> None:
    end = attempt(world.serving(1), context, 2)
    attempt(world, context, 3)
    check_rollout.handler(message(end), context)
    assert (world.results, world.metadata) == ([], {})


@pytest.mark.parametrize("token", ["", "deploy-1", "repair-1", "follow-1", "release-", "release-x-1"])
def test_an_update_that_released_nothing_reports_nothing(world: World, context: Context, token: str) -> None:
    world.serving(1)
    check_rollout.handler(message(completion_event(token=token)), context)
    check_rollout.handler(message(completion_event("UPDATE_ROLLBACK_COMPLETE", token=token)), context)
    assert world.results == []


@pytest.mark.parametrize(
    ("kind", "status", "result"),
    [
        ("AWS::SageMaker::Endpoint", "UPDATE_FAILED", "rolled back"),
        ("AWS::SageMaker::Endpoint", "CREATE_FAILED", "not released"),
        ("AWS::SageMaker::Model", "CREATE_FAILED", "not released"),
    ],
)
def test_a_release_that_was_taken_back_is_told_with_the_first_failure(
    world: World, context: Context, kind: str, status: str, result: str
) -> None:
    world.stack_events = [
        {"ResourceType": kind, "ResourceStatus": "UPDATE_FAILED", "ClientRequestToken": "release-2-before"}
    ]
    why = 'Could not find model data at s3://artifacts/model.tar.gz (404, "gone").'
    end = fails(world.serving(1), context, kind, status, why)
    assert check_rollout.handler(message(end), context) == DONE
    (told,) = world.results
    assert (told["result"], told["reason"], told["version"]) == (result, why, 2)
    assert (told["running"], told["stack-status"]) == (package(1), "UPDATE_ROLLBACK_COMPLETE")
    assert world.metadata[package(2)]["rollout-reason"] == (
        "Could not find model data at s3://artifacts/model.tar.gz 404 gone ."
    )
    assert world.parameters["ModelPackageArn"] == package(1), "the old one serves"


def test_a_failure_is_told_though_the_next_update_is_running(world: World, context: Context) -> None:
    end = fails(world.serving(1), context, "AWS::SageMaker::Model", "CREATE_FAILED", "gone")
    world.status = "UPDATE_IN_PROGRESS"
    assert check_rollout.handler(message(end), context) == DONE
    assert [told["result"] for told in world.results] == ["not released"]


def test_an_approval_that_failed_is_not_tried_again_when_its_event_comes_again(
    world: World, context: Context
) -> None:
    end = fails(world.serving(1), context, "AWS::SageMaker::Model", "CREATE_FAILED", "gone")
    check_rollout.handler(message(end), context)
    release_model.handler(message(approval_event(2)), context)
    assert len(world.updates) == 1


@pytest.mark.parametrize(
    ("reason", "written"), [("\u274c" * 300, "no reason given"), ("long " * 99, ("long " * 52)[:256].strip())]
)
def test_whatever_the_reason_the_registry_takes_what_is_written(
    world: World, context: Context, reason: str, written: str
) -> None:
    end = fails(world.serving(1), context, "AWS::SageMaker::Model", "CREATE_FAILED", reason)
    check_rollout.handler(message(end), context)
    assert world.metadata[package(2)]["rollout-reason"] == written


def test_an_automatic_rollback_that_cloudformation_missed_is_told_with_the_endpoints_reason(
    world: World, context: Context
) -> None:
    world.serving(1).failure_reason = "Alarm AlarmsErrors went off"
    end = attempt(world, context, 2, rolled_back=True)
    check_rollout.handler(message(end), context)
    (told,) = world.results
    assert (told["result"], told["running"]) == ("rolled back", package(1))
    assert told["reason"].startswith("Alarm AlarmsErrors went off. CloudFormation took it for a success")


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


def test_a_stack_that_could_not_be_rolled_back_is_told_with_its_remedy(
    world: World, context: Context
) -> None:
    end = fails(world.serving(1), context, "AWS::SageMaker::Endpoint", "UPDATE_FAILED", "alarm")
    world.status = end["detail"]["status-details"]["status"] = "UPDATE_ROLLBACK_FAILED"
    assert check_rollout.handler(message(end), context) == DONE
    (told,) = world.results
    assert told["result"] == "stuck"
    assert f"aws cloudformation continue-update-rollback --stack-name {STACK}" in told["reason"]
    assert told["reason"].endswith("It began with: alarm")


def test_a_version_deleted_during_its_rollout_is_told_and_takes_no_metadata(
    world: World, context: Context
) -> None:
    end = attempt(world.serving(1), context, 2)
    del world.packages[package(2)]
    check_rollout.handler(message(end), context)
    assert [told["result"] for told in world.results] == ["in service"]
    assert world.metadata == {}


@pytest.mark.filterwarnings("ignore:No application metrics")
def test_a_result_that_the_bus_refuses_is_an_error_of_the_function_and_is_told_later(
    world: World, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = attempt(world.serving(1), context, 2)
    refused = {"FailedEntryCount": 1, "Entries": [{"ErrorCode": "InternalFailure", "ErrorMessage": "busy"}]}
    with monkeypatch.context() as patched:
        patched.setattr(World, "_PutEvents", lambda *_: refused)
        with pytest.raises(RuntimeError, match="EventBridge refused the result: busy"):
            check_rollout.handler(message(end), context)
    assert world.metadata == {}
    check_rollout.handler(message(end), context)
    assert len(world.results) == 1


def test_a_stack_that_was_deleted_meanwhile_is_no_error(
    world: World, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVING_STACK_NAME", "deleted")
    assert check_rollout.handler(message(completion_event()), context) == DONE


# --- who follows ------------------------------------------------------------------------------------------------------


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
    followed.follower_status = "UPDATE_IN_PROGRESS"
    assert check_rollout.handler(message(completion_event()), context) == AGAIN
    followed.follower_status = "UPDATE_COMPLETE"
    assert check_rollout.handler(message(completion_event()), context) == DONE
    assert followed.followers == {FOLLOWER: package(1)}


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
