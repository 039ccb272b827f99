"""Who is asked when fleets die: whoever has a share of the traffic, and what a full shift left, as the last resort."""

import dataclasses
from collections.abc import Sequence
from fractions import Fraction
from types import SimpleNamespace
from typing import Any

import pytest

from local.cloud.sagemaker import router
from local.cloud.sagemaker.router import NobodyError


@dataclasses.dataclass(eq=False)
class Servers:
    """A fleet as the router sees it: its variant's name and weight, whether an instance is healthy, and free."""

    name: str = "a"
    weight: float = 1.0
    healthy: bool = True
    busy: bool = False
    capacity: int = 1

    @property
    def variant(self) -> SimpleNamespace:
        return SimpleNamespace(name=self.name)

    def take(self, _tried: object, below: float) -> str | None:
        return "instance" if self.healthy and not (self.busy and below < 9) else None


def table(old: Sequence[Servers], new: Sequence[Servers], share: str = "1") -> router.Routing:
    given: Any = old, new, {fleet.name: Fraction(share) for fleet in (*old, *new)}
    return router.routing(*given)


def asked(routing: router.Routing, variant: str | None = None, below: float = float("inf")) -> set[object]:
    """Who answers fifty requests."""
    return {router.choose(routing, variant, None, below=below)[0] for _ in range(50)}


@pytest.mark.parametrize("share", ["1/2", "1"])
@pytest.mark.parametrize("variant", [None, "a"])
def test_the_old_fleet_answers_for_a_dead_new_one_whatever_its_share(share, variant) -> None:
    old, new = Servers(), Servers(healthy=False)
    assert asked(table([old], [new], share), variant) == {old}


def test_a_fleet_without_a_share_is_not_asked_while_one_with_a_share_is_healthy() -> None:
    old, new = Servers(), Servers()
    routing = table([old], [new])
    assert asked(routing) == {new}
    assert [(share.fleet, share.weight) for share in routing] == [(new, 1)]


def test_an_old_fleet_that_is_ended_answers_nobody() -> None:
    """What is ended of a fleet takes no request any more."""
    with pytest.raises(NobodyError, match="No instance of variant a is healthy"):
        asked(table([Servers(healthy=False)], [Servers(healthy=False)]))


def test_a_new_fleet_that_gave_its_traffic_back_is_not_asked() -> None:
    with pytest.raises(NobodyError):
        asked(table([Servers(healthy=False)], [Servers()], "0"))


def test_the_last_resort_is_the_same_variant_s_other_fleet() -> None:
    a, b = Servers("a"), Servers("b")
    dead, healthy = Servers("a", healthy=False), Servers("b")
    routing = table([a, b], [dead, healthy])
    assert asked(routing, "a") == {a}
    assert asked(routing, "b") == {healthy}
    assert asked(routing) == {healthy}  # another variant's part comes first


def test_a_variant_without_weight_is_no_last_resort_but_of_its_own_requests() -> None:
    a, b = Servers("a", healthy=False), Servers("b")
    routing = table([a, b], [Servers("a", healthy=False), Servers("b", weight=0, healthy=False)])
    assert asked(routing, "b") == {b}
    with pytest.raises(NobodyError):
        asked(routing)


def test_a_variant_that_the_new_configuration_lacks_is_gone_with_its_traffic() -> None:
    routing = table([Servers("gone")], [Servers("a", healthy=False)])
    with pytest.raises(NobodyError):
        asked(routing)
    assert [share.fleet.variant.name for share in routing] == ["a"]


def test_a_queue_waits_for_a_busy_fleet_instead_of_asking_the_last_resort() -> None:
    with pytest.raises(NobodyError):
        asked(table([Servers()], [Servers(busy=True)]), below=4)
