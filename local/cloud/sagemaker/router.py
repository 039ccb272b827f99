"""Who answers a request: a share of the traffic by weight, then the least busy healthy instance, and one retry.

The routing of an endpoint is an immutable snapshot that is replaced as a whole: no lock on the way of a request.
"""

from __future__ import annotations

import dataclasses
import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from local.cloud import rollout
from local.cloud.sagemaker.instance import Answer, BrokenError, Instance

if TYPE_CHECKING:
    from local.cloud.sagemaker.fleet import Fleet


@dataclasses.dataclass(frozen=True)
class Share:
    """A fleet's part of the endpoint's traffic, and of its variant's, which is what `TargetVariant` asks; 0 to 1.

    `spare` is what still runs of its variant without a part: the last resort.
    """

    fleet: Fleet
    weight: float
    of_variant: float
    spare: tuple[Fleet, ...] = ()


Routing = tuple[Share, ...]


class NobodyError(Exception):
    """No instance that may have traffic is healthy; `fleet` is who should have answered."""

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(f"No instance of variant {fleet.variant.name} is healthy.")
        self.fleet = fleet


@dataclasses.dataclass(frozen=True)
class Reply:
    """What came of a request: who was asked last, the container's answer, None if it gave none, and its seconds."""

    fleet: Fleet
    answer: Answer | None
    seconds: float


def ask(
    routing: Callable[[], Routing], body: bytes, headers: Mapping[str, str], variant: str | None = None
) -> Reply:
    """The answer of one instance. `NobodyError` if none is healthy.

    A connection that broke before any answer is tried once more, on another instance: predictions may be repeated. A
    time-out and an HTTP status are answers.
    """
    broken: Reply | None = None
    tried: Instance | None = None
    while True:
        snapshot = routing()
        try:
            fleet, instance = choose(snapshot, variant, tried)
        except NobodyError:
            if routing() is not snapshot:  # traffic moved meanwhile
                continue
            if broken:
                return broken
            raise
        began = time.perf_counter()
        try:
            answer = instance.post(body, headers)
        except BrokenError:
            instance.doubt()
            if broken:
                return Reply(fleet, None, time.perf_counter() - began)
            broken, tried = Reply(fleet, None, time.perf_counter() - began), instance
        except OSError:
            return Reply(fleet, None, time.perf_counter() - began)
        else:
            return Reply(fleet, answer, time.perf_counter() - began)
        finally:
            fleet.leave(instance)


def choose(
    routing: Routing, variant: str | None, tried: Instance | None, *, below: float = math.inf
) -> tuple[Fleet, Instance]:
    """By weight; a fleet without a healthy instance with fewer than `below` requests leaves its part to the others.

    If none has one, a spare is asked; but not for who gives `below`, which can wait for a fleet that is only busy.
    """
    asked = [share for share in routing if variant in {None, share.fleet.variant.name}]
    parts = {share.fleet: share.of_variant if variant else share.weight for share in asked}
    spares = {spare: parts[share.fleet] for share in asked for spare in share.spare if below == math.inf}
    first: Fleet | None = None
    for left in (parts, spares):
        while any(left.values()):
            (fleet,) = random.choices(list(left), list(left.values()))  # noqa: S311 - a share of traffic
            first = first or fleet
            if instance := fleet.take(tried, below):
                return fleet, instance
            del left[fleet]
    raise NobodyError(first or routing[0].fleet)


def routing(old: Sequence[Fleet], new: Sequence[Fleet] = (), shares: rollout.Shares | None = None) -> Routing:
    """The traffic of an endpoint as its variants' weights and an update's `shares` of the new fleets want it.

    The old fleet of a variant whose new one has all of it is its spare: what is ended of it takes nothing any more.
    """
    shares = shares or {fleet.variant.name: Fraction(0) for fleet in old}
    weights = [{fleet.variant.name: fleet.weight for fleet in side} for side in (old, new)]
    parts = rollout.traffic(shares, *weights)
    spare = {
        name: tuple(fleet for fleet in old if fleet.variant.name == name)
        for name, share in shares.items()
        if share == 1
    }
    none: dict[str, tuple[Fleet, ...]] = {}
    found = []
    for side, of_endpoint, of_variant, spares in (
        (old, parts[0], {name: float(1 - share) for name, share in shares.items()}, none),
        (new, parts[1], {name: float(share) for name, share in shares.items()}, spare),
    ):
        for fleet in side:
            name = fleet.variant.name
            # After a rollback that failed, two fleets are one variant: each by its instances.
            whole = sum(other.capacity for other in side if other.variant.name == name)
            part = fleet.capacity / whole if whole else 1.0
            found.append(
                Share(fleet, of_endpoint[name] * part, of_variant[name] * part, spares.get(name, ()))
            )
    return tuple(share for share in found if share.of_variant)
