"""What synth says of a rollout is what the embedded cloud does: the same shares, for the same time, or refused by both."""

from fractions import Fraction
from typing import Any

import hypothesis
from hypothesis import strategies as st
from pydantic import TypeAdapter

from local.cloud import guardrails
from stacks import rollout_config
from stacks.rollout_config import Fleets, Rollout
from tests.stacks.serving.test_rollout_config import deployment

VARIANT = "AllTraffic"
ROLLOUT: TypeAdapter[Rollout] = TypeAdapter(Rollout)
SIZES = st.fixed_dictionaries(
    {"unit": st.sampled_from(["PERCENT", "INSTANCES"]), "value": st.integers(1, 12) | st.integers(13, 51)}
)
WAITS = st.integers(1, 300)
GREEN = {"timeout_seconds": st.just(28_800), "termination_wait_seconds": WAITS}
ROLLOUTS = st.one_of(
    st.fixed_dictionaries({"strategy": st.just("CANARY"), "canary": SIZES, "bake_seconds": WAITS, **GREEN}),
    st.fixed_dictionaries({"strategy": st.just("LINEAR"), "step": SIZES, "bake_seconds": WAITS, **GREEN}),
    st.fixed_dictionaries({"strategy": st.just("ALL_AT_ONCE"), **GREEN}),
    st.fixed_dictionaries(
        {
            "strategy": st.just("ROLLING"),
            "batch": SIZES,
            "rollback_batch": st.just("") | SIZES,
            "bake_seconds": WAITS,
            "timeout_seconds": GREEN["timeout_seconds"],
        }
    ),
)


@hypothesis.settings(
    deadline=None,
    max_examples=250,
    derandomize=True,
    database=None,
    suppress_health_check=[
        hypothesis.HealthCheck.filter_too_much
    ],  # what synth refuses is nothing to compare
)
@hypothesis.given(given=ROLLOUTS, fleet=st.integers(1, 40), old=st.integers(1, 40))
def test_whatever_synth_accepts_is_done_with_its_shares_and_bakes(
    given: dict[str, Any], fleet: int, old: int
) -> None:
    """`old` instances run, as autoscaling left them, and the new configuration starts `fleet` of them."""
    try:
        rollout = ROLLOUT.validate_python(given)
        for running in (fleet, old):  # autoscaling may choose either
            rollout_config.check(rollout, fleets=only(running), alarm_seconds=0)
    except ValueError:
        hypothesis.reject()
    plan = guardrails.plan(deployment(rollout), {VARIANT: fleet}, {VARIANT: old})
    done = [(Fraction(step.active[VARIANT], fleet), step.bake) for step in plan.steps]
    assert done == rollout_config.shares(rollout, fleet)
    assert plan.kind == rollout.strategy
    assert plan.timeout == rollout.timeout_seconds
    assert plan.alarms == ["errors", "latency"]


STRATEGIES = {
    "CANARY": ("canary", "CanarySize"),
    "LINEAR": ("step", "LinearStepSize"),
    "ROLLING": ("batch", "MaximumBatchSize"),
}
UNITS = {"PERCENT": "CAPACITY_PERCENT", "INSTANCES": "INSTANCE_COUNT"}


@hypothesis.settings(deadline=None, max_examples=500, derandomize=True, database=None)
@hypothesis.given(strategy=st.sampled_from(sorted(STRATEGIES)), size=SIZES, fleet=st.integers(1, 40))
def test_both_refuse_the_same_sizes(strategy: str, size: dict[str, Any], fleet: int) -> None:
    """But for a percentage that makes no whole instance: synth refuses what AWS does not document, here it is one."""
    key, member = STRATEGIES[strategy]
    said = synth_refuses({"strategy": strategy, key: size}, fleet)
    hypothesis.assume(said is None or "not documented" not in said)
    capacity = {"Type": UNITS[size["unit"]], "Value": size["value"]}
    assert (said is not None) == cloud_refuses(strategy, {member: capacity}, fleet), said


def only(instances: int) -> Fleets:
    return Fleets(least=("instance_count", instances), most=("autoscaling.maximum_instances", instances))


def synth_refuses(given: dict[str, Any], fleet: int) -> str | None:
    last = {"rollback_batch": ""} if given["strategy"] == "ROLLING" else {"termination_wait_seconds": 60}
    try:
        rollout = ROLLOUT.validate_python({**given, **last, "bake_seconds": 60, "timeout_seconds": 28_800})
        rollout_config.check(rollout, fleets=only(fleet), alarm_seconds=0)
    except ValueError as refused:
        return str(refused)
    return None


def cloud_refuses(strategy: str, size: dict[str, Any], fleet: int) -> bool:
    policy: dict[str, Any] = {"RollingUpdatePolicy": {**size, "WaitIntervalInSeconds": 60}}
    if strategy != "ROLLING":
        policy = {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": {"Type": strategy, **size}}}
    try:
        guardrails.plan(policy, {VARIANT: fleet}, {VARIANT: fleet})
    except guardrails.RefusedError:
        return True
    return False
