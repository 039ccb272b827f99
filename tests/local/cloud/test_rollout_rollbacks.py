"""The way back of an endpoint: what the alarms say, from which bake, and an old fleet that has to start again."""

import time
from pathlib import Path

import pytest

from local.cloud.place import Place
from tests.local.cloud.rollouts import BAKE, FAILING, Rollouts, canary, endpoint, once, rollouts, size
from tests.local.cloud.test_sagemaker_endpoints import servers
from tests.local.cloud.test_stream import eventually

__all__ = ["endpoint", "rollouts"]


def test_a_model_that_errors_is_taken_back_by_an_alarm(rollouts: Rollouts, endpoint: str) -> None:
    old = rollouts.described(endpoint)["EndpointConfigName"]
    alarm = rollouts.alarm(endpoint)
    with rollouts.load(endpoint) as load:
        rollouts.update(endpoint, rollouts.serving(5, program=FAILING), canary(bake=600), alarm)
        rollouts.until(endpoint, "canary capacity of 1 instance(s)")
        found = rollouts.settled(endpoint)
        ended = time.monotonic()
        time.sleep(0.3)
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", old)
    assert alarm in found["FailureReason"]
    assert set(load.failed) == {"ModelError"}
    assert set(load.counted(ended)) == {2.0}


def test_a_fault_that_shows_only_in_the_last_bake_is_taken_back(rollouts: Rollouts, endpoint: str) -> None:
    old = rollouts.described(endpoint)["EndpointConfigName"]
    alarm = rollouts.alarm(endpoint)
    rollouts.update(endpoint, rollouts.serving(5), canary(bake=0, termination=3600), alarm)
    rollouts.until(endpoint, "(TerminationWaitInSeconds) with traffic enabled on full capacity")
    assert rollouts.answers(endpoint) == {5.0}
    rollouts.ring(alarm)
    assert rollouts.settled(endpoint)["EndpointConfigName"] == old
    assert rollouts.answers(endpoint) == {2.0}


def test_an_alarm_that_rings_already_lets_no_request_reach_the_new_model(
    rollouts: Rollouts, endpoint: str
) -> None:
    old = rollouts.described(endpoint)["EndpointConfigName"]
    alarm = rollouts.alarm(endpoint, "breaching", "NeverPublished")
    assert eventually(lambda: rollouts.state(alarm) == "ALARM")
    with rollouts.load(endpoint) as load:
        rollouts.update(endpoint, rollouts.serving(5), canary(), alarm)
        found = rollouts.settled(endpoint)
    assert (found["EndpointConfigName"], set(load.counted())) == (old, {2.0})
    assert alarm in found["FailureReason"]


def test_an_alarm_that_comes_and_goes_between_two_looks_is_not_missed(
    rollouts: Rollouts, endpoint: str
) -> None:
    old = rollouts.described(endpoint)["EndpointConfigName"]
    alarm = rollouts.alarm(endpoint)
    assert eventually(lambda: rollouts.state(alarm) == "OK")
    rollouts.update(endpoint, rollouts.serving(5), canary(bake=3600), alarm)
    rollouts.until(endpoint, "Baking")
    for state in ("ALARM", "OK"):
        rollouts.cloudwatch.set_alarm_state(AlarmName=alarm, StateValue=state, StateReason="a test")
    assert rollouts.settled(endpoint)["EndpointConfigName"] == old


@pytest.mark.parametrize("how", ["denied", "deleted"])
def test_an_alarm_that_cannot_be_read_takes_the_update_back(
    rollouts: Rollouts, endpoint: str, how: str
) -> None:
    old, alarm = rollouts.described(endpoint)["EndpointConfigName"], rollouts.alarm(endpoint)
    rollouts.update(endpoint, rollouts.serving(5), canary(bake=3600), alarm)
    rollouts.until(endpoint, "Baking")
    if how == "denied":
        rollouts.client("iam").delete_role_policy(RoleName=rollouts.bucket, PolicyName="alarms")
    else:
        rollouts.cloudwatch.delete_alarms(AlarmNames=[alarm])
    found = rollouts.settled(endpoint)
    rollouts.allow_alarms()
    reason = {
        "denied": f"{rollouts.bucket}/SageMaker is not authorized to perform: cloudwatch:DescribeAlarms on resource: "
        f"arn:aws:cloudwatch:us-east-1:000000000000:alarm:{alarm}",
        "deleted": f"{alarm} does not exist any more",
    }
    assert found["EndpointConfigName"] == old
    assert reason[how] in found["FailureReason"]


def test_a_rolling_update_goes_back_batch_by_batch_without_a_failed_request(
    rollouts: Rollouts, cloud: Place
) -> None:
    others, name = servers(cloud), rollouts.started(rollouts.serving(2, 4))
    alarm, old = rollouts.alarm(name), rollouts.described(name)["EndpointConfigName"]
    one = {"MaximumBatchSize": size(1), "RollbackMaximumBatchSize": size(1)}
    with rollouts.load(name) as load:
        how = {"RollingUpdatePolicy": {**one, "WaitIntervalInSeconds": BAKE}}
        rollouts.update(name, rollouts.serving(5, 4), how, alarm)
        rollouts.until(name, "batch capacity of 3")  # two of the four are gone
        rollouts.ring(alarm)
        seen = set()
        while (found := rollouts.described(name))["EndpointStatus"] == "Updating":
            count = found["ProductionVariants"][0]["CurrentInstanceCount"]
            seen.add(count)
        ended = time.monotonic()
        time.sleep(0.3)
    assert load.failed == []
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", old)
    assert alarm in found["FailureReason"]
    assert 3 in seen  # between its two batches
    assert found["ProductionVariants"][0]["CurrentInstanceCount"] == 4
    assert set(load.counted(ended)) == {2.0}
    assert len(servers(cloud) - others) == 4
    rollouts.delete(name)


def test_a_rolling_update_that_cannot_go_back_serves_with_both_until_the_next_one(
    rollouts: Rollouts, tmp_path: Path
) -> None:
    broken, program = once(tmp_path)
    name = rollouts.started(rollouts.serving(2, program=program))
    alarm = rollouts.alarm(name)
    policy = {"MaximumBatchSize": size(1), "WaitIntervalInSeconds": 1800}
    with rollouts.load(name) as load:
        policy["WaitIntervalInSeconds"] = 30
        rollouts.update(name, rollouts.serving(5), {"RollingUpdatePolicy": policy}, alarm)
        rollouts.until(name, "full capacity")  # one of the old instances is gone
        broken.touch()
        rollouts.ring(alarm)
        found = rollouts.settled(name)
        assert found["EndpointStatus"] == "UpdateRollbackFailed", found
        assert "The rollback failed" in found["FailureReason"]
        counts = [variant["CurrentInstanceCount"] for variant in found["ProductionVariants"]]
        assert counts == [1, 2]
        mixed = time.monotonic()
        assert eventually(lambda: set(load.counted(mixed)) == {2.0, 5.0})
        rollouts.update(name, rollouts.serving(7))
        assert rollouts.settled(name)["EndpointStatus"] == "InService"
    assert load.failed == []
    assert rollouts.answers(name) == {7.0}
    rollouts.delete(name)
