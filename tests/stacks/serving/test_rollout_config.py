"""Configuration → DeploymentConfig: each strategy, and the limits SageMaker sets for all of them."""

from typing import Any

import botocore.session
import hypothesis
from botocore.validate import ParamValidator
from hypothesis import strategies as st

from stacks import config
from stacks.serving.rollout import deployment_config
from tools.assembly import context

SERVING = context("sandbox")["stages"]["sandbox"]["serving"]


def configured(**changes: Any) -> config.ServingConfig:
    return config.ServingConfig.model_validate(SERVING | changes)


def rendered(settings: config.ServingConfig) -> dict[str, Any]:
    """The DeploymentConfig in the API's own names, without a synth: an L1 struct is what its constructor was given."""

    def plain(value: Any) -> Any:
        if isinstance(value, list):
            return [plain(item) for item in value]
        if not hasattr(value, "_values"):
            return value
        items = {key: plain(item) for key, item in value._values.items() if item is not None}
        return {"".join(part.title() for part in key.split("_")): item for key, item in items.items()}

    found: dict[str, Any] = plain(deployment_config(settings, ["errors", "latency"]))
    return found


def routing(settings: config.ServingConfig) -> dict[str, Any]:
    found: dict[str, Any] = rendered(settings)["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"]
    return found


def test_a_canary_takes_its_share_first() -> None:
    rollout = {"strategy": "CANARY", "canary_percent": 50, "wait_seconds": 300}
    assert routing(configured(rollout=rollout)) == {
        "Type": "CANARY",
        "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 50},
        "WaitIntervalInSeconds": 300,
    }


def test_a_linear_rollout_moves_in_equal_steps() -> None:
    rollout = {"strategy": "LINEAR", "step_percent": 25, "wait_seconds": 120}
    assert routing(configured(rollout=rollout)) == {
        "Type": "LINEAR",
        "LinearStepSize": {"Type": "CAPACITY_PERCENT", "Value": 25},
        "WaitIntervalInSeconds": 120,
    }


def test_all_at_once_has_no_size() -> None:
    rollout = {"strategy": "ALL_AT_ONCE", "wait_seconds": 600}
    assert routing(configured(rollout=rollout)) == {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 600}


def test_waits_time_out_and_alarms_are_passed_on() -> None:
    found = rendered(configured(termination_wait_seconds=90, timeout_seconds=1800))
    policy = found["BlueGreenUpdatePolicy"]
    assert policy["TerminationWaitInSeconds"] == 90
    assert policy["MaximumExecutionTimeoutInSeconds"] == 1800
    assert found["AutoRollbackConfiguration"] == {
        "Alarms": [{"AlarmName": "errors"}, {"AlarmName": "latency"}]
    }


ROLLOUTS = st.one_of(
    st.fixed_dictionaries(
        {
            "strategy": st.just("CANARY"),
            "canary_percent": st.integers(0, 60),
            "wait_seconds": st.integers(0, 4000),
        }
    ),
    st.fixed_dictionaries(
        {
            "strategy": st.just("LINEAR"),
            "step_percent": st.integers(0, 60),
            "wait_seconds": st.integers(0, 4000),
        }
    ),
    st.fixed_dictionaries({"strategy": st.just("ALL_AT_ONCE"), "wait_seconds": st.integers(0, 4000)}),
)
SHAPE = botocore.session.get_session().get_service_model("sagemaker").shape_for("DeploymentConfig")


@hypothesis.settings(deadline=None, max_examples=100, derandomize=True, database=None)
@hypothesis.given(
    rollout=ROLLOUTS,
    instances=st.integers(1, 12),
    termination=st.integers(0, 4000),
    timeout=st.integers(500, 30_000),
)
def test_whatever_the_configuration_accepts_keeps_every_limit_of_the_api(
    rollout: dict[str, Any], instances: int, termination: int, timeout: int
) -> None:
    """Sources: "CapacitySize", "BlueGreenUpdatePolicy" (API Reference); "Deployment guardrails" (Developer Guide)."""
    try:
        settings = configured(
            rollout=rollout,
            instance_count=instances,
            termination_wait_seconds=termination,
            timeout_seconds=timeout,
            autoscaling=SERVING["autoscaling"] | {"maximum_instances": 20},
        )
    except ValueError:
        hypothesis.reject()
    found = rendered(settings)
    assert not ParamValidator().validate(found, SHAPE).has_errors()
    policy = found["BlueGreenUpdatePolicy"]
    traffic = policy["TrafficRoutingConfiguration"]
    assert 600 <= policy["MaximumExecutionTimeoutInSeconds"] <= 28_800
    assert 0 <= traffic["WaitIntervalInSeconds"] <= 3600
    assert 0 <= policy["TerminationWaitInSeconds"] <= 3600
    if canary := traffic.get("CanarySize"):
        assert round(canary["Value"] * instances / 100) >= 1
        assert canary["Value"] <= 50
    if step := traffic.get("LinearStepSize"):
        assert 10 <= step["Value"] <= 50
    assert traffic["Type"] == "ALL_AT_ONCE" or instances >= 2
    waits = traffic["WaitIntervalInSeconds"] + policy["TerminationWaitInSeconds"]
    assert waits < policy["MaximumExecutionTimeoutInSeconds"]
