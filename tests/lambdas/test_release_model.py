import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from lambdas import clients, registry, release_model, serving_stack
from tests.lambdas.conftest import Context
from tests.lambdas.serving_world import (
    APPROVED_AT,
    ENDED_AT,
    REJECTED_AT,
    ROLE,
    SETTINGS,
    STACK,
    World,
    approval_event,
    failure,
    hourly_event,
    message,
    package,
    rejection_event,
)

AGAIN = {"batchItemFailures": [{"itemIdentifier": "m-1"}]}
DONE: dict[str, Any] = {"batchItemFailures": []}


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(release_model.metrics.provider, "namespace", "flights-sandbox")
    made = World()
    monkeypatch.setattr(clients, "client", made.client)
    return made


def approve(world: World, *versions: int) -> None:
    """As a person does, before the events arrive."""
    world.packages |= {package(version): "Approved" for version in versions}


def unapproved(capture: pytest.CaptureFixture[str]) -> list[float]:
    """The values of the metric that the alarm watches, in the order they were published."""
    printed = [json.loads(line) for line in capture.readouterr().out.splitlines()]
    return [line[release_model.METRIC][0] for line in printed if release_model.METRIC in line]


def test_the_first_approval_tells_the_stack_to_serve_the_model(world: World, context: Context) -> None:
    approve(world, 1)
    assert release_model.handler(message(approval_event(1)), context) == DONE
    assert world.parameters["ModelPackageArn"] == package(1)


def test_an_update_changes_one_parameter_and_passes_the_narrow_role(world: World, context: Context) -> None:
    approve(world.serving(1), 2)
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
    approve(world, 2)
    release_model.handler(message(approval_event(2)), context)
    world.finish()
    assert release_model.handler(message(approval_event(2)), context) == DONE
    assert len(world.updates) == 1


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


def test_an_older_approval_that_comes_late_does_not_replace_a_newer_one(
    world: World, context: Context
) -> None:
    approve(world.serving(3), 2)
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


# --- withdrawing what serves ------------------------------------------------------------------------------------------


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


# --- a failed try is not repeated -------------------------------------------------------------------------------------


@pytest.mark.parametrize("result", sorted(registry.FAILED))
def test_an_approval_that_failed_is_not_tried_again_by_any_event(
    world: World, context: Context, result: str
) -> None:
    """The third lock against a loop: it holds even if a metadata event looked like a new approval."""
    approve(world.serving(1), 2)
    world.metadata[package(2)] = {"rollout": result, "rollout-at": ENDED_AT}
    unlocked = approval_event(2, time=REJECTED_AT)
    del unlocked["detail"]["UpdatedModelPackageFields"]
    assert release_model.handler(message(unlocked), context) == DONE
    assert world.updates == []


def test_writing_the_result_of_what_serves_releases_nothing_even_if_it_looks_like_an_approval(
    world: World, context: Context
) -> None:
    world.serving(1).metadata[package(1)] = {"rollout": "in service", "rollout-at": ENDED_AT}
    unlocked = approval_event(1, time=REJECTED_AT)
    del unlocked["detail"]["UpdatedModelPackageFields"]
    release_model.handler(message(unlocked), context)
    assert (world.updates, world.results) == ([], [])


def test_the_event_of_the_written_result_is_irrelevant_to_the_function() -> None:
    """The second lock; the first is the rule's pattern (tests/stacks/release)."""
    keys = ["CustomerMetadataProperties"]
    trigger = release_model.Trigger.parse(approval_event(1, UpdatedModelPackageFields=keys))
    assert release_model.irrelevant(trigger, trigger.group) == "only metadata changed"


def test_rejected_and_approved_again_it_is_tried_once_more(world: World, context: Context) -> None:
    approve(world.serving(1), 2)
    world.metadata[package(2)] = {"rollout": "rolled back", "rollout-at": ENDED_AT}
    world.packages[package(2)] = "Rejected"
    release_model.handler(message(rejection_event(2)), context)
    assert world.updates == []
    approve(world, 2)
    release_model.handler(message(approval_event(2, time=REJECTED_AT)), context)
    assert world.parameters["ModelPackageArn"] == package(2)


def test_a_rejection_that_comes_after_the_new_approval_starts_the_try(world: World, context: Context) -> None:
    approve(world.serving(1), 2)
    world.metadata[package(2)] = {"rollout": "rolled back", "rollout-at": ENDED_AT}
    release_model.handler(message(approval_event(2, time=REJECTED_AT)), context)
    assert world.updates == []
    release_model.handler(message(rejection_event(2)), context)
    assert world.parameters["ModelPackageArn"] == package(2)


def test_an_old_rejection_that_comes_twice_does_not_excuse_a_later_failure(
    world: World, context: Context
) -> None:
    approve(world.serving(1), 2)
    world.metadata[package(2)] = {"rollout": "rolled back", "rollout-at": ENDED_AT}
    release_model.handler(message(rejection_event(2, time=APPROVED_AT)), context)
    assert world.updates == []


def test_when_the_replacement_failed_the_next_hour_tries_the_one_before_it(
    world: World, context: Context
) -> None:
    approve(world.serving(3), 1, 2)
    world.packages[package(3)] = "Rejected"
    world.metadata[package(2)] = {"rollout": "rolled back", "rollout-at": ENDED_AT}
    release_model.handler(message(hourly_event()), context)
    assert world.parameters["ModelPackageArn"] == package(1)
