"""The engine looks, decides, acts through the API, and says what it did; a clock of its own, no cloud."""

from collections.abc import Iterable, Sequence
from typing import Any

from botocore.exceptions import ClientError

from local.cloud.scaling import Breach, Policy
from local.cloud.scaling_engine import Engine, Record

RESOURCE = "endpoint/flights/variant/AllTraffic"
TRACKING = {
    "PolicyName": "track",
    "PolicyType": "TargetTrackingScaling",
    "TargetTrackingScalingPolicyConfiguration": {
        "TargetValue": 10.0,
        "ScaleOutCooldown": 60,
        "ScaleInCooldown": 300,
    },
}


class Endpoint:
    """SageMaker's client of one endpoint, whose change of capacity is over when a test says so."""

    def __init__(self, instances: int) -> None:
        self.instances = self.wanted = instances
        self.status, self.calls, self.refuses = "InService", [], False

    def describe_endpoint(self, **request: str) -> Any:
        assert request == {"EndpointName": "flights"}
        variant = {
            "VariantName": "AllTraffic",
            "CurrentInstanceCount": self.instances,
            "DesiredInstanceCount": self.wanted,
        }
        return {"EndpointStatus": self.status, "ProductionVariants": [variant]}

    def update_endpoint_weights_and_capacities(self, **request: Any) -> None:
        self.calls.append(request)
        if self.refuses:
            error = {"Code": "ValidationException", "Message": "Cannot update in-progress endpoint"}
            raise ClientError({"Error": error}, "UpdateEndpointWeightsAndCapacities")
        self.wanted, self.status = (
            request["DesiredWeightsAndCapacities"][0]["DesiredInstanceCount"],
            "Updating",
        )

    def settle(self, *, fulfilled: bool = True) -> None:
        self.instances = self.wanted = self.wanted if fulfilled else self.instances
        self.status = "InService"


class Book:
    """One target from 1 to 5, one policy, and the alarms that a test sets."""

    def __init__(self) -> None:
        self.value: float | None = None
        self.scheduled: Record = {}
        self.target = {
            "ServiceNamespace": "sagemaker",
            "ResourceId": RESOURCE,
            "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
            "MinCapacity": 1,
            "MaxCapacity": 5,
        }

    def targets(self) -> Sequence[Record]:
        return [self.target]

    def policies(self, target: Record) -> Sequence[Record]:
        return [TRACKING]

    def breaches(self, record: Record, policy: Policy) -> Iterable[Breach]:
        if self.value is not None:
            above = self.value > 10
            yield Breach(policy, "high" if above else "low", self.value, 10 if above else 9, above)

    def run_scheduled(self, target: Record, now: float) -> str | None:
        if not self.scheduled:
            return None
        target |= self.scheduled
        self.scheduled = {}
        return "scheduled action name night was triggered"


def engine(instances: int = 2) -> tuple[Engine, Book, Endpoint]:
    book, endpoint = Book(), Endpoint(instances)
    return Engine(book, lambda: endpoint, lambda seconds: seconds / 60), book, endpoint


def test_a_breach_changes_the_variant_s_capacity_and_is_an_activity() -> None:
    scaling, book, endpoint = engine()
    book.value = 20
    scaling.tick(0)
    assert endpoint.calls == [
        {
            "EndpointName": "flights",
            "DesiredWeightsAndCapacities": [{"VariantName": "AllTraffic", "DesiredInstanceCount": 4}],
        }
    ]
    (activity,) = scaling.activities(RESOURCE)
    assert activity["Description"] == "Setting desired instance count to 4."
    assert activity["Cause"] == "monitor alarm high in state ALARM triggered policy track"
    assert activity["StatusCode"] == "InProgress"
    endpoint.settle()
    scaling.tick(0.1)
    assert activity["StatusCode"] == "Successful"
    assert activity["EndTime"] >= activity["StartTime"]


def test_while_the_endpoint_is_updated_nothing_is_asked_of_it() -> None:
    scaling, book, endpoint = engine()
    book.value, endpoint.status = 20, "Updating"
    scaling.tick(0)
    assert endpoint.calls == scaling.activities(RESOURCE) == []


def test_the_cooldown_begins_when_the_change_is_done_in_scaled_seconds() -> None:
    scaling, book, endpoint = engine(1)
    book.value = 20
    scaling.tick(0)
    scaling.tick(5)  # still updating
    endpoint.settle()
    scaling.tick(10)
    scaling.tick(10.9)
    assert len(endpoint.calls) == 1
    scaling.tick(11)  # 60 / 60 seconds later
    assert [it["DesiredWeightsAndCapacities"][0]["DesiredInstanceCount"] for it in endpoint.calls] == [2, 4]


def test_a_change_that_aws_refuses_is_a_failed_activity_and_is_tried_again() -> None:
    scaling, book, endpoint = engine()
    book.value, endpoint.refuses = 20, True
    scaling.tick(0)
    endpoint.refuses = False
    scaling.tick(1)
    assert [it["StatusCode"] for it in scaling.activities(RESOURCE)] == ["InProgress", "Failed"]
    assert "Cannot update in-progress endpoint" in scaling.activities(RESOURCE)[1]["StatusMessage"]


def test_a_change_that_was_rolled_back_is_a_failed_activity_without_cooldown() -> None:
    scaling, book, endpoint = engine()
    book.value = 20
    scaling.tick(0)
    endpoint.settle(fulfilled=False)
    scaling.tick(0.1)
    assert [it["StatusCode"] for it in scaling.activities(RESOURCE)] == ["InProgress", "Failed"]
    assert len(endpoint.calls) == 2


def test_a_scheduled_minimum_above_the_capacity_scales_out_during_a_cooldown() -> None:
    scaling, book, endpoint = engine(4)
    book.value = 2
    scaling.tick(0)
    endpoint.settle()
    scaling.tick(0.1)
    book.value, book.scheduled = None, {"MinCapacity": 3}
    scaling.tick(0.2)
    assert endpoint.wanted == 3
    assert scaling.activities(RESOURCE)[0]["Cause"] == "scheduled action name night was triggered"


def test_limits_that_were_registered_anew_act_by_themselves() -> None:
    scaling, book, endpoint = engine(4)
    book.target["MaxCapacity"] = 3
    scaling.tick(0)
    assert endpoint.wanted == 3
    assert scaling.activities(RESOURCE)[0]["Cause"] == "maximum capacity was set to 3"


def test_a_breach_at_the_maximum_is_told_once_with_its_reason() -> None:
    scaling, book, endpoint = engine(5)
    book.value = 20
    scaling.tick(0)
    scaling.tick(1)
    (activity,) = scaling.activities(RESOURCE)
    assert activity["NotScaledReasons"][0]["Code"] == "AlreadyAtMaxCapacity"
    assert endpoint.calls == []
