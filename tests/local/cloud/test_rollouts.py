"""Updates of an endpoint as they happen: two fleets of processes, and which share of the traffic each has."""

import json
import uuid
from pathlib import Path

import pytest
from botocore.exceptions import ClientError

from local.cloud.place import Place
from tests.local.cloud.rollouts import Rollouts, blue_green, canary, endpoint, listen, once, rollouts, size
from tests.local.cloud.test_sagemaker_endpoints import servers
from tests.local.cloud.test_stream import eventually

__all__ = ["endpoint", "rollouts"]


def test_a_good_model_takes_over_by_canary_without_a_failed_request(
    rollouts: Rollouts, endpoint: str, cloud: Place
) -> None:
    new = rollouts.serving(5)
    with rollouts.load(endpoint) as load:
        rollouts.update(endpoint, new, canary(), rollouts.alarm(endpoint))
        shifted = rollouts.until(endpoint, "canary capacity of 1 instance(s)")
        full = rollouts.until(endpoint, "full capacity of 2 instance(s)")
        found = rollouts.settled(endpoint)
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", new)
    assert "PendingDeploymentSummary" not in found
    assert "FailureReason" not in found
    assert load.failed == []
    assert set(load.counted(shifted + 0.1, full - 0.3)) == {2.0, 5.0}
    assert set(load.counted(full + 0.1)) == {5.0}


STAGES = {
    "linear": (
        3,
        blue_green("LINEAR", bake=45, termination=45, LinearStepSize=size(1)),
        ["step capacity of 1", "step capacity of 2", "full capacity of 3"],
        6,
    ),
    "rolling": (
        3,
        {"RollingUpdatePolicy": {"MaximumBatchSize": size(1), "WaitIntervalInSeconds": 45}},
        ["batch capacity of 1", "batch capacity of 2", "full capacity of 3"],
        4,
    ),
    "all at once": (2, blue_green("ALL_AT_ONCE"), ["full capacity of 2"], 4),
}


@pytest.mark.parametrize("strategy", STAGES)
def test_each_strategy_shifts_in_its_steps_with_its_instances(
    rollouts: Rollouts, cloud: Place, strategy: str
) -> None:
    instances, how, steps, most = STAGES[strategy]
    others = servers(cloud)
    name, new = rollouts.started(rollouts.serving(2, instances)), rollouts.serving(5, instances)
    seen, ran = [], 0
    with rollouts.load(name) as load:
        rollouts.update(name, new, how)
        while (found := rollouts.described(name))["EndpointStatus"] == "Updating":
            (pending,) = found.get("PendingDeploymentSummary", {"ProductionVariants": [{}]})[
                "ProductionVariants"
            ]
            for status in pending.get("VariantStatus", []):
                if status["Status"] == "Baking" and status["StatusMessage"] not in seen:
                    seen.append(status["StatusMessage"])
            ran = max(ran, len(servers(cloud) - others))
    assert load.failed == []
    assert len(seen) == len(steps)
    assert all(step in message for step, message in zip(steps, seen, strict=True))
    assert ran == most
    assert found["EndpointConfigName"] == new
    assert len(servers(cloud) - others) == instances
    rollouts.delete(name)


def test_the_share_of_the_canary_is_that_of_its_instances(rollouts: Rollouts) -> None:
    """One of four: a quarter, within five standard deviations of what was sent."""
    name = rollouts.started(rollouts.serving(2, 4))
    with rollouts.load(name, clients=4, pause=0.0) as load:
        rollouts.update(name, rollouts.serving(5, 4), canary(bake=120, termination=30))
        shifted = rollouts.until(name, "Baking for 120 seconds (WaitIntervalInSeconds)")
        full = rollouts.until(name, "(TerminationWaitInSeconds)") - 0.3
        rollouts.settled(name)
    counted = load.counted(shifted, full)
    sent = counted.total()
    assert abs(counted[5.0] - sent / 4) < 5 * (sent * 3 / 16) ** 0.5
    rollouts.delete(name)


def test_scaling_starts_and_drains_instances_and_an_update_keeps_their_number(
    rollouts: Rollouts, cloud: Place, endpoint: str
) -> None:
    others = len(servers(cloud)) - 2
    told = listen(rollouts.client, {"source": ["aws.sagemaker"], "detail": {"EndpointName": [endpoint]}})
    with rollouts.load(endpoint) as load:
        rollouts.scale(endpoint, 3)
        (variant,) = rollouts.settled(endpoint)["ProductionVariants"]
        assert (variant["CurrentInstanceCount"], len(servers(cloud)) - others) == (3, 3)
        assert eventually(lambda: told(until="Scaling out desired instance count to 3."))
        rollouts.update(endpoint, rollouts.serving(5), canary(), RetainAllVariantProperties=True)
        rollouts.until(endpoint, "canary capacity of 1")
        pending = rollouts.described(endpoint)["PendingDeploymentSummary"]["ProductionVariants"][0]
        assert pending["DesiredInstanceCount"] == 3
        assert rollouts.settled(endpoint)["ProductionVariants"][0]["CurrentInstanceCount"] == 3
        rollouts.scale(endpoint, 1)
        assert rollouts.settled(endpoint)["ProductionVariants"][0]["CurrentInstanceCount"] == 1
    assert load.failed == []


def test_scaling_that_fails_keeps_what_runs(rollouts: Rollouts, tmp_path: Path) -> None:
    broken, program = once(tmp_path)
    name = rollouts.started(rollouts.serving(2, 1, program=program))
    broken.touch()
    rollouts.scale(name, 2)
    found = rollouts.settled(name)
    assert "did not pass the ping health check" in found["FailureReason"]
    assert found["ProductionVariants"][0]["CurrentInstanceCount"] == 1
    assert rollouts.answers(name) == {2.0}
    rollouts.delete(name)


def test_weights_and_the_target_variant_decide_who_answers(rollouts: Rollouts) -> None:
    variants = [
        {
            "VariantName": name,
            "ModelName": rollouts.model(rollouts.store(factor)),
            "InstanceType": "ml.m5.large",
            "InitialInstanceCount": 1,
            "InitialVariantWeight": weight,
        }
        for name, factor, weight in (("a", 2, 1), ("b", 5, 0))
    ]
    config = f"config-{uuid.uuid4().hex[:8]}"
    rollouts.sagemaker.create_endpoint_config(EndpointConfigName=config, ProductionVariants=variants)
    name = rollouts.started(config)
    assert rollouts.answers(name) == {2.0}
    assert json.loads(rollouts.ask(name, "[1]", TargetVariant="b")["Body"].read()) == {"predictions": [5.0]}
    rollouts.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=name,
        DesiredWeightsAndCapacities=[
            {"VariantName": "a", "DesiredWeight": 0},
            {"VariantName": "b", "DesiredWeight": 3},
        ],
    )
    assert [it["CurrentWeight"] for it in rollouts.settled(name)["ProductionVariants"]] == [0, 3]
    assert rollouts.answers(name) == {5.0}
    with pytest.raises(ClientError, match=r"ValidationException.*weights that are all 0"):
        rollouts.sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=name, DesiredWeightsAndCapacities=[{"VariantName": "b", "DesiredWeight": 0}]
        )
    assert rollouts.answers(name) == {5.0}
    with pytest.raises(ClientError, match="capacity of one variant can be updated at a time"):
        rollouts.sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=name,
            DesiredWeightsAndCapacities=[{"VariantName": it, "DesiredInstanceCount": 2} for it in ("a", "b")],
        )
    with pytest.raises(ClientError, match=r'variant name.* "c" is/are not present'):
        rollouts.sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=name, DesiredWeightsAndCapacities=[{"VariantName": "c", "DesiredWeight": 1}]
        )
    rollouts.delete(name)


def test_a_deployment_that_aws_refuses_changes_nothing(rollouts: Rollouts, endpoint: str) -> None:
    before = rollouts.described(endpoint)
    new = rollouts.serving(5)
    with pytest.raises(ClientError, match=r"ValidationException.*alarm.*nowhere.* do not exist"):
        rollouts.update(endpoint, new, canary(), "nowhere")
    with pytest.raises(ClientError, match=r"ValidationException.*CanarySize must be at most 50 %"):
        rollouts.update(endpoint, new, blue_green("CANARY", CanarySize=size(2)))
    with pytest.raises(ClientError, match=r"ValidationException.*only one update policy"):
        rollouts.update(endpoint, new, canary() | STAGES["rolling"][1])
    after = rollouts.described(endpoint)
    assert {**after, "ResponseMetadata": None} == {**before, "ResponseMetadata": None}
