"""How many instances a variant shall have: target tracking, step scaling, limits and cool-downs. Pure.

Sources: "Target tracking scaling policies", "Step scaling policies" and "Scaling activities" (Application Auto Scaling
User Guide), `PutScalingPolicy` (API Reference). `scaling_engine` brings alarms and time, and acts.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

DEFAULT_COOLDOWN = 300  # seconds; of SageMaker's variants, for each kind of policy

Adjustment = Literal["ChangeInCapacity", "PercentChangeInCapacity", "ExactCapacity"]
NotScaled = Literal["AlreadyAtMaxCapacity", "AlreadyAtMinCapacity", "AlreadyAtDesiredCapacity"]


@dataclasses.dataclass(frozen=True)
class Tracking:
    """Keep a metric that falls as capacity grows at `target`; cool-downs in seconds."""

    name: str
    target: float
    out_cooldown: float = DEFAULT_COOLDOWN
    in_cooldown: float = DEFAULT_COOLDOWN
    scale_in: bool = True


@dataclasses.dataclass(frozen=True)
class Step:
    """What to add if the metric lies between these bounds, counted from the alarm's threshold; None is infinity."""

    lower: float | None
    upper: float | None
    adjustment: int


@dataclasses.dataclass(frozen=True)
class Stepping:
    """Change capacity by the size of the breach; the cool-down in seconds."""

    name: str
    kind: Adjustment
    steps: tuple[Step, ...]
    cooldown: float = DEFAULT_COOLDOWN
    minimum_magnitude: int = 0


Policy = Tracking | Stepping


@dataclasses.dataclass(frozen=True)
class Breach:
    """An alarm that is in ALARM and names the policy: its newest value, and on which side of its threshold that lies."""

    policy: Policy
    alarm: str
    value: float
    threshold: float
    above: bool


@dataclasses.dataclass(frozen=True)
class Cooldown:
    """A policy has scaled out: until when that counts (seconds of a clock), and from which capacity it began."""

    until: float
    before: int


@dataclasses.dataclass(frozen=True)
class State:
    """A variant as it is: capacity, limits, which policies have scaled out, and until when none may scale in."""

    capacity: int
    minimum: int
    maximum: int
    outs: Mapping[str, Cooldown] = dataclasses.field(default_factory=dict)
    in_until: float = -math.inf


@dataclasses.dataclass(frozen=True)
class Decision:
    """The capacity to set, and the breach that asks for it; None if it is the limits. Or why nothing is to be done."""

    capacity: int
    breach: Breach | None
    not_scaled: NotScaled | None = None


def decide(
    policies: Sequence[Policy], breaches: Sequence[Breach], state: State, now: float
) -> Decision | None:
    """What to do now; None if nobody asks for anything, or a cool-down forbids it.

    Limits go first and wait for no cool-down. Then the largest capacity wins, of those that scale out if there is one,
    else of those that scale in. Target tracking scales in only if all such policies are ready to.
    """
    bounded = _bounded(state.capacity, state)
    if bounded != state.capacity:
        return Decision(bounded, None)
    if not breaches:
        return None
    wanted = [(_wanted(breach, state, now), breach) for breach in breaches]
    outs = [it for it in wanted if it[0] > state.capacity]
    ready = {
        breach.policy.name for breach in breaches if isinstance(breach.policy, Tracking) and not breach.above
    }
    all_ready = all(it.name in ready for it in policies if isinstance(it, Tracking) and it.scale_in)
    ins = [
        it for it in wanted if it[0] < state.capacity and (all_ready or isinstance(it[1].policy, Stepping))
    ]
    if outs or (ins and now >= state.in_until):
        capacity, breach = max(outs or ins, key=lambda it: it[0])
        return Decision(capacity, breach)
    running = any(it.name in state.outs and now < state.outs[it.name].until for it in policies)
    if running or any(capacity != state.capacity for capacity, _ in wanted):
        return None
    return Decision(state.capacity, breaches[0], _reason(breaches[0], state))


def after(decision: Decision, state: State, now: float) -> State:
    """The state when a decision has been carried out at `now`: its cool-down begins, and a scale-out ends the other."""
    if decision.breach is None:  # scheduled actions and new limits have no cool-down
        return dataclasses.replace(state, capacity=decision.capacity)
    policy = decision.breach.policy
    if decision.capacity > state.capacity:
        seconds = policy.out_cooldown if isinstance(policy, Tracking) else policy.cooldown
        running = state.outs.get(policy.name)
        before = running.before if running and now < running.until else state.capacity
        outs = {**state.outs, policy.name: Cooldown(now + seconds, before)}
        return dataclasses.replace(state, capacity=decision.capacity, outs=outs, in_until=-math.inf)
    seconds = policy.in_cooldown if isinstance(policy, Tracking) else policy.cooldown
    return dataclasses.replace(state, capacity=decision.capacity, in_until=now + seconds)


def tracked(capacity: int, value: float, target: float) -> int:
    """The capacity at which the metric is at its target, rounded up: never too little.

    Of no capacity the metric is what it would be of one ("Autoscale an asynchronous endpoint": out of zero once the
    queue exceeds the target).
    """
    return math.ceil(round(max(1, capacity) * value / target, 9))


def stepped(policy: Stepping, capacity: int, breach: Breach) -> int:
    """The capacity after the step into which the breach falls; the same if it falls into none."""
    difference = breach.value - breach.threshold
    for step in policy.steps:
        lower = -math.inf if step.lower is None else step.lower
        upper = math.inf if step.upper is None else step.upper
        inside = lower <= difference < upper if breach.above else lower < difference <= upper
        if inside:
            return _adjusted(policy, capacity, step.adjustment)
    return capacity


def flaws(steps: Sequence[Step]) -> Iterator[str]:
    """What AWS refuses in a policy's steps, a sentence each."""
    if not steps:
        yield "At least one step adjustment is required."
        return
    for step in steps:
        if step.lower is None and step.upper is None:
            yield "The upper and lower bound can't be null in the same step adjustment."
        elif step.lower is not None and step.upper is not None and step.lower >= step.upper:
            yield "The upper bound must be greater than the lower bound."
    ordered = sorted(steps, key=lambda step: -math.inf if step.lower is None else step.lower)
    for one, following in itertools.pairwise(ordered):
        if one.upper is None or one.upper != following.lower:
            yield "The ranges of your step adjustments can't overlap or have a gap."
    if ordered[0].lower is not None and ordered[0].lower < 0:
        yield "If one step adjustment has a negative lower bound, then there must be one with a null lower bound."
    if ordered[-1].upper is not None and ordered[-1].upper > 0:
        yield "If one step adjustment has a positive upper bound, then there must be one with a null upper bound."


def _wanted(breach: Breach, state: State, now: float) -> int:
    """What a breach asks for, within the limits.

    During a policy's scale-out cool-down that is counted from before the scale-out which began it: what it added is
    part of what is asked for now.
    """
    running = state.outs.get(breach.policy.name)
    if running and now < running.until:
        grown = _proposed(breach, running.before)
        if grown > running.before:
            return _bounded(max(state.capacity, grown), state)
    return _bounded(_proposed(breach, state.capacity), state)


def _proposed(breach: Breach, capacity: int) -> int:
    if isinstance(breach.policy, Stepping):
        return stepped(breach.policy, capacity, breach)
    found = tracked(capacity, breach.value, breach.policy.target)
    if breach.above:
        return max(capacity, found)
    return min(capacity, found) if breach.policy.scale_in else capacity


def _bounded(capacity: int, state: State) -> int:
    return min(max(capacity, state.minimum), state.maximum)


def _adjusted(policy: Stepping, capacity: int, adjustment: int) -> int:
    if policy.kind == "ExactCapacity":
        return adjustment
    if policy.kind == "ChangeInCapacity":
        return max(0, capacity + adjustment)
    change = capacity * adjustment / 100
    if change == 0:
        return capacity
    # Below 1 it is rounded to 1, above it is cut off; in both directions.
    size = max(1, math.floor(round(abs(change), 9)), policy.minimum_magnitude)
    return max(0, capacity + (size if change > 0 else -size))


def _reason(breach: Breach, state: State) -> NotScaled:
    if state.capacity == state.maximum and breach.above:
        return "AlreadyAtMaxCapacity"
    if state.capacity == state.minimum and not breach.above:
        return "AlreadyAtMinCapacity"
    return "AlreadyAtDesiredCapacity"
