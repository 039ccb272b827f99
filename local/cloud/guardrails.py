"""What a DeploymentConfig makes of an endpoint's update: steps of traffic and time, or the rule that it breaks.

Counts are instances by variant, times are seconds of AWS. Sources: "Deployment guardrails for updating models in
production" and its pages (SageMaker AI Developer Guide), "DeploymentConfig" (SageMaker API Reference).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

Counts = Mapping[str, int]

_WAIT, _TERMINATION = "WaitIntervalInSeconds", "TerminationWaitInSeconds"


class RefusedError(ValueError):
    """A DeploymentConfig that does not fit the endpoint; the text is the API's."""


@dataclasses.dataclass(frozen=True)
class Step:
    """One move of traffic: what runs of the new fleet before it, what of that takes traffic, and how long it bakes.

    `kept` is what stays of the old fleet afterwards, `wait` the API's member that names the bake.
    """

    running: Counts
    active: Counts
    kept: Counts
    bake: float
    wait: str


@dataclasses.dataclass(frozen=True)
class Plan:
    """A whole update, and how it is taken back: `batch` is the size of a step back, None is all at once."""

    kind: str
    new: Counts
    old: Counts
    steps: Sequence[Step]
    batch: Mapping[str, Any] | None = None
    timeout: float | None = None
    alarms: Sequence[str] = ()


def plan(config: Mapping[str, Any] | None, new: Counts, old: Counts) -> Plan:
    """The update from `old` to `new` as a DeploymentConfig wants it; without one all at once, without a bake.

    `RefusedError` with the rule that it breaks.
    """
    config = config or {}
    green, rolling = config.get("BlueGreenUpdatePolicy"), config.get("RollingUpdatePolicy")
    if green and rolling:
        raise RefusedError("DeploymentConfig: only one update policy should be used.")
    if (green or rolling) and new.keys() != old.keys():
        raise RefusedError(
            "DeploymentConfig: the new endpoint configuration must have the same variant names as the old one."
        )
    alarms = [alarm["AlarmName"] for alarm in config.get("AutoRollbackConfiguration", {}).get("Alarms", [])]
    if not any(new.values()):
        # An asynchronous endpoint without instances: nothing can bake, and nothing is split.
        return _blue_green({}, new, old, alarms)
    if rolling:
        return _rolling(rolling, new, old, alarms)
    return _blue_green(green or {}, new, old, alarms)


def _blue_green(policy: Mapping[str, Any], new: Counts, old: Counts, alarms: Sequence[str]) -> Plan:
    routing = policy.get("TrafficRoutingConfiguration", {})
    kind = routing.get("Type", "ALL_AT_ONCE")
    sizes = {"CANARY": ("CanarySize", 0), "LINEAR": ("LinearStepSize", 10)}
    for name, (member, _) in sizes.items():
        if (member in routing) != (name == kind):
            raise RefusedError(
                f"TrafficRoutingConfiguration: {member} belongs to Type {name}, and only to it."
            )
    actives: list[Counts] = [new]
    if kind in sizes:
        member, least = sizes[kind]
        size = _whole(routing[member], new, f"{member} must be", least)
        steps = max(-(-count // size[name]) for name, count in new.items()) if kind == "LINEAR" else 2
        actives = [_times(size, times, new) for times in range(1, steps)] + [new]
    wait, termination = routing.get(_WAIT, 0), policy.get(_TERMINATION, 0)
    steps_before = [Step(new, active, old, wait, _WAIT) for active in actives[:-1]]
    last = Step(new, new, dict.fromkeys(old, 0), termination, _TERMINATION)
    return Plan(
        kind, new, old, [*steps_before, last], None, policy.get("MaximumExecutionTimeoutInSeconds"), alarms
    )


def _rolling(policy: Mapping[str, Any], new: Counts, old: Counts, alarms: Sequence[str]) -> Plan:
    if len(new) > 1:
        raise RefusedError("RollingUpdatePolicy: rolling deployments do not support multi-variant endpoints.")
    size = _whole(policy["MaximumBatchSize"], new, "MaximumBatchSize must be", 5)
    if back := policy.get("RollbackMaximumBatchSize"):
        _whole(back, old, "RollbackMaximumBatchSize must be", 1, 100)
    times = max(-(-count // size[name]) for name, count in new.items())
    steps = []
    for number in range(1, times + 1):
        active = _times(size, number, new)
        # Rounded up: as long as the old fleet has traffic, an instance of it is left.
        kept = {name: -(-old[name] * (count - active[name]) // count) for name, count in new.items()}
        steps.append(Step(active, active, kept, policy[_WAIT], _WAIT))
    timeout = policy.get("MaximumExecutionTimeoutInSeconds")
    return Plan("ROLLING", new, old, steps, policy.get("RollbackMaximumBatchSize"), timeout, alarms)


def _whole(size: Mapping[str, Any], counts: Counts, rule: str, least: int, most: int = 50) -> dict[str, int]:
    """A CapacitySize as whole instances of each variant, at least one; AWS does not say how it rounds."""
    value, percent = size["Value"], size["Type"] == "CAPACITY_PERCENT"
    whole = {name: max(1, count * value // 100) if percent else value for name, count in counts.items()}
    for name, count in counts.items():
        share = value if percent else Fraction(100 * value, max(1, count))
        if not least <= share <= most or 100 * whole[name] > most * count:
            limits = f"{least} to {most} %" if least else f"at most {most} %"
            raise RefusedError(
                f"{rule} {limits} of the variant's total instance count: {size['Type']} {value} of {count} "
                f"instance(s) of variant {name}."
            )
    return whole


def _times(size: Counts, times: int, limit: Counts) -> dict[str, int]:
    return {name: min(count, times * size[name]) for name, count in limit.items()}
