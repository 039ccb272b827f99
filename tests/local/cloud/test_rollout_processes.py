"""Server processes that end while an endpoint is updated: killed in each phase, for good, and drained."""

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from local.cloud.place import Place
from tests.local.cloud.rollouts import Rollouts, blue_green, canary, endpoint, kill, once, rollouts
from tests.local.cloud.test_sagemaker_endpoints import commands, servers
from tests.local.cloud.test_stream import eventually

__all__ = ["endpoint", "rollouts"]


def test_a_server_process_killed_in_each_phase_of_a_canary_costs_no_request(
    rollouts: Rollouts, cloud: Place
) -> None:
    """In each bake one of each fleet that has traffic; of each fleet, another one lives through it all.

    The other strategies go through the same phases: `test_rollout_properties` draws them.
    """
    before = fleets(cloud).keys()
    name = rollouts.started(rollouts.serving(2))
    (old,) = fleets(cloud).keys() - before
    with rollouts.load(name) as load:
        rollouts.update(name, new := rollouts.serving(5), canary(bake=180, termination=90))
        rollouts.until(name, "Launching 2 instance(s).")
        stays = kill_one(cloud, old)
        rollouts.until(name, "Baking")
        (green,) = fleets(cloud).keys() - before - {old}
        stays |= kill_one(cloud, green)
        kill_one(cloud, old, stays)
        rollouts.until(name, "full capacity")
        kill_one(cloud, green, stays)
        found = rollouts.settled(name)
    assert load.failed == []
    assert found["EndpointConfigName"] == new
    assert set(load.counted()) == {2.0, 5.0}
    rollouts.delete(name)


def fleets(cloud: Place) -> dict[str, set[int]]:
    """The process ids of this cloud's model servers, by the directory of the model: one a fleet."""
    found: dict[str, set[int]] = {}
    for process, command in commands(cloud).items():
        found.setdefault(command.partition("--model ")[2].split()[0], set()).add(process)
    return found


def kill_one(cloud: Place, fleet: str, stays: Iterable[int] = ()) -> set[int]:
    """Kill a process of the fleet, but none that stays, and wait until another one starts; the rest of the fleet."""
    running = eventually(lambda: fleets(cloud)[fleet].difference(stays))
    kill(running, 0)
    assert eventually(
        lambda: fleets(cloud)[fleet] - running - set(stays)
    )  # one at a time: there is one retry
    return running - {min(running)}


@pytest.mark.parametrize(
    "how", [canary(bake=3600), blue_green("ALL_AT_ONCE", termination=3600)], ids=["canary", "at once"]
)
def test_a_new_instance_that_does_not_come_back_takes_the_update_back(
    rollouts: Rollouts, cloud: Place, endpoint: str, tmp_path: Path, how: dict[str, Any]
) -> None:
    """The old fleet answers until then, also when the instance that ended was all that had traffic."""
    broken, program = once(tmp_path)
    old, config = servers(cloud), rollouts.described(endpoint)["EndpointConfigName"]
    with rollouts.load(endpoint) as load:
        instances = 2 if "CanarySize" in json.dumps(how) else 1
        rollouts.update(endpoint, rollouts.serving(5, instances, program=program), how)
        rollouts.until(endpoint, "Baking")
        broken.touch()
        kill(servers(cloud) - old, 0)
        found = rollouts.settled(endpoint)
    assert load.failed == []
    assert found["EndpointConfigName"] == config
    assert "cannot be started again" in found["FailureReason"]


def slow(rollouts: Rollouts, seconds: float) -> str:
    """One instance in service that takes its time to answer."""
    return rollouts.started(rollouts.serving(2, 1, seconds=seconds))


def test_requests_in_flight_are_answered_before_the_old_fleet_ends(rollouts: Rollouts) -> None:
    with rollouts.load(name := slow(rollouts, 1), clients=4) as load:
        time.sleep(0.2)
        rollouts.update(name, rollouts.serving(5, 1))
        rollouts.settled(name)
    assert load.failed == []
    assert load.counted()[2.0] >= 4
    assert rollouts.answers(name) == {5.0}
    rollouts.delete(name)


@pytest.mark.parametrize("leaving", ["old", pytest.param("new", marks=pytest.mark.deep)])
def test_a_process_killed_while_it_drains_costs_no_request(
    rollouts: Rollouts, cloud: Place, leaving: str
) -> None:
    """What it had in flight is asked again of the fleet that stays: once there is no answer, once there is a retry."""
    others = servers(cloud)
    name = slow(rollouts, 2)
    old, alarm = servers(cloud) - others, rollouts.alarm(name)
    with rollouts.load(name, clients=4) as load:
        time.sleep(0.2)
        rollouts.update(
            name,
            rollouts.serving(5, 1, seconds=2),
            blue_green("ALL_AT_ONCE", termination=30 if leaving == "old" else 600),
            alarm,
        )
        rollouts.until(name, "Baking")
        if leaving == "new":
            time.sleep(2.2)  # until then the clients wait for the old fleet
            rollouts.ring(alarm)
        assert eventually(
            lambda: "Terminating 1 instance(s)." in json.dumps(rollouts.described(name), default=str)
        )
        kill(old if leaving == "old" else servers(cloud) - others - old, 0)
        rollouts.settled(name)
    assert load.failed == []
    assert rollouts.answers(name, times=1) == {5.0 if leaving == "old" else 2.0}
    rollouts.delete(name)
