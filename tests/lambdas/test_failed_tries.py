"""A version that failed is not tried again by itself, and nothing that is written beside it starts a release."""

import pytest

from lambdas import registry, release_model
from tests.lambdas.conftest import Context
from tests.lambdas.serving_world import (
    APPROVED_AT,
    DONE,
    ENDED_AT,
    REJECTED_AT,
    World,
    approval_event,
    approve,
    hourly_event,
    message,
    package,
    rejection_event,
)


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
