"""What DescribeEndpoint and the deployment events say of an update, in the words of SageMaker's own examples. Pure.

Source: "Events that Amazon SageMaker AI sends to Amazon EventBridge" (SageMaker AI Developer Guide), which shows canary
and full capacity; how it calls a linear step and a rolling batch is not shown.
"""

from __future__ import annotations

from local.cloud.guardrails import Plan
from local.cloud.rollout import Phase, State

Status = tuple[str, str]

_CAPACITY = {"CANARY": "canary", "LINEAR": "step", "ROLLING": "batch"}


def active(plan: Plan, state: State, variant: str) -> int:
    """How many instances of the variant's new fleet take traffic."""
    if state.phase in {Phase.RETURNING, Phase.RESTORING, Phase.ROLLED_BACK, Phase.STUCK}:
        return state.new[variant] if state.shares[variant] else 0
    return int(state.shares[variant] * plan.new[variant])


def of_new(plan: Plan, state: State, variant: str) -> Status | None:
    """Status and message of a variant in the new configuration."""
    step = plan.steps[state.step]
    capacity = "full" if step.active == plan.new else _CAPACITY[plan.kind]
    on = step.active[variant]
    match state.phase:
        case Phase.PROVISIONING:
            return "Creating", f"Launching {step.running[variant] - state.new[variant]} instance(s)."
        case Phase.SHIFTING:
            return "ActivatingTraffic", f"Activating traffic on {capacity} capacity of {on} instance(s)."
        case Phase.BAKING:
            return "Baking", (
                f"Baking for {step.bake} seconds ({step.wait}) with traffic enabled on {capacity} capacity of {on} "
                "instance(s)."
            )
        case Phase.RETURNING:
            return "Deleting", f"Terminating {state.new[variant] - state.back[0].kept[variant]} instance(s)."
    return None


def of_old(plan: Plan, state: State, variant: str) -> Status | None:
    """Status and message of a variant in the old configuration."""
    match state.phase:
        case Phase.RETIRING:
            return "Deleting", (
                f"Terminating {state.old[variant] - plan.steps[state.step].kept[variant]} instance(s)."
            )
        case Phase.RESTORING:
            return (
                "Creating",
                f"Launching {state.back[0].restored[variant] - state.old[variant]} instance(s).",
            )
    return None
