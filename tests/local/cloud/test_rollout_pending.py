"""An update under way: what is described, refused and measured meanwhile, and the events it sends."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.local.cloud.rollouts import Rollouts, canary, endpoint, listen, rollouts
from tests.local.cloud.test_stream import eventually

__all__ = ["endpoint", "rollouts"]


@pytest.fixture(scope="module")
def baking(rollouts: Rollouts) -> Iterator[tuple[str, str, str]]:
    """An endpoint in the long bake of its canary, its new configuration, and its alarm, which ends it at last."""
    name = rollouts.started(old := rollouts.serving(2))
    alarm = rollouts.alarm(name, "missing")
    rollouts.update(name, new := rollouts.serving(5), canary(bake=3600), alarm)
    rollouts.until(name, "Baking")
    yield name, new, alarm
    rollouts.ring(alarm)
    assert rollouts.settled(name)["EndpointConfigName"] == old
    rollouts.delete(name)


def test_the_pending_deployment_is_described_as_documented(
    rollouts: Rollouts, baking: tuple[str, str, str]
) -> None:
    name, new, alarm = baking
    found = rollouts.described(name)
    assert (found["EndpointStatus"], found["ProductionVariants"][0]["CurrentInstanceCount"]) == (
        "Updating",
        2,
    )
    assert found["LastDeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"] == [{"AlarmName": alarm}]
    pending = found["PendingDeploymentSummary"]
    assert pending["EndpointConfigName"] == new != found["EndpointConfigName"]
    (variant,) = pending["ProductionVariants"]
    (status,) = variant.pop("VariantStatus")
    assert status.pop("StartTime") > pending["StartTime"]
    assert status == {
        "Status": "Baking",
        "StatusMessage": "Baking for 3600 seconds (WaitIntervalInSeconds) with traffic enabled on canary "
        "capacity of 1 instance(s).",
    }
    assert variant == {
        "VariantName": "AllTraffic",
        "DeployedImages": [{"SpecifiedImage": "image:1", "ResolvedImage": "image:1"}],
        "CurrentWeight": 1.0,
        "DesiredWeight": 1.0,
        "CurrentInstanceCount": 1,
        "DesiredInstanceCount": 2,
        "InstanceType": "ml.m5.large",
    }


def test_it_cannot_be_updated_scaled_or_deleted(rollouts: Rollouts, baking: tuple[str, str, str]) -> None:
    name, new, _ = baking
    refused = f"Cannot update in-progress endpoint .*{name}"
    with pytest.raises(ClientError, match=refused):
        rollouts.update(name, new)
    with pytest.raises(ClientError, match=refused):
        rollouts.scale(name, 3)
    with pytest.raises(ClientError, match=refused):
        rollouts.sagemaker.delete_endpoint(EndpointName=name)
    assert rollouts.status(name).startswith("Baking")


def test_bad_requests_and_missing_data_do_not_roll_back(
    rollouts: Rollouts, baking: tuple[str, str, str]
) -> None:
    """Seen by the alarm that would take the update back."""
    name, _, alarm = baking
    with rollouts.load(name, "[") as load:
        assert eventually(lambda: rollouts.rings(name, "Invocation4XXErrors"))
        # Requests are data: none of them is an error of the server.
        assert eventually(lambda: rollouts.state(alarm) == "OK")
    assert set(load.failed) == {"ModelError"}
    assert eventually(lambda: rollouts.state(alarm) == "INSUFFICIENT_DATA", seconds=8)
    assert not eventually(lambda: not rollouts.status(name).startswith("Baking"), seconds=1)


def test_metrics_are_the_variant_s_and_the_fleet_s(rollouts: Rollouts, baking: tuple[str, str, str]) -> None:
    name, new, _ = baking
    old = rollouts.described(name)["EndpointConfigName"]
    for _ in range(20):
        rollouts.ask(name, "[1]")
    fleets = [rollouts.total(name, EndpointConfigName=config) for config in (old, new)]
    assert min(fleets) > 0
    assert rollouts.total(name) == sum(fleets)


def test_each_state_of_a_deployment_is_an_event_as_documented(
    rollouts: Rollouts, client: Callable[[str], Any], endpoint: str
) -> None:
    told = listen(client, {"source": ["aws.sagemaker"], "detail": {"EndpointName": [endpoint]}})
    before = rollouts.described(endpoint)["EndpointConfigName"]
    rollouts.update(endpoint, new := rollouts.serving(5), canary(bake=30, termination=30))
    rollouts.settled(endpoint)
    found = eventually(lambda: told(until="IN_SERVICE"), seconds=10)
    deployment = [
        it["detail"] for it in found if it["detail-type"] == "SageMaker Endpoint Deployment State Change"
    ]
    assert [status(detail) for detail in deployment] == [
        ("Creating", "Launching 2 instance(s)."),
        ("ActivatingTraffic", "Activating traffic on canary capacity of 1 instance(s)."),
        (
            "Baking",
            "Baking for 30 seconds (WaitIntervalInSeconds) with traffic enabled on canary capacity of 1 instance(s).",
        ),
        ("ActivatingTraffic", "Activating traffic on full capacity of 2 instance(s)."),
        (
            "Baking",
            "Baking for 30 seconds (TerminationWaitInSeconds) with traffic enabled on full capacity of 2 instance(s).",
        ),
        None,
    ]
    assert {detail["EndpointStatus"] for detail in deployment} == {"UPDATING"}
    assert {detail["EndpointConfigName"] for detail in deployment} == {before}
    pending = deployment[2]["PendingDeploymentSummary"]
    assert (pending["EndpointConfigName"], type(pending["StartTime"])) == (new, int)
    (retired,) = deployment[-1]["ProductionVariants"]
    assert retired["VariantStatus"][0]["StatusMessage"] == "Terminating 2 instance(s)."
    states = [it["detail"] for it in found if it["detail-type"] == "SageMaker Endpoint State Change"]
    assert [(it["EndpointStatus"], it["EndpointConfigName"]) for it in states] == [
        ("UPDATING", before),
        ("IN_SERVICE", new),
    ]


def status(detail: Mapping[str, Any]) -> tuple[str, str] | None:
    (variant,) = detail["PendingDeploymentSummary"]["ProductionVariants"]
    for found in variant.get("VariantStatus", []):
        return found["Status"], found["StatusMessage"]
    return None
