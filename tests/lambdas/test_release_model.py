from typing import Any

import pytest
from botocore.exceptions import ClientError

from lambdas import clients, release_model, serving_stack
from tests.lambdas.conftest import Context
from tests.lambdas.serving_world import (
    GROUP,
    ROLE,
    STACK,
    World,
    approval_event,
    failure,
    message,
    package,
)

AGAIN = {"batchItemFailures": [{"itemIdentifier": "m-1"}]}
DONE: dict[str, Any] = {"batchItemFailures": []}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setenv("SERVING_STACK_NAME", STACK)
    monkeypatch.setenv("SERVING_UPDATE_ROLE_ARN", ROLE)
    monkeypatch.setenv("MODEL_PACKAGE_GROUP_NAME", GROUP)
    monkeypatch.setattr(release_model.metrics.provider, "namespace", "flights-sandbox")
    made = World(packages={package(version): "Approved" for version in range(1, 6)})
    monkeypatch.setattr(clients, "client", made.client)
    return made


def test_the_first_approval_tells_the_stack_to_serve_the_model(world: World, context: Context) -> None:
    assert release_model.handler(message(approval_event(1)), context) == DONE
    assert world.parameters["ModelPackageArn"] == package(1)


def test_an_update_changes_one_parameter_and_passes_the_narrow_role(world: World, context: Context) -> None:
    world.serving(1)
    release_model.handler(message(approval_event(2)), context)
    (update,) = world.updates
    assert update["UsePreviousTemplate"] is True
    assert update["RoleARN"] == ROLE
    assert update["Parameters"] == [
        {"ParameterKey": "ModelPackageArn", "ParameterValue": package(2)},
        {"ParameterKey": "BootstrapVersion", "UsePreviousValue": True},
        {"ParameterKey": "Kept", "UsePreviousValue": True},
    ]
    assert "Capabilities" not in update, "there is no IAM in Serving to be capable of"
    assert world.parameters["Kept"] == "as it is"


def test_the_same_approval_twice_is_one_release(world: World, context: Context) -> None:
    release_model.handler(message(approval_event(2)), context)
    world.finish()
    assert release_model.handler(message(approval_event(2)), context) == DONE
    assert len(world.updates) == 1


def test_an_approval_during_a_rollout_waits_in_the_queue(world: World, context: Context) -> None:
    release_model.handler(message(approval_event(1)), context)
    assert release_model.handler(message(approval_event(2)), context) == AGAIN
    world.finish()
    assert release_model.handler(message(approval_event(2)), context) == DONE
    assert world.parameters["ModelPackageArn"] == package(2)


def test_an_older_approval_during_a_rollout_waits_to_see_whether_it_is_rolled_back(
    world: World, context: Context
) -> None:
    world.serving(1)
    release_model.handler(message(approval_event(3)), context)
    assert release_model.handler(message(approval_event(2)), context) == AGAIN


def test_an_older_approval_that_comes_late_does_not_replace_a_newer_one(
    world: World, context: Context
) -> None:
    world.serving(3)
    assert release_model.handler(message(approval_event(2)), context) == DONE
    assert world.updates == []


def test_a_hundredth_version_is_newer_than_the_ninth(world: World, context: Context) -> None:
    world.serving(9).packages[package(100)] = "Approved"
    release_model.handler(message(approval_event(100)), context)
    assert world.parameters["ModelPackageArn"] == package(100)


def test_after_the_newer_version_is_rejected_the_older_may_come_back(world: World, context: Context) -> None:
    world.serving(3).packages[package(3)] = "Rejected"
    release_model.handler(message(approval_event(2)), context)
    assert world.parameters["ModelPackageArn"] == package(2)


def test_after_the_newer_version_is_deleted_the_older_may_come_back(world: World, context: Context) -> None:
    del world.serving(3).packages[package(3)]
    release_model.handler(message(approval_event(2)), context)
    assert world.parameters["ModelPackageArn"] == package(2)


def test_an_approval_withdrawn_before_its_event_arrives_is_not_released(
    world: World, context: Context
) -> None:
    world.packages[package(2)] = "Rejected"
    assert release_model.handler(message(approval_event(2)), context) == DONE
    assert world.updates == []


def test_a_package_approved_when_it_is_registered_is_released(world: World, context: Context) -> None:
    event = approval_event(1)
    del event["detail"]["UpdatedModelPackageFields"]
    release_model.handler(message(event), context)
    assert world.parameters["ModelPackageArn"] == package(1)


@pytest.mark.parametrize(
    "detail",
    [
        {"ModelApprovalStatus": "PendingManualApproval"},
        {"ModelApprovalStatus": "Rejected"},
        {"UpdatedModelPackageFields": ["ApprovalDescription", "CustomerMetadataProperties"]},
        {"ModelPackageGroupName": "another-group"},
    ],
    ids=lambda detail: "-".join(map(str, detail.values())),
)
def test_an_event_that_approves_nothing_of_ours_changes_nothing(
    world: World, context: Context, detail: dict[str, Any]
) -> None:
    assert release_model.handler(message(approval_event(1, **detail)), context) == DONE
    assert world.updates == []


def test_a_package_without_a_group_is_none_of_ours(world: World, context: Context) -> None:
    event = approval_event(1)
    del event["detail"]["ModelPackageGroupName"]
    assert release_model.handler(message(event), context) == DONE
    assert world.updates == []


def test_a_model_of_a_former_group_is_replaced_whatever_its_version(world: World, context: Context) -> None:
    world.parameters["ModelPackageArn"] = package(77, "former")
    world.packages[package(77, "former")] = "Approved"
    release_model.handler(message(approval_event(1)), context)
    assert world.parameters["ModelPackageArn"] == package(1)


def test_a_stack_that_becomes_busy_between_two_calls_is_waited_for(
    world: World, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = failure("UpdateStack", f"Stack:{STACK} is in UPDATE_IN_PROGRESS state and can not be updated.")

    def refuse(_: World, asked: dict[str, Any]) -> dict[str, Any]:
        raise busy

    monkeypatch.setattr(World, "_UpdateStack", refuse)
    assert release_model.handler(message(approval_event(1)), context) == AGAIN


def test_serving_what_is_served_already_is_success(world: World) -> None:
    cloudformation = world.serving(1).client("cloudformation")
    stack = serving_stack.read(cloudformation, STACK)
    serving_stack.serve(cloudformation, stack, model_package=package(1), role=ROLE, token="t-1")
    assert (world.attempts, world.updates) == (1, [])


@pytest.mark.filterwarnings("ignore:No application metrics")
def test_a_stack_that_cannot_be_updated_is_an_error_of_the_function(world: World, context: Context) -> None:
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

    monkeypatch.setattr(World, f"_{operation}", deny)
    with pytest.raises(ClientError, match="not authorized"):
        release_model.handler(message(approval_event(1)), context)
