"""Which version an approval puts in service, whichever event comes."""

from typing import Any

import pytest

from lambdas import release_model, serving_stack
from tests.lambdas.conftest import Context
from tests.lambdas.serving_world import (
    DONE,
    ENDED_AT,
    ROLE,
    World,
    approval_event,
    approve,
    message,
    package,
)


def test_the_first_approval_tells_the_stack_to_serve_the_model(world: World, context: Context) -> None:
    approve(world, 1)
    assert release_model.handler(message(approval_event(1)), context) == DONE
    assert world.parameters["ModelPackageArn"] == package(1)


def test_an_update_changes_the_version_alone_under_its_alarms_and_passes_the_narrow_role(
    world: World, context: Context
) -> None:
    approve(world.serving(1), 2)
    release_model.handler(message(approval_event(2)), context)
    (update,) = world.updates
    assert update["UsePreviousTemplate"] is True
    assert update["RoleARN"] == ROLE
    assert update["Parameters"] == [
        {"ParameterKey": "BootstrapVersion", "UsePreviousValue": True},
        {"ParameterKey": "Kept", "UsePreviousValue": True},
        {"ParameterKey": "ModelPackageArn", "ParameterValue": package(2)},
        {"ParameterKey": "RollbackAlarms", "ParameterValue": "on"},
    ]
    assert "Capabilities" not in update, "there is no IAM in Serving to be capable of"
    assert world.parameters["Kept"] == "as it is"


def test_the_same_approval_twice_is_one_release(world: World, context: Context) -> None:
    approve(world, 2)
    release_model.handler(message(approval_event(2)), context)
    world.finish()
    assert release_model.handler(message(approval_event(2)), context) == DONE
    assert len(world.updates) == 1


def test_an_older_approval_that_comes_late_does_not_replace_a_newer_one(
    world: World, context: Context
) -> None:
    approve(world.serving(3), 2)
    assert release_model.handler(message(approval_event(2)), context) == DONE
    assert world.updates == []


def test_a_late_approval_does_not_downgrade_what_serves_and_was_set_back_to_pending(
    world: World, context: Context
) -> None:
    """Nobody has rejected it."""
    approve(world.serving(3), 2)
    world.packages[package(3)] = "PendingManualApproval"
    assert release_model.handler(message(approval_event(2)), context) == DONE
    assert world.updates == []


def test_what_serves_and_is_approved_is_not_replaced_by_an_older_version_though_a_release_of_it_failed(
    world: World, context: Context
) -> None:
    """As when a person has told the stack to serve it after all."""
    approve(world.serving(3), 2)
    world.metadata[package(3)] = {"rollout": "stuck", "rollout-at": ENDED_AT}
    assert release_model.handler(message(approval_event(2)), context) == DONE
    assert world.updates == []


def test_a_hundredth_version_is_newer_than_the_ninth(world: World, context: Context) -> None:
    world.serving(9).packages[package(100)] = "Approved"
    release_model.handler(message(approval_event(100)), context)
    assert world.parameters["ModelPackageArn"] == package(100)


def test_after_the_newer_version_is_rejected_the_older_may_come_back(world: World, context: Context) -> None:
    approve(world.serving(3), 2)
    world.packages[package(3)] = "Rejected"
    release_model.handler(message(approval_event(2)), context)
    assert world.parameters["ModelPackageArn"] == package(2)


def test_after_the_newer_version_is_deleted_the_older_may_come_back(world: World, context: Context) -> None:
    approve(world.serving(3), 2)
    del world.packages[package(3)]
    release_model.handler(message(approval_event(2)), context)
    assert world.parameters["ModelPackageArn"] == package(2)


def test_an_approval_withdrawn_before_its_event_arrives_is_not_released(
    world: World, context: Context
) -> None:
    world.packages[package(2)] = "Rejected"
    assert release_model.handler(message(approval_event(2)), context) == DONE
    assert world.updates == []


def test_a_package_approved_when_it_is_registered_is_released(world: World, context: Context) -> None:
    approve(world, 1)
    event = approval_event(1)
    del event["detail"]["UpdatedModelPackageFields"]
    release_model.handler(message(event), context)
    assert world.parameters["ModelPackageArn"] == package(1)


@pytest.mark.parametrize(
    "detail",
    [
        {"ModelApprovalStatus": "PendingManualApproval"},
        {"UpdatedModelPackageFields": ["ApprovalDescription", "CustomerMetadataProperties"]},
        {"ModelPackageGroupName": "another-group"},
    ],
    ids=lambda detail: "-".join(map(str, detail.values())),
)
def test_an_event_that_approves_nothing_of_ours_changes_nothing(
    world: World, context: Context, detail: dict[str, Any]
) -> None:
    approve(world, 1)
    assert release_model.handler(message(approval_event(1, **detail)), context) == DONE
    assert world.updates == []


def test_a_package_without_a_group_is_none_of_ours(world: World, context: Context) -> None:
    approve(world, 1)
    event = approval_event(1)
    del event["detail"]["ModelPackageGroupName"]
    assert release_model.handler(message(event), context) == DONE
    assert world.updates == []


def test_a_model_of_a_former_group_is_replaced_whatever_its_version(world: World, context: Context) -> None:
    world.parameters["ModelPackageArn"] = package(77, "former")
    world.packages[package(77, "former")] = "Approved"
    approve(world, 1)
    release_model.handler(message(approval_event(1)), context)
    assert world.parameters["ModelPackageArn"] == package(1)


def test_the_update_carries_the_version_in_its_token(world: World, context: Context) -> None:
    approve(world, 12)
    event = approval_event(12)
    release_model.handler(message(event), context)
    (update,) = world.updates
    assert update["ClientRequestToken"] == f"release-12-{event['id']}"
    assert serving_stack.released_version(update["ClientRequestToken"]) == 12


def test_of_two_approved_versions_the_newer_serves_whichever_event_comes(
    world: World, context: Context
) -> None:
    approve(world.serving(1), 2, 3)
    release_model.handler(message(approval_event(2)), context)
    assert world.parameters["ModelPackageArn"] == package(3)


def test_an_approval_that_the_listing_does_not_know_yet_is_released(
    world: World, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    approve(world, 1)
    monkeypatch.setattr(World, "_ListModelPackages", lambda *_: {"ModelPackageSummaryList": []})
    release_model.handler(message(approval_event(1)), context)
    assert world.parameters["ModelPackageArn"] == package(1)
