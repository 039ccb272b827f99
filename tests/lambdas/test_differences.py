"""A difference that nobody puts right is told as it is, with what to do; only another version is put back."""

from typing import Any

import pytest

from lambdas import check_rollout, release_model
from tests.lambdas.attempts import attempt
from tests.lambdas.conftest import Context
from tests.lambdas.serving_world import (
    DONE,
    ENDED_AT,
    ENDPOINT,
    World,
    approval_event,
    completion_event,
    failure,
    message,
    package,
    rejection_event,
)

AGAIN_BY_HAND = (
    f"aws sagemaker update-endpoint --endpoint-name {ENDPOINT} --endpoint-config-name EndpointConfig-1 "
    "--retain-deployment-config --retain-all-variant-properties"
)


def told(world: World, result: str = "differs") -> list[dict[str, Any]]:
    return [it for it in world.results if it["result"] == result]


def test_a_rollback_of_a_change_that_is_no_release_is_told_with_what_to_do_and_not_called_mended(
    world: World, context: Context
) -> None:
    world.serving(1).failure_reason = "Alarm AlarmsLatency went off"
    world.redeploy(rolled_back=True)
    assert check_rollout.handler(message(completion_event(token="cdk-1")), context) == DONE
    (said,) = world.results
    assert (said["result"], said["version"], said["running"]) == ("differs", 1, package(1))
    assert (said["stack-status"], said["at"]) == ("UPDATE_COMPLETE", ENDED_AT)
    assert "EndpointConfig-0" in said["reason"]
    assert "Alarm AlarmsLatency went off" in said["reason"]
    assert AGAIN_BY_HAND in said["reason"]
    assert "take the change back and deploy Serving" in said["reason"]
    assert "put right" not in said["reason"]


def test_what_was_told_of_a_difference_is_written_beside_no_version(world: World, context: Context) -> None:
    """The version is in service; what became of its approval stays what it was."""
    world.serving(1).redeploy(rolled_back=True)
    check_rollout.handler(message(completion_event()), context)
    assert (world.metadata, world.updates) == ({}, [])


def test_another_version_is_put_back_and_that_alone_is_said(world: World, context: Context) -> None:
    end = attempt(world.serving(1), context, 2, rolled_back=True)
    check_rollout.handler(message(end), context)
    (said,) = world.results
    assert said["reason"].endswith("the stack is put right")
    assert world.parameters["ModelPackageArn"] == package(1)


def test_an_endpoint_that_was_deleted_by_hand_is_told_with_the_way_back(
    world: World, context: Context
) -> None:
    world.serving(1).running = None
    check_rollout.handler(message(completion_event()), context)
    (said,) = world.results
    assert (said["result"], said["running"]) == ("differs", "")
    assert f"there is no endpoint {ENDPOINT}" in said["reason"]
    assert "make release ARGS=--none, then make release" in said["reason"]


def test_a_version_whose_endpoint_was_deleted_during_its_release_has_not_failed(
    world: World, context: Context
) -> None:
    """Or it could not be released again."""
    end = attempt(world.serving(1), context, 2)
    world.running = None
    check_rollout.handler(message(end), context)
    assert [it["result"] for it in world.results] == ["differs"]
    assert world.metadata == {}


@pytest.mark.parametrize("operation", ["DescribeEndpointConfig", "DescribeModel"])
def test_a_configuration_of_which_nothing_is_left_runs_a_version_that_nobody_knows(
    world: World, context: Context, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    def gone(_: World, asked: dict[str, Any]) -> dict[str, Any]:
        raise failure(operation, f"Could not find it: {asked}", "ValidationException")

    end = attempt(world.serving(1), context, 2, rolled_back=True)
    monkeypatch.setattr(World, f"_{operation}", gone)
    assert check_rollout.handler(message(end), context) == DONE
    assert [it["result"] for it in world.results] == ["rolled back", "differs"]
    for said in world.results:
        assert said["running"] == ""
        assert "put right" not in said["reason"]
    assert "a model of no known version" in told(world)[0]["reason"]
    assert len(world.updates) == 1, "only the release"


def test_a_model_made_by_hand_is_of_no_version_and_is_left_to_the_person_who_made_it(
    world: World, context: Context
) -> None:
    world.serving(1).configs.append("")
    world.running = 1
    world.believed = 0
    check_rollout.handler(message(completion_event()), context)
    (said,) = world.results
    assert (said["result"], said["running"]) == ("differs", "")
    assert "--endpoint-config-name EndpointConfig-0" in said["reason"]
    assert world.updates == []


def test_a_release_of_the_version_that_runs_already_by_another_configuration_is_in_service(
    world: World, context: Context
) -> None:
    """Version 2 was rolled back unseen, then rejected; and so was the configuration that put version 1 back."""
    attempt(world.serving(1), context, 2, rolled_back=True)
    world.packages[package(2)] = "Rejected"
    release_model.handler(message(rejection_event(2)), context)
    world.finish(rolled_back=True)
    end = completion_event(token=world.updates[-1]["ClientRequestToken"])
    check_rollout.handler(message(end), context)
    assert [(it["version"], it["result"]) for it in world.results[1:]] == [(1, "in service"), (1, "differs")]


@pytest.mark.parametrize("deliveries", [1, 3])
def test_putting_back_that_fails_is_not_tried_again_for_ever(
    world: World, context: Context, deliveries: int
) -> None:
    """As when the artifact of the version that runs is gone: each try would end in the next."""
    end = attempt(world.serving(1), context, 2, rolled_back=True)
    check_rollout.handler(message(end), context)
    for _ in range(deliveries):
        repair = world.updates[-1]["ClientRequestToken"]
        assert repair.startswith("repair-")
        if world.status == "UPDATE_IN_PROGRESS":
            world.fail("AWS::SageMaker::Model", "CREATE_FAILED", "Could not find model data")
        ended = completion_event("UPDATE_ROLLBACK_COMPLETE", token=repair)
        assert check_rollout.handler(message(ended), context) == DONE
    assert [it["ClientRequestToken"].split("-")[0] for it in world.updates] == ["release", "repair"]
    said = told(world)[0]
    assert (said["version"], said["running"]) == (2, package(1))
    assert "Could not find model data" in said["reason"]
    rejects = f"update-model-package --model-package-arn {package(2)} --model-approval-status Rejected"
    assert rejects in said["reason"]


def test_what_is_said_of_a_putting_back_that_failed_puts_the_stack_right(
    world: World, context: Context
) -> None:
    end = attempt(world.serving(1), context, 2, rolled_back=True)
    check_rollout.handler(message(end), context)
    world.fail("AWS::SageMaker::Model", "CREATE_FAILED", "Could not find model data")
    token = world.updates[-1]["ClientRequestToken"]
    check_rollout.handler(message(completion_event("UPDATE_ROLLBACK_COMPLETE", token=token)), context)
    world.packages[package(2)] = "Rejected"
    release_model.handler(message(rejection_event(2)), context)
    assert world.parameters["ModelPackageArn"] == package(1)
    world.finish()
    token = world.updates[-1]["ClientRequestToken"]
    check_rollout.handler(message(completion_event(token=token)), context)
    assert world.results[-1]["result"] == "in service"
    assert world.running == world.believed


def test_the_next_release_ends_a_difference(
    world: World, context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    world.serving(1).redeploy(rolled_back=True)
    check_rollout.handler(message(completion_event()), context)
    world.packages[package(2)] = "Approved"
    release_model.handler(message(approval_event(2)), context)
    world.finish()
    capsys.readouterr()
    token = world.updates[-1]["ClientRequestToken"]
    check_rollout.handler(message(completion_event(token=token)), context)
    assert [it["result"] for it in world.results] == ["differs", "in service"]
