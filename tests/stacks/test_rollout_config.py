"""The four strategies as shares over time, and the rules for whole instances, waits and alarms."""

from fractions import Fraction
from typing import Any

import pytest
from pydantic import TypeAdapter

from stacks import rollout_config
from stacks.rollout_config import Fleets, Rollout, shares

ROLLOUT: TypeAdapter[Any] = TypeAdapter(Rollout)
FULL = (Fraction(1), 180)


def rollout(strategy: str, **changes: Any) -> Any:
    sizes = {"CANARY": "canary", "LINEAR": "step", "ROLLING": "batch"}
    given: dict[str, Any] = {"strategy": strategy, "timeout_seconds": 3600}
    if strategy != "ROLLING":
        given["termination_wait_seconds"] = 180
    if strategy == "ROLLING":
        given["rollback_batch"] = ""
    if strategy != "ALL_AT_ONCE":
        given["bake_seconds"] = 120
    percent, count = changes.pop("percent", None), changes.pop("count", None)
    if percent:
        given[sizes[strategy]] = {"unit": "PERCENT", "value": percent}
    if count:
        given[sizes[strategy]] = {"unit": "INSTANCES", "value": count}
    return ROLLOUT.validate_python(given | changes)


def running(smallest: int, largest: int) -> Fleets:
    return Fleets(least=("instance_count", smallest), most=("autoscaling.maximum_instances", largest))


def eighths(*numbers: int) -> list[Fraction]:
    return [Fraction(number, 8) for number in numbers]


@pytest.mark.parametrize(
    ("chosen", "instances", "stages"),
    [
        (rollout("CANARY", percent=50), 2, [(Fraction(1, 2), 120), FULL]),
        (
            rollout("CANARY", percent=50),
            3,
            [(Fraction(1, 3), 120), FULL],
        ),  # half of three is one whole instance
        (rollout("CANARY", count=1), 4, [(Fraction(1, 4), 120), FULL]),
        (rollout("ALL_AT_ONCE"), 1, [FULL]),
        (
            rollout("LINEAR", percent=25),
            8,
            [*((share, 120) for share in eighths(2, 4, 6)), FULL],
        ),
        (  # the last step is what is left
            rollout("LINEAR", count=3),
            8,
            [*((share, 120) for share in eighths(3, 6)), FULL],
        ),
        (
            rollout("ROLLING", percent=25),
            8,
            [(share, 120) for share in eighths(2, 4, 6, 8)],
        ),
        (rollout("ROLLING", count=1), 3, [(Fraction(part, 3), 120) for part in (1, 2, 3)]),
    ],
    ids=lambda value: getattr(value, "strategy", None),
)
def test_which_share_is_new_and_for_how_long(
    chosen: Any, instances: int, stages: list[tuple[Fraction, int]]
) -> None:
    assert shares(chosen, instances) == stages


@pytest.mark.parametrize("strategy", ["CANARY", "LINEAR", "ROLLING"])
@pytest.mark.parametrize(
    "size", [{"percent": 10}, {"percent": 33}, {"percent": 50}, {"count": 1}, {"count": 2}]
)
@pytest.mark.parametrize("instances", range(1, 13))
def test_shares_only_grow_end_at_all_and_are_whole_instances(
    strategy: str, size: dict[str, int], instances: int
) -> None:
    chosen = rollout(strategy, **size)
    try:
        rollout_config.check(chosen, fleets=running(instances, instances), alarm_seconds=0)
    except ValueError:
        return
    found = [share for share, _ in shares(chosen, instances)]
    assert found == sorted(set(found))
    assert found[-1] == 1
    assert 0 < found[0] <= Fraction(1, 2)
    assert all((share * instances).denominator == 1 for share in found)


def refusal(
    chosen: Any, fleets: Fleets, *, alarm_seconds: int = 120, error_percent: float | None = 2.0
) -> str:
    with pytest.raises(ValueError, match=r"Lower|Use|Lengthen|Raise") as caught:
        rollout_config.check(chosen, fleets=fleets, alarm_seconds=alarm_seconds, error_percent=error_percent)
    return str(caught.value)


@pytest.mark.parametrize(
    ("chosen", "fleets", "said"),
    [
        (
            rollout("CANARY", percent=50),
            running(1, 2),
            "rollout.canary.value = 50: a canary of 50 % of 1 instance(s), which instance_count = 1 allows, is no whole",
        ),
        (
            rollout("CANARY", count=2),
            running(3, 3),
            "rollout.canary.value = 2: a canary of 2 of 3 instance(s), which instance_count = 3 allows, is 67 %: SageMaker",
        ),
        (
            rollout("LINEAR", percent=10),
            running(9, 11),
            "Raise instance_count to 10 or more, or rollout.step.value to 12.",
        ),
        # Autoscaling may have chosen eleven, and then an update would be refused.
        (
            rollout("LINEAR", count=1),
            running(2, 11),
            "a step of 1 of 11 instance(s), which autoscaling.maximum_instances = 11 allows, is 9 %: SageMaker takes 10",
        ),
        (
            rollout("ROLLING", count=1),
            running(2, 21),
            "a batch of 1 of 21 instance(s), which autoscaling.maximum_instances = 21 allows, is 5 %: SageMaker takes 5",
        ),
        (
            rollout("ROLLING", percent=50),
            running(1, 1),
            "Raise instance_count to 2 or more; a single instance can only be replaced: ALL_AT_ONCE.",
        ),
        (
            rollout("ROLLING", percent=50, rollback_batch={"unit": "INSTANCES", "value": 3}),
            running(2, 4),
            "rollout.rollback_batch.value = 3: a rollback batch of 3 of 2 instance(s), which instance_count = 2 allows, is 150",
        ),
        (
            rollout("ROLLING", percent=50, rollback_batch={"unit": "PERCENT", "value": 33}),
            running(2, 4),
            "Raise instance_count to 4 or more, or rollout.rollback_batch.value to 50.",
        ),
    ],
)
def test_a_size_that_is_refused_at_any_fleet_is_refused_at_synth(
    chosen: Any, fleets: Fleets, said: str
) -> None:
    assert said in refusal(chosen, fleets)


@pytest.mark.parametrize("strategy", ["CANARY", "LINEAR", "ROLLING"])
def test_a_bake_shorter_than_an_alarm_may_need_is_refused(strategy: str) -> None:
    short = rollout(strategy, percent=50, bake_seconds=119)
    assert "rollout.bake_seconds = 119 is shorter than the 120 s that an alarm may need" in refusal(
        short, running(2, 2)
    )


@pytest.mark.parametrize("strategy", ["CANARY", "LINEAR", "ALL_AT_ONCE"])
def test_a_fault_that_shows_with_all_the_traffic_only_must_be_seen_before_the_old_fleet_ends(
    strategy: str,
) -> None:
    size = {} if strategy == "ALL_AT_ONCE" else {"percent": 50}
    short = rollout(strategy, termination_wait_seconds=119, **size)
    assert "rollout.termination_wait_seconds = 119 is shorter than" in refusal(short, running(2, 2))


def test_the_longest_rollout_of_any_fleet_must_end_in_time() -> None:
    steps = rollout("LINEAR", percent=10, bake_seconds=300)  # of 19 instances, 10 % is one: 19 steps
    rollout_config.check(steps, fleets=running(10, 10), alarm_seconds=120, error_percent=2.0)
    assert "waits add up to 5580 s, which is not less" in refusal(steps, running(10, 19))


def test_all_at_once_ends_in_time_whichever_wait_is_the_bake() -> None:
    both = rollout("ALL_AT_ONCE", termination_wait_seconds=300, timeout_seconds=600)
    assert "waits add up to 600 s" in refusal(both, running(1, 1))


@pytest.mark.parametrize(
    ("chosen", "error_percent"),
    [
        (rollout("CANARY", percent=25), 25.0),
        (rollout("LINEAR", percent=50), 50.0),
        (rollout("ROLLING", count=1), 25.0),
        (rollout("ALL_AT_ONCE"), 100.0),
    ],
)
def test_an_alarm_that_the_smallest_share_cannot_reach_is_useless(chosen: Any, error_percent: float) -> None:
    fleets = running(4, 4)
    rollout_config.check(chosen, fleets=fleets, alarm_seconds=120, error_percent=error_percent - 0.1)
    said = refusal(chosen, fleets, error_percent=error_percent)
    assert f"alarms.error_percent = {error_percent} can never be exceeded at first" in said


def test_an_empty_string_brings_the_whole_old_fleet_back_at_once() -> None:
    assert rollout("ROLLING", percent=50).rollback_batch is None
    back = {"unit": "PERCENT", "value": 100}
    assert rollout("ROLLING", percent=50, rollback_batch=back).rollback_batch.value == 100


@pytest.mark.parametrize("unit", ["PERCENT", "INSTANCES"])
def test_the_way_back_may_take_the_whole_old_fleet_at_once(unit: str) -> None:
    whole = {"unit": unit, "value": 100 if unit == "PERCENT" else 4}
    back = rollout("ROLLING", percent=50, rollback_batch=whole)
    rollout_config.check(back, fleets=running(4, 4), alarm_seconds=120)
