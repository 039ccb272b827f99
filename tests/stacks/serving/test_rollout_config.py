"""Configuration → DeploymentConfig: each strategy, and the limits SageMaker sets for all of them."""

from typing import Any

import botocore.session
import hypothesis
from botocore.validate import ParamValidator
from hypothesis import strategies as st

from stacks.rollout_config import Rollout, shares
from stacks.serving.rollout import deployment_config
from stacks.serving_config import ServingConfig
from tools.assembly import context

SERVING = context("sandbox")["stages"]["sandbox"]["serving"]
BLUE_GREEN = {"termination_wait_seconds": 180, "timeout_seconds": 3600}
HALF = {"unit": "PERCENT", "value": 50}
ONE = {"unit": "INSTANCES", "value": 1}


def configured(**changes: Any) -> ServingConfig:
    return ServingConfig.model_validate(SERVING | changes)


def rendered(settings: ServingConfig) -> dict[str, Any]:
    return deployment(settings.rollout)


def deployment(rollout: Rollout) -> dict[str, Any]:
    """The DeploymentConfig in the API's own names, without a synth: an L1 struct is what its constructor was given."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(item) for item in value]
        if not hasattr(value, "_values"):
            return value
        items = {key: plain(item) for key, item in value._values.items() if item is not None}
        return {"".join(part.title() for part in key.split("_")): item for key, item in items.items()}

    found: dict[str, Any] = plain(deployment_config(rollout, ["errors", "latency"]))
    return found


def routing(**rollout: Any) -> dict[str, Any]:
    settings = configured(rollout=rollout | BLUE_GREEN)
    found: dict[str, Any] = rendered(settings)["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    return found


def test_a_canary_takes_its_share_first() -> None:
    assert routing(strategy="CANARY", canary=HALF, bake_seconds=300) == {
        "Type": "CANARY",
        "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 50},
        "WaitIntervalInSeconds": 300,
    }


def test_a_linear_rollout_moves_in_equal_steps() -> None:
    assert routing(strategy="LINEAR", step=ONE, bake_seconds=180) == {
        "Type": "LINEAR",
        "LinearStepSize": {"Type": "INSTANCE_COUNT", "Value": 1},
        "WaitIntervalInSeconds": 180,
    }


def test_all_at_once_has_no_size_and_states_its_one_bake_in_both_places() -> None:
    assert routing(strategy="ALL_AT_ONCE") == {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 180}


ROLLING = {"strategy": "ROLLING", "batch": HALF, "bake_seconds": 180, "timeout_seconds": 3600}


def test_rolling_replaces_batch_by_batch_and_comes_back_at_once() -> None:
    found = rendered(configured(rollout=ROLLING | {"rollback_batch": ""}))
    assert "BlueGreenUpdatePolicy" not in found
    assert found["RollingUpdatePolicy"] == {
        "MaximumBatchSize": {"Type": "CAPACITY_PERCENT", "Value": 50},
        "WaitIntervalInSeconds": 180,
        "MaximumExecutionTimeoutInSeconds": 3600,
    }


def test_rolling_comes_back_in_batches_where_it_is_told_to() -> None:
    found = rendered(configured(rollout=ROLLING | {"rollback_batch": ONE}))
    back = found["RollingUpdatePolicy"]["RollbackMaximumBatchSize"]
    assert back == {"Type": "INSTANCE_COUNT", "Value": 1}


def test_waits_time_out_and_alarms_are_passed_on() -> None:
    rollout = SERVING["rollout"] | {"termination_wait_seconds": 190, "timeout_seconds": 1800}
    found = rendered(configured(rollout=rollout))
    policy = found["BlueGreenUpdatePolicy"]
    assert policy["TerminationWaitInSeconds"] == 190
    assert policy["MaximumExecutionTimeoutInSeconds"] == 1800
    assert found["AutoRollbackConfiguration"] == {
        "Alarms": [{"AlarmName": "errors"}, {"AlarmName": "latency"}]
    }


WAITS = st.sampled_from([120, 179, 180, 300, 600, 3600, 3601]) | st.integers(180, 600)
TIMEOUTS = st.sampled_from([599, 600, 3600, 28_800, 28_801]) | st.integers(1_000, 28_800)
SIZES = st.fixed_dictionaries(
    {"unit": st.sampled_from(["PERCENT", "INSTANCES"]), "value": st.integers(0, 3) | st.integers(4, 51)}
)
BOTH = {"timeout_seconds": TIMEOUTS, "termination_wait_seconds": WAITS}
ROLLOUTS = st.one_of(
    st.fixed_dictionaries({"strategy": st.just("CANARY"), "canary": SIZES, "bake_seconds": WAITS, **BOTH}),
    st.fixed_dictionaries({"strategy": st.just("LINEAR"), "step": SIZES, "bake_seconds": WAITS, **BOTH}),
    st.fixed_dictionaries({"strategy": st.just("ALL_AT_ONCE"), **BOTH}),
    st.fixed_dictionaries(
        {
            "strategy": st.just("ROLLING"),
            "batch": SIZES,
            "rollback_batch": st.just("") | SIZES,
            "bake_seconds": WAITS,
            "timeout_seconds": TIMEOUTS,
        }
    ),
)
SHAPE = botocore.session.get_session().get_service_model("sagemaker").shape_for("DeploymentConfig")
# "CapacitySize" and the pages on each strategy: how many percent of the fleet a part of it may be.
PERCENTS = {"CanarySize": (1, 50), "LinearStepSize": (10, 50), "MaximumBatchSize": (5, 50)}


@hypothesis.settings(
    deadline=None,
    max_examples=150,
    derandomize=True,
    database=None,
    suppress_health_check=[hypothesis.HealthCheck.filter_too_much],  # most of what may be written is refused
)
@hypothesis.given(rollout=ROLLOUTS, least=st.integers(1, 12), more=st.integers(0, 8))
def test_whatever_the_configuration_accepts_keeps_every_limit_of_the_api(
    rollout: dict[str, Any], least: int, more: int
) -> None:
    """Sources: "DeploymentConfig" and its members (API Reference); "Deployment guardrails" (Developer Guide)."""
    try:
        settings = configured(
            rollout=rollout,
            instance_count=least,
            autoscaling=SERVING["autoscaling"] | {"maximum_instances": least + more},
        )
    except ValueError:
        hypothesis.reject()
    found = rendered(settings)
    assert not ParamValidator().validate(found, SHAPE).has_errors()
    policy = found.get("BlueGreenUpdatePolicy") or found["RollingUpdatePolicy"]
    traffic = policy.get("TrafficRoutingConfiguration", policy)
    assert 600 <= policy["MaximumExecutionTimeoutInSeconds"] <= 28_800
    assert 180 <= traffic["WaitIntervalInSeconds"] <= 3600
    assert 180 <= policy.get("TerminationWaitInSeconds", 180) <= 3600
    for instances in range(least, least + more + 1):
        for name, (low, high) in PERCENTS.items():
            if size := traffic.get(name):
                by_count = size["Type"] == "INSTANCE_COUNT"
                assert low <= (100 * size["Value"] / instances if by_count else size["Value"]) <= high
        stages = shares(settings.rollout, instances)
        assert sum(seconds for _, seconds in stages) < policy["MaximumExecutionTimeoutInSeconds"]
        assert settings.alarms.error_percent < 100 * stages[0][0]
