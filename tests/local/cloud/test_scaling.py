"""Decisions of Application Auto Scaling, by the examples and rules of its user guide."""

import math

import pytest

from local.cloud.scaling import (
    Adjustment,
    Breach,
    Cooldown,
    Decision,
    Policy,
    State,
    Step,
    Stepping,
    Tracking,
    after,
    decide,
    flaws,
)

TRACK = Tracking("track", target=100, out_cooldown=60, in_cooldown=300)
OTHER = Tracking("other", target=10)


def above(policy: Policy, value: float, threshold: float = 100) -> Breach:
    return Breach(policy, "high", value, threshold, above=True)


def below(policy: Policy, value: float, threshold: float = 90) -> Breach:
    return Breach(policy, "low", value, threshold, above=False)


def step(
    *steps: tuple[float | None, float | None, int], kind: Adjustment = "ChangeInCapacity", minimum: int = 0
):
    return Stepping("step", kind, tuple(Step(*it) for it in steps), 60, minimum)


# "Step adjustments": the alarm's threshold is 50, the capacity 10.
OUT = step((0, 10, 0), (10, 20, 10), (20, None, 30), kind="PercentChangeInCapacity")
IN = step((-10, 0, 0), (-20, -10, -10), (None, -20, -30), kind="PercentChangeInCapacity")


def capacity(state: State, *breaches: Breach, now: float = 0) -> int | None:
    """The capacity that these breaches lead to; None if nothing is done."""
    found = decide([it.policy for it in breaches], breaches, state, now)
    return found.capacity if found and not found.not_scaled else None


@pytest.mark.parametrize(
    ("value", "before", "wanted"),
    [
        (150, 2, 3),
        (101, 2, 3),  # rounded up: never too little
        (400, 2, 8),
        (1000, 2, 10),  # the maximum
        (150, 0, 2),  # "only after the number of backlog requests exceeds the target": of none as of one
    ],
)
def test_target_tracking_scales_out_in_proportion(value: float, before: int, wanted: int | None) -> None:
    assert capacity(State(before, 0, 10), above(TRACK, value)) == wanted


@pytest.mark.parametrize(("value", "before", "wanted"), [(50, 4, 2), (51, 4, 3), (0, 4, 1), (89, 2, None)])
def test_target_tracking_scales_in_to_what_still_carries_the_load(
    value: float, before: int, wanted: int | None
) -> None:
    assert capacity(State(before, 1, 10), below(TRACK, value)) == wanted


# "Step adjustments": 60 % makes 11, then 70 % 14; 40 % 13, then 30 % 10.
@pytest.mark.parametrize(
    ("breach", "before", "wanted"),
    [
        (above(OUT, 59, 50), 10, None),
        (above(OUT, 60, 50), 10, 11),
        (above(OUT, 70, 50), 11, 14),
        (below(IN, 41, 50), 14, None),
        (below(IN, 40, 50), 14, 13),
        (below(IN, 30, 50), 13, 10),
    ],
)
def test_the_guide_s_steps_lead_where_it_says(breach: Breach, before: int, wanted: int | None) -> None:
    assert capacity(State(before, 0, 99), breach) == wanted


@pytest.mark.parametrize(
    ("kind", "before", "adjustment", "minimum", "wanted"),
    [
        ("ChangeInCapacity", 3, 5, 0, 8),
        ("ExactCapacity", 3, 5, 0, 5),
        ("PercentChangeInCapacity", 10, 10, 0, 11),
        ("PercentChangeInCapacity", 4, 25, 2, 6),
        ("PercentChangeInCapacity", 127, 10, 0, 139),  # 12.7 is rounded to 12
        ("PercentChangeInCapacity", 1, 67, 0, 2),  # .67 is rounded to 1
        ("PercentChangeInCapacity", 10, -5, 0, 9),  # -.58 is rounded to -1
        ("PercentChangeInCapacity", 20, -33, 0, 14),  # -6.67 is rounded to -6
        ("ChangeInCapacity", 2, -5, 0, 0),
    ],
)
def test_each_kind_of_adjustment_rounds_as_documented(
    kind: Adjustment, before: int, adjustment: int, minimum: int, wanted: int
) -> None:
    policy = step((0, None, adjustment), kind=kind, minimum=minimum)
    assert capacity(State(before, 0, 999), above(policy, 1, 1)) == wanted


def test_a_step_leaves_zero_when_there_is_a_backlog_without_capacity() -> None:
    policy = step((0, None, 1))
    assert capacity(State(0, 0, 2), above(policy, 1, 1)) == 1


def test_the_largest_capacity_wins_out_and_in() -> None:
    # `PutScalingPolicy`: by 3, and by 200 percent of 10: it scales out to 30.
    policies = [step((0, None, 3)), Stepping("percent", "PercentChangeInCapacity", (Step(0, None, 200),))]
    assert capacity(State(10, 0, 99), *(above(policy, 1, 1) for policy in policies)) == 30
    assert capacity(State(10, 0, 99), below(TRACK, 20), below(OTHER, 5)) == 5


def test_one_policy_that_scales_out_overrules_all_that_scale_in() -> None:
    assert capacity(State(4, 1, 10), below(TRACK, 10), above(OTHER, 11)) == 5


def test_target_tracking_scales_in_only_if_every_such_policy_is_ready() -> None:
    ready = below(TRACK, 10)
    assert decide([TRACK, OTHER], [ready], State(4, 1, 10), 0) is None
    deaf = Tracking("other", target=10, scale_in=False)
    assert decide([TRACK, deaf], [ready], State(4, 1, 10), 0) == Decision(1, ready)


def test_a_step_scales_in_before_target_tracking_is_ready() -> None:
    policy = step((None, 0, -1))
    assert decide([TRACK, policy], [below(policy, 1, 5)], State(4, 1, 10), 0).capacity == 3


def test_a_policy_that_may_not_scale_in_does_not() -> None:
    assert capacity(State(4, 1, 10), below(Tracking("t", 100, scale_in=False), 1)) is None


def test_within_the_scale_out_cooldown_only_what_is_more_than_before_is_added() -> None:
    # "Cooldown period": by 2 first; a more aggressive 3 adds only one more.
    policy = step((0, 10, 2), (10, None, 3))
    first = decide([policy], [above(policy, 1, 1)], State(10, 0, 99), 0)
    assert first
    state = after(first, State(10, 0, 99), 0)
    assert state.capacity == 12
    assert capacity(state, above(policy, 1, 1), now=59) is None
    assert capacity(state, above(policy, 11, 1), now=59) == 13
    assert capacity(state, above(policy, 1, 1), now=60) == 14


def test_the_scale_in_cooldown_blocks_scale_in_and_is_ended_by_a_scale_out() -> None:
    first = decide([TRACK], [below(TRACK, 50)], State(8, 1, 10), 0)
    assert first
    state = after(first, State(8, 1, 10), 0)
    assert (state.capacity, state.in_until) == (4, 300)
    assert capacity(state, below(TRACK, 50), now=299) is None
    assert capacity(state, below(TRACK, 50), now=300) == 2
    out = decide([TRACK], [above(TRACK, 150)], state, 10)
    assert out
    assert out.capacity == 6
    assert after(out, state, 10).in_until == -math.inf


def test_limits_act_at_once_whatever_cools_down() -> None:
    cooling = {"outs": {"track": Cooldown(1e9, 2)}, "in_until": 1e9}
    assert decide([TRACK], [], State(2, 3, 5, **cooling), 0) == Decision(3, None)
    assert decide([TRACK], [], State(9, 3, 5, **cooling), 0) == Decision(5, None)
    state = State(9, 3, 5, **cooling)
    assert after(Decision(5, None), state, 0).in_until == state.in_until


@pytest.mark.parametrize(
    ("breach", "now_has", "reason"),
    [
        (above(TRACK, 300), 10, "AlreadyAtMaxCapacity"),
        (below(TRACK, 1), 1, "AlreadyAtMinCapacity"),
        (below(TRACK, 89), 2, "AlreadyAtDesiredCapacity"),
    ],
)
def test_why_nothing_is_scaled_has_aws_s_code(breach: Breach, now_has: int, reason: str) -> None:
    found = decide([TRACK], [breach], State(now_has, 1, 10), 0)
    assert found == Decision(now_has, breach, reason)


@pytest.mark.parametrize(
    ("steps", "reason"),
    [
        ([], "At least one"),
        ([(None, None)], "can't be null in the same"),
        ([(10, 0)], "must be greater than"),
        ([(0, 10), (20, None)], "overlap or have a gap"),
        ([(0, 10), (5, None)], "overlap or have a gap"),
        ([(0, None), (10, None)], "overlap or have a gap"),
        ([(-10, 0)], "one with a null lower bound"),
        ([(0, 10)], "one with a null upper bound"),
    ],
)
def test_steps_that_aws_refuses_are_named(
    steps: list[tuple[float | None, float | None]], reason: str
) -> None:
    assert any(reason in flaw for flaw in flaws([Step(*bounds, 1) for bounds in steps]))


def test_the_guide_s_own_steps_have_no_flaw() -> None:
    assert [*flaws(OUT.steps), *flaws(IN.steps)] == []
