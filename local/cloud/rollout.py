"""How an update of an endpoint goes on, as a pure state machine: no threads, no clock, no process.

`guardrails` has made its plan; `begin` and `advance` say what to do next and where the update stands; `deployment`
carries the commands out and reports what happened. Counts are instances by variant, shares are the new fleet's part
of each variant's traffic (0 to 1; the old fleet has the rest), times are seconds of AWS.
"""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal

from local.cloud.guardrails import Counts, Plan

Shares = Mapping[str, Fraction]
Side = Literal["new", "old"]


class Phase(enum.Enum):
    """Where an update stands; the first four go forward, the next two back."""

    PROVISIONING = "the next instances of the new fleet start"
    SHIFTING = "traffic moves to them"
    BAKING = "traffic is on, the alarms are watched"
    RETIRING = "instances of the old fleet end"
    RESTORING = "instances of the old fleet start again"
    RETURNING = "traffic is back, instances of the new fleet end"
    DONE = "the new fleet serves"
    ROLLED_BACK = "the old fleet serves"
    STUCK = "both serve: the old fleet could not be restored"

    @property
    def over(self) -> bool:
        """Whether nothing follows."""
        return self in {Phase.DONE, Phase.ROLLED_BACK, Phase.STUCK}


@dataclasses.dataclass(frozen=True)
class Back:
    """One step back: what runs of the old fleet again, and then what is left of the new one."""

    restored: Counts
    kept: Counts


@dataclasses.dataclass(frozen=True)
class State:
    """Where an update stands: `new` and `old` run, `shares` is the new fleet's traffic, `since` when the phase began."""

    phase: Phase
    started: float
    since: float
    new: Counts
    old: Counts
    shares: Shares
    step: int = 0
    back: Sequence[Back] = ()
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Start:
    """Start instances of one fleet, so that `counts` run."""

    side: Side
    counts: Counts


@dataclasses.dataclass(frozen=True)
class Route:
    """Move traffic."""

    shares: Shares


@dataclasses.dataclass(frozen=True)
class End:
    """Drain and end instances of one fleet, so that `counts` stay."""

    side: Side
    counts: Counts


Command = Start | Route | End


@dataclasses.dataclass(frozen=True)
class Done:
    """The last command is carried out."""


@dataclasses.dataclass(frozen=True)
class Failed:
    """Instances do not start, or one of the new fleet is lost for good."""

    reason: str


@dataclasses.dataclass(frozen=True)
class Alarmed:
    """Rollback alarms went off, or could not be read."""

    reason: str


@dataclasses.dataclass(frozen=True)
class Tick:
    """Time has passed."""


Event = Done | Failed | Alarmed | Tick
Move = tuple[State, tuple[Command, ...]]


def begin(plan: Plan, now: float) -> Move:
    """The first state and what to do in it: nothing runs of the new fleet, the old one has all traffic."""
    nothing = dict.fromkeys(plan.new, 0)
    shares = dict.fromkeys({**plan.old, **plan.new}, Fraction(0))
    return State(Phase.PROVISIONING, now, now, nothing, plan.old, shares), (
        Start("new", plan.steps[0].running),
    )


def advance(plan: Plan, state: State, event: Event, now: float) -> Move:
    """The state after an event, and what to do in it. What does not concern a phase changes nothing."""
    match event:
        case Done() if state.phase in _AFTER:
            return _AFTER[state.phase](plan, state, now)
        case Failed(reason) if state.phase is Phase.RESTORING:
            return _stuck(plan, state, reason, now)
        case Failed(reason) | Alarmed(reason) if state.phase in _REVOCABLE:
            return _return(plan, state, reason, now)
        case Tick() if state.phase in _REVOCABLE and plan.timeout and now - state.started > plan.timeout:
            return _return(plan, state, f"The deployment exceeded its {plan.timeout:g} seconds.", now)
        case Tick() if state.phase is Phase.BAKING and now - state.since >= plan.steps[state.step].bake:
            return _baked(plan, state, now)
    return state, ()


def traffic(
    shares: Shares, old: Mapping[str, float], new: Mapping[str, float]
) -> tuple[dict[str, float], dict[str, float]]:
    """Each variant's part of the endpoint's traffic in the old and in the new fleet, from the variants' weights."""
    total_old, total_new = sum(old.values()) or 1.0, sum(new.values()) or 1.0
    parts_old = {name: weight / total_old * float(1 - shares[name]) for name, weight in old.items()}
    parts_new = {name: weight / total_new * float(shares[name]) for name, weight in new.items()}
    whole = sum(parts_old.values()) + sum(parts_new.values()) or 1.0
    return (
        {name: part / whole for name, part in parts_old.items()},
        {name: part / whole for name, part in parts_new.items()},
    )


def _provisioned(plan: Plan, state: State, now: float) -> Move:
    step = plan.steps[state.step]
    # A variant that the new configuration lacks goes with the others: all at once.
    shares = {name: _share(step.active.get(name, 1), plan.new.get(name, 1), empty=1) for name in state.shares}
    return _to(state, Phase.SHIFTING, now, new=step.running, shares=shares), (Route(shares),)


def _shifted(_plan: Plan, state: State, now: float) -> Move:
    return _to(state, Phase.BAKING, now), ()


def _baked(plan: Plan, state: State, now: float) -> Move:
    kept = plan.steps[state.step].kept
    if kept == state.old:
        return _next(plan, state, now)
    return _to(state, Phase.RETIRING, now), (End("old", kept),)


def _retired(plan: Plan, state: State, now: float) -> Move:
    return _next(plan, dataclasses.replace(state, old=plan.steps[state.step].kept), now)


def _next(plan: Plan, state: State, now: float) -> Move:
    if state.step + 1 == len(plan.steps):
        return _to(state, Phase.DONE, now), ()
    step, state = plan.steps[state.step + 1], dataclasses.replace(state, step=state.step + 1)
    if step.running == state.new:  # blue/green has started all of them
        return _provisioned(plan, state, now)
    return _to(state, Phase.PROVISIONING, now), (Start("new", step.running),)


def _return(plan: Plan, state: State, reason: str, now: float) -> Move:
    """Back to the old fleet: at once if all of it is there, else as fast as the rollback's batches allow."""
    none, back = dict.fromkeys(plan.new, 0), []
    restored = dict(state.old)
    while restored != dict(plan.old):
        for name, count in plan.old.items():
            restored[name] = min(count, restored[name] + _batch(plan, count))
        kept = {
            name: min(state.new[name], count * (plan.old[name] - restored[name]) // max(1, plan.old[name]))
            for name, count in plan.new.items()
        }
        back.append(Back(dict(restored), kept))
    state = dataclasses.replace(state, reason=reason, back=back or [Back(plan.old, none)], step=0)
    if not back:
        return _give_back(plan, state, now)
    return _to(state, Phase.RESTORING, now), (Start("old", back[0].restored),)


def _batch(plan: Plan, count: int) -> int:
    if plan.batch is None:
        return count
    value: int = plan.batch["Value"]
    return max(1, count * value // 100) if plan.batch["Type"] == "CAPACITY_PERCENT" else value


def _restored(plan: Plan, state: State, now: float) -> Move:
    return _give_back(plan, dataclasses.replace(state, old=state.back[0].restored), now)


def _give_back(_plan: Plan, state: State, now: float) -> Move:
    kept = state.back[0].kept
    shares = _by_capacity(state, kept)
    return _to(state, Phase.RETURNING, now, shares=shares), (Route(shares), End("new", kept))


def _returned(_plan: Plan, state: State, now: float) -> Move:
    left = dataclasses.replace(state, new=state.back[0].kept, back=state.back[1:])
    if not left.back:
        return _to(left, Phase.ROLLED_BACK, now), ()
    return _to(left, Phase.RESTORING, now), (Start("old", left.back[0].restored),)


def _stuck(_plan: Plan, state: State, reason: str, now: float) -> Move:
    shares = _by_capacity(state, state.new)
    reason = f"{state.reason} The rollback failed: {reason}"
    return _to(state, Phase.STUCK, now, shares=shares, reason=reason), (Route(shares),)


def _by_capacity(state: State, new: Counts) -> dict[str, Fraction]:
    running = {name: (new.get(name, 0), state.old.get(name, 0)) for name in state.shares}
    return {name: _share(ours, ours + theirs, empty=0) for name, (ours, theirs) in running.items()}


def _share(part: int, whole: int, *, empty: int) -> Fraction:
    """`part` of `whole`; `empty` where nothing runs, as in a variant that is scaled to zero."""
    return Fraction(part, whole) if whole else Fraction(empty)


def _to(state: State, phase: Phase, now: float, **values: Any) -> State:
    return dataclasses.replace(state, phase=phase, since=now, **values)


_REVOCABLE = {Phase.PROVISIONING, Phase.SHIFTING, Phase.BAKING}
_AFTER: Mapping[Phase, Callable[[Plan, State, float], Move]] = {
    Phase.PROVISIONING: _provisioned,
    Phase.SHIFTING: _shifted,
    Phase.RETIRING: _retired,
    Phase.RESTORING: _restored,
    Phase.RETURNING: _returned,
}
