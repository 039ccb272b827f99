"""Application Auto Scaling at work: once a minute it looks at each target's alarms and schedules, decides, and acts.

What it does to an endpoint it does by `UpdateEndpointWeightsAndCapacities`, with the service-linked role; while the
endpoint is being updated it waits, as on AWS ("Update endpoints that use auto scaling"). Times are seconds of a clock.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

from botocore.exceptions import ClientError

from local.cloud.scaling import (
    Breach,
    Cooldown,
    Decision,
    Policy,
    State,
    Step,
    Stepping,
    Tracking,
    after,
    decide,
)

Record = dict[str, Any]
_Began = tuple[Record, Decision, State]
_KEPT = 100  # activities of a target; AWS keeps those of six weeks
TARGET = ("ServiceNamespace", "ResourceId", "ScalableDimension")


class Book(Protocol):
    """What is registered: records in the API's words."""

    def targets(self) -> Sequence[Record]:
        """The scalable targets."""

    def policies(self, target: Record) -> Sequence[Record]:
        """The policies of one."""

    def breaches(self, record: Record, policy: Policy) -> Iterable[Breach]:
        """The alarms in ALARM that name the policy of this record."""

    def run_scheduled(self, target: Record, now: float) -> str | None:
        """Set the limits of the scheduled actions that are due; the cause, if one was."""


@dataclasses.dataclass
class _Watched:
    """One target: its cool-downs, and what it does now."""

    outs: dict[str, Cooldown] = dataclasses.field(default_factory=dict)
    in_until: float = float("-inf")
    began: _Began | None = None
    cause: str | None = None  # of limits that have changed
    activities: list[Record] = dataclasses.field(default_factory=list)


class Engine:
    """Decides for every target of a book; `client()` is SageMaker's, as the service-linked role."""

    def __init__(self, book: Book, client: Callable[[], Any], scaled: Callable[[float], float]) -> None:
        self._book, self._client, self._scaled = book, client, scaled
        self._watched: dict[str, _Watched] = {}

    def activities(self, resource: str) -> list[Record]:
        """The activities of a resource, newest first."""
        return list(self._watched[resource].activities) if resource in self._watched else []

    def tick(self, now: float) -> None:
        """Look at every target once."""
        for target in self._book.targets():
            try:
                self._look(target, self._watched.setdefault(target["ResourceId"], _Watched()), now)
            except ClientError as error:  # an endpoint that is not there (yet, or any more) cannot be scaled
                print(f"{target['ResourceId']}: not scaled: {error}", flush=True)

    def _look(self, target: Record, watched: _Watched, now: float) -> None:
        watched.cause = self._book.run_scheduled(target, now) or watched.cause
        endpoint, variant = variant_of(target["ResourceId"])
        described = self._client().describe_endpoint(EndpointName=endpoint)
        found = [
            *described.get("ProductionVariants", []),
            *described.get("ShadowProductionVariants", []),
        ]
        running = [it for it in found if it["VariantName"] == variant and "CurrentInstanceCount" in it]
        if described["EndpointStatus"] != "InService" or not running:
            return
        capacity = running[0]["CurrentInstanceCount"]
        if watched.began:
            self._finish(watched, watched.began, capacity, now)
        state = State(
            capacity, target["MinCapacity"], target["MaxCapacity"], dict(watched.outs), watched.in_until
        )
        records = self._book.policies(target)
        policies = [policy_of(record, self._scaled) for record in records]
        breaches = [
            breach
            for record, policy in zip(records, policies, strict=True)
            for breach in self._book.breaches(record, policy)
        ]
        decision = decide(policies, breaches, state, now)
        if decision is None:
            watched.cause = None  # it changed nothing
            return
        activity = _activity(target, decision, state, watched.cause)
        if decision.not_scaled:
            _remember(watched, activity)
            return
        watched.activities.insert(0, activity)
        del watched.activities[_KEPT:]
        self._act(endpoint, variant, decision, activity)
        watched.cause = None
        if activity["StatusCode"] == "InProgress":
            watched.began = activity, decision, state

    def _act(self, endpoint: str, variant: str, decision: Decision, activity: Record) -> None:
        wanted = {"VariantName": variant, "DesiredInstanceCount": decision.capacity}
        try:
            self._client().update_endpoint_weights_and_capacities(
                EndpointName=endpoint, DesiredWeightsAndCapacities=[wanted]
            )
        except ClientError as error:
            _end(
                activity,
                "Failed",
                f"Failed to set desired instance count to {decision.capacity}. Reason: {error}",
            )

    @staticmethod
    def _finish(watched: _Watched, began: _Began, capacity: int, now: float) -> None:
        """The endpoint is in service again: a cool-down begins if it got what was wanted."""
        activity, decision, state = began
        watched.began = None
        said = f"set desired instance count to {decision.capacity}."
        if capacity != decision.capacity:
            _end(activity, "Failed", f"Failed to {said} The endpoint has {capacity}.")
            return
        _end(activity, "Successful", f"Successfully {said} Change successfully fulfilled by sagemaker.")
        cooled = after(decision, state, now)
        watched.outs, watched.in_until = dict(cooled.outs), cooled.in_until


def variant_of(resource: str) -> tuple[str, str]:
    """Endpoint and variant of "endpoint/NAME/variant/NAME"."""
    _, endpoint, _, variant = resource.split("/")
    return endpoint, variant


def policy_of(record: Record, scaled: Callable[[float], float]) -> Policy:
    """A policy's record as `scaling` reads it; `scaled` gives a cool-down in seconds of this cloud's clock."""
    name = record["PolicyName"]
    if record["PolicyType"] == "TargetTrackingScaling":
        given = record["TargetTrackingScalingPolicyConfiguration"]
        return Tracking(
            name,
            given["TargetValue"],
            scaled(given.get("ScaleOutCooldown", Tracking.out_cooldown)),
            scaled(given.get("ScaleInCooldown", Tracking.in_cooldown)),
            not given.get("DisableScaleIn", False),
        )
    given = record["StepScalingPolicyConfiguration"]
    return Stepping(
        name,
        given["AdjustmentType"],
        steps_of(given),
        scaled(given.get("Cooldown", Stepping.cooldown)),
        given.get("MinAdjustmentMagnitude", 0),
    )


def steps_of(configuration: Record) -> tuple[Step, ...]:
    """The steps of a `StepScalingPolicyConfiguration`."""
    return tuple(
        Step(it.get("MetricIntervalLowerBound"), it.get("MetricIntervalUpperBound"), it["ScalingAdjustment"])
        for it in configuration.get("StepAdjustments", [])
    )


def _activity(target: Record, decision: Decision, state: State, cause: str | None) -> Record:
    breach = decision.breach
    if breach:
        cause = f"monitor alarm {breach.alarm} in state ALARM triggered policy {breach.policy.name}"
    elif cause is None:
        side, limit = (
            ("minimum", state.minimum) if decision.capacity > state.capacity else ("maximum", state.maximum)
        )
        cause = f"{side} capacity was set to {limit}"
    activity = {
        "ActivityId": str(uuid.uuid4()),
        **{name: target[name] for name in TARGET},
        "Description": f"Setting desired instance count to {decision.capacity}.",
        "Cause": cause,
        "StartTime": dt.datetime.now(dt.UTC),
        "StatusCode": "InProgress",
    }
    if decision.not_scaled:
        reason = {"Code": decision.not_scaled, "CurrentCapacity": state.capacity}
        reason |= {"MaxCapacity": state.maximum, "MinCapacity": state.minimum}
        activity |= {
            "Description": "Attempting to scale due to alarm triggered",
            "NotScaledReasons": [reason],
        }
        _end(activity, "Failed", None)
    return activity


def _end(activity: Record, status: str, message: str | None) -> None:
    activity |= {"StatusCode": status, "EndTime": dt.datetime.now(dt.UTC)}
    if message:
        activity["StatusMessage"] = message


def _remember(watched: _Watched, activity: Record) -> None:
    """Keep an activity that scaled nothing, once as long as its cause stays the same."""
    newest = watched.activities[0] if watched.activities else {}
    if (newest.get("Cause"), newest.get("NotScaledReasons")) != (
        activity["Cause"],
        activity["NotScaledReasons"],
    ):
        watched.activities.insert(0, activity)
        del watched.activities[_KEPT:]
