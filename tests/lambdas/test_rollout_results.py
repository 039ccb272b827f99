"""What became of an approval is told once, and written beside the version."""

import pytest

from lambdas import check_rollout, release_model
from tests.lambdas.attempts import attempt, fails
from tests.lambdas.conftest import Context
from tests.lambdas.serving_world import (
    AGAIN,
    APPROVED_AT,
    DONE,
    ENDED_AT,
    HOURLY_AT,
    STACK,
    World,
    approval_event,
    approve,
    completion_event,
    message,
    package,
    rejection_event,
)


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
            "reason": "it took over the endpoint",
            "running": package(2),
            "stack-status": "UPDATE_COMPLETE",
            "at": ENDED_AT,
        }
    ]
    assert world.metadata == {
        package(2): {
            "rollout": "in service",
            "rollout-at": ENDED_AT,
            "rollout-reason": "it took over the endpoint",
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
        {
            "ResourceType": kind,
            "ResourceStatus": "UPDATE_FAILED",
            "ClientRequestToken": "release-2-before",
            "Timestamp": APPROVED_AT,
        }
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


@pytest.mark.parametrize("rolled_back", [False, True])
def test_an_end_that_comes_again_after_a_rejection_that_waited_for_it_takes_nothing_back(
    world: World, context: Context, *, rolled_back: bool
) -> None:
    """Both count from the same moment, and the rejection came after."""
    approve(world.serving(1), 2)
    release_model.handler(message(approval_event(2)), context)
    world.packages[package(2)] = "Rejected"
    rejection = rejection_event(2, time=APPROVED_AT)
    assert release_model.handler(message(rejection), context) == AGAIN
    status = "UPDATE_COMPLETE"
    if rolled_back:
        status = "UPDATE_ROLLBACK_COMPLETE"
        world.fail("AWS::SageMaker::Endpoint", "UPDATE_FAILED", "alarm")
    else:
        world.packages[package(1)] = "Rejected"  # nothing takes its place
        world.finish()
    end = completion_event(status, token=world.updates[-1]["ClientRequestToken"])
    check_rollout.handler(message(end), context)
    release_model.handler(message(rejection), context)
    told = list(world.results)
    assert world.metadata[package(2)]["rollout"] == "withdrawn"
    check_rollout.handler(message(end), context)
    assert (world.results, world.metadata[package(2)]["rollout"]) == (told, "withdrawn")
