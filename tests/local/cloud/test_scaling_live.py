"""A fleet grows under load and shrinks when it is over, by the template's own policy and its alarms, and says so."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.local.cloud.test_sagemaker_endpoints import Hosting
from tests.local.cloud.test_stream import eventually
from tools.assembly import Assembly


@pytest.fixture(scope="module")
def hosting(client: Callable[[str], Any]) -> Hosting:
    return Hosting(client)


@contextlib.contextmanager
def load(hosting: Hosting, name: str, pause: float) -> Iterator[None]:
    """One request after the other, `pause` seconds between them."""
    over = threading.Event()

    def ask() -> None:
        while not over.wait(pause):
            hosting.ask(name)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


@pytest.mark.deep  # test_rollouts and test_autoscaling have its halves
def test_target_tracking_scales_out_under_load_and_in_when_it_is_over(
    hosting: Hosting, assembly: Callable[[str], Assembly]
) -> None:
    serving = assembly("sandbox").template("Serving")
    policy = serving.only("AWS::ApplicationAutoScaling::ScalingPolicy")["Properties"]
    name = hosting.endpoint(hosting.config(hosting.model(hosting.store())))
    assert hosting.settled(name)["EndpointStatus"] == "InService"
    scaling = hosting.client("application-autoscaling")
    key = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{name}/variant/AllTraffic",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    scaling.register_scalable_target(**key, MinCapacity=1, MaxCapacity=2)
    scaling.put_scaling_policy(
        **key,
        PolicyName=policy["PolicyName"],
        PolicyType=policy["PolicyType"],
        TargetTrackingScalingPolicyConfiguration={
            **policy["TargetTrackingScalingPolicyConfiguration"],
            "TargetValue": 4.0,  # requests a minute, which is a second here: fewer than the template's
        },
    )

    def instances() -> int:
        (variant,) = hosting.sagemaker.describe_endpoint(EndpointName=name)["ProductionVariants"]
        return int(variant["CurrentInstanceCount"])

    with load(hosting, name, 0.03):
        assert eventually(lambda: instances() == 2, 30)
    with load(hosting, name, 0.8):  # silence would be no data, by which nothing is scaled
        assert eventually(lambda: instances() == 1, 60)
    hosting.settled(name)
    time.sleep(1.5)  # the engine looks once more
    told = scaling.describe_scaling_activities(ServiceNamespace="sagemaker", ResourceId=key["ResourceId"])
    done = [it for it in told["ScalingActivities"] if it["StatusCode"] == "Successful"]
    assert [it["Description"][-2:] for it in done] == ["1.", "2."]
    assert "-AlarmHigh-" in done[-1]["Cause"]
    scaling.deregister_scalable_target(**key)
    hosting.delete(name)
