"""The four strategies as shares over time, and the rules for whole instances, waits and alarms."""

from fractions import Fraction
from typing import Any

import pytest
from pydantic import TypeAdapter

from stacks import rollout_config
from stacks.rollout_config import Rollout, shares

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
        rollout_config.check(chosen, fleets=range(instances, instances + 1), window_seconds=0)
    except ValueError:
        return
    found = [share for share, _ in shares(chosen, instances)]
    assert found == sorted(set(found))
    assert found[-1] == 1
    assert 0 < found[0] <= Fraction(1, 2)
    assert all((share * instances).denominator == 1 for share in found)


def refusal(chosen: Any, fleets: range, *, window: int = 120, error_percent: float | None = 2.0) -> str:
    with pytest.raises(ValueError, match=r"Lower|Use|Lengthen|Raise") as caught:
        rollout_config.check(chosen, fleets=fleets, window_seconds=window, error_percent=error_percent)
    return str(caught.value)


@pytest.mark.parametrize(
    ("chosen", "fleets", "said"),
    [
        (
            rollout("CANARY", percent=50),
            range(1, 3),
            "a canary of 50 % of 1 instance(s) is no whole instance",
        ),
        (
            rollout("CANARY", count=2),
            range(3, 4),
            "a canary of 2 of 3 instance(s) is 67 %: SageMaker takes 1 to 50",
        ),
        (rollout("LINEAR", percent=10), range(9, 12), "a step of 10 % of 9 instance(s) is no whole instance"),
        # Autoscaling may have chosen eleven, and then an update would be refused.
        (
            rollout("LINEAR", count=1),
            range(2, 12),
            "a step of 1 of 11 instance(s) is 9 %: SageMaker takes 10 to 50",
        ),
        (
            rollout("ROLLING", count=1),
            range(2, 22),
            "a batch of 1 of 21 instance(s) is 5 %: SageMaker takes 5 to 50",
        ),
        (
            rollout("ROLLING", percent=50),
            range(1, 2),
            "a batch of 50 % of 1 instance(s) is no whole instance",
        ),
        (
            rollout("ROLLING", percent=50, rollback_batch={"unit": "INSTANCES", "value": 3}),
            range(2, 5),
            "a rollback batch of 3 of 2 instance(s) is 150 %: SageMaker takes 1 to 100",
        ),
        (
            rollout("ROLLING", percent=50, rollback_batch={"unit": "PERCENT", "value": 33}),
            range(2, 5),
            "a rollback batch of 33 % of 2 instance(s) is no whole instance",
        ),
    ],
)
def test_a_size_that_is_refused_at_any_fleet_is_refused_at_synth(
    chosen: Any, fleets: range, said: str
) -> None:
    assert said in refusal(chosen, fleets)


@pytest.mark.parametrize("strategy", ["CANARY", "LINEAR", "ROLLING"])
def test_a_bake_shorter_than_the_alarms_window_is_refused(strategy: str) -> None:
    short = rollout(strategy, percent=50, bake_seconds=119)
    assert "rollout.bake_seconds = 119 is shorter than the alarms' evaluation window" in refusal(
        short, range(2, 3)
    )


@pytest.mark.parametrize("strategy", ["CANARY", "LINEAR", "ALL_AT_ONCE"])
def test_a_fault_that_shows_with_all_the_traffic_only_must_be_seen_before_the_old_fleet_ends(
    strategy: str,
) -> None:
    size = {} if strategy == "ALL_AT_ONCE" else {"percent": 50}
    short = rollout(strategy, termination_wait_seconds=119, **size)
    assert "rollout.termination_wait_seconds = 119 is shorter than" in refusal(short, range(2, 3))


def test_the_longest_rollout_of_any_fleet_must_end_in_time() -> None:
    steps = rollout("LINEAR", percent=10, bake_seconds=300)  # of 19 instances, 10 % is one: 19 steps
    rollout_config.check(steps, fleets=range(10, 11), window_seconds=120, error_percent=2.0)
    assert "waits add up to 5580 s, which is not less" in refusal(steps, range(10, 20))


def test_all_at_once_ends_in_time_whichever_wait_is_the_bake() -> None:
    both = rollout("ALL_AT_ONCE", termination_wait_seconds=300, timeout_seconds=600)
    assert "waits add up to 600 s" in refusal(both, range(1, 2))


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
    fleets = range(4, 5)
    rollout_config.check(chosen, fleets=fleets, window_seconds=120, error_percent=error_percent - 0.1)
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
    rollout_config.check(back, fleets=range(4, 5), window_seconds=120)
