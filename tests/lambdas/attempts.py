"""Approvals whose rollout ends in one way or the other, as the events of their ends tell it."""

from typing import Any

from lambdas import release_model
from tests.lambdas.conftest import Context
from tests.lambdas.serving_world import (
    World,
    approval_event,
    completion_event,
    message,
    package,
)


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
