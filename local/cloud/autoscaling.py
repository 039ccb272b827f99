"""Application Auto Scaling's API: targets, policies, scheduled actions and activities of SageMaker's variants.

What may register one is what AWS documents. `scaling` decides, `scaling_engine` acts.
"""

from __future__ import annotations

import datetime as dt
import threading
import time
import traceback
import uuid
from collections.abc import Iterable, Mapping

from local.cloud import clock, linked_role, protocol, scaling_alarms, types_scaling
from local.cloud.extensions import Cloud
from local.cloud.linked_role import LinkedRole
from local.cloud.place import ACCOUNT, REGION
from local.cloud.protocol import ApiError, Caller, Operation, arn
from local.cloud.scaling import Breach, Policy, flaws
from local.cloud.scaling_engine import TARGET, Engine, Record, steps_of
from local.cloud.scheduled_scaling import Scheduled

_SERVICE = "application-autoscaling"
_EVERY_SECONDS = 60  # the shortest period of the alarms that it answers to
_CONFIGURATIONS = {
    "TargetTrackingScaling": "TargetTrackingScalingPolicyConfiguration",
    "StepScaling": "StepScalingPolicyConfiguration",
}


def install(cloud: Cloud) -> None:
    """Serve the API, teach CloudFormation its two types, and scale once a minute until the cloud ends."""
    scaling = _Scaling(LinkedRole(cloud))
    protocol.register(_SERVICE, "AnyScaleFrontendService", scaling.operations())
    types_scaling.register()
    stopped = threading.Event()
    cloud.closing.callback(stopped.set)
    threading.Thread(target=scaling.run, args=(stopped,), name="autoscaling", daemon=True).start()


class _Scaling:
    """Records in the API's words, by what identifies them: the engine's book."""

    def __init__(self, linked: LinkedRole) -> None:
        self._lock = threading.Lock()
        self._linked, self._scheduled = linked, Scheduled()
        self._targets: dict[tuple[str, ...], Record] = {}
        self._policies: dict[tuple[str, ...], Record] = {}
        self._tags: dict[str, dict[str, str]] = {}
        self._engine = Engine(self, lambda: linked.client("sagemaker"), clock.scaled)

    def operations(self) -> dict[str, Operation]:
        return {
            "RegisterScalableTarget": self._register,
            "DescribeScalableTargets": self._describe_targets,
            "DeregisterScalableTarget": self._deregister,
            "PutScalingPolicy": self._put,
            "DescribeScalingPolicies": self._describe_policies,
            "DeleteScalingPolicy": self._delete,
            "PutScheduledAction": self._schedule,
            "DescribeScheduledActions": self._describe_scheduled,
            "DeleteScheduledAction": self._unschedule,
            "DescribeScalingActivities": self._describe_activities,
            "ListTagsForResource": self._list_tags,
        }

    def run(self, stopped: threading.Event) -> None:
        """Look at every target once a minute."""
        while not stopped.wait(max(0.5, clock.scaled(_EVERY_SECONDS))):
            try:
                self._engine.tick(time.time())
            except Exception:  # noqa: BLE001 - one target's failure ends no other one's scaling
                traceback.print_exc()

    def targets(self) -> list[Record]:
        return list(self._targets.values())

    def policies(self, target: Record) -> list[Record]:
        return [it for key, it in list(self._policies.items()) if key[:-1] == _key(target)]

    def breaches(self, record: Record, policy: Policy) -> Iterable[Breach]:
        return scaling_alarms.breaches(record, policy)

    def run_scheduled(self, target: Record, now: float) -> str | None:
        cause = None
        with self._lock:
            for action in self._scheduled.due(target["ResourceId"], now):
                target |= action["ScalableTargetAction"]
                cause = f"scheduled action name {action['ScheduledActionName']} was triggered"
        return cause

    def _register(self, caller: Caller, request: Record) -> Record:
        key, tags = _key(request), request.pop("Tags", {})
        with self._lock:
            old = self._targets.get(key)
            target: str = old["ScalableTargetARN"] if old else _target_arn()
            context = {f"aws:RequestTag/{name}": value for name, value in tags.items()}
            _authorize(caller, "RegisterScalableTarget", request, target, context)
            self._may_scale(caller, key)
            record = {
                "CreationTime": dt.datetime.now(dt.UTC),
                "RoleARN": linked_role.ARN,
                **(old or {}),
                **request,
            }
            if not {"MinCapacity", "MaxCapacity"} <= record.keys():
                raise ApiError(
                    "ValidationException", "MinCapacity and MaxCapacity are required for a new target."
                )
            if record["MinCapacity"] > record["MaxCapacity"]:
                raise ApiError("ValidationException", "Maximum capacity cannot be less than minimum capacity")
            self._targets[key] = record | {"ScalableTargetARN": target}
            self._tags.setdefault(target, {}).update(tags)
        return {"ScalableTargetARN": target}

    def _may_scale(self, caller: Caller, key: tuple[str, ...]) -> None:
        """What the caller needs besides ("Identity-based policy examples"), and the first time for the linked role."""
        endpoint = arn("sagemaker", "/".join(key[1].split("/")[:2]))
        caller.authorize("sagemaker:DescribeEndpoint", endpoint)
        caller.authorize("sagemaker:UpdateEndpointWeightsAndCapacities", endpoint)
        self._linked.ensure(caller)

    def _describe_targets(self, caller: Caller, request: Record) -> Record:
        caller.authorize(f"{_SERVICE}:DescribeScalableTargets", "*")
        wanted = request.get("ResourceIds")
        found = [
            it
            for it in self._targets.values()
            if _fits(it, request) and it["ResourceId"] in (wanted or [it["ResourceId"]])
        ]
        return {"ScalableTargets": found}

    def _deregister(self, caller: Caller, request: Record) -> None:
        with self._lock:
            target = self._target(request)
            _authorize(caller, "DeregisterScalableTarget", request, target["ScalableTargetARN"])
            del self._targets[_key(request)]
            self._tags.pop(target["ScalableTargetARN"], None)
            self._scheduled.remove(target["ResourceId"])
            for key in [key for key in self._policies if key[:-1] == _key(request)]:
                scaling_alarms.remove(self._linked.client("cloudwatch"), self._policies.pop(key)["Alarms"])

    def _put(self, caller: Caller, request: Record) -> Record:
        with self._lock:
            _authorize(caller, "PutScalingPolicy", request, self._target(request)["ScalableTargetARN"])
            key = (*_key(request), request["PolicyName"])
            old = self._policies.get(key, {})
            record = {"CreationTime": dt.datetime.now(dt.UTC), "Alarms": [], **old, **request}
            record.setdefault("PolicyARN", _policy_arn(request))
            configuration = _configuration(record)
            if record["PolicyType"] == "TargetTrackingScaling":
                caller.authorize("cloudwatch:PutMetricAlarm", _alarms(request))
                record["Alarms"] = scaling_alarms.put(self._linked.client("cloudwatch"), record)
            elif flaw := next(flaws(steps_of(configuration)), None):
                raise ApiError("ValidationException", flaw)
            self._policies[key] = record
        return {"PolicyARN": record["PolicyARN"], "Alarms": record["Alarms"]}

    def _describe_policies(self, caller: Caller, request: Record) -> Record:
        caller.authorize(f"{_SERVICE}:DescribeScalingPolicies", "*")
        named, resource = request.get("PolicyNames"), request.get("ResourceId")
        found = [
            it | {"Alarms": scaling_alarms.of(it["PolicyARN"])}
            for it in self._policies.values()
            if _fits(it, request)
            and it["PolicyName"] in (named or [it["PolicyName"]])
            and resource in {None, it["ResourceId"]}
        ]
        return {"ScalingPolicies": found}

    def _delete(self, caller: Caller, request: Record) -> None:
        with self._lock:
            _authorize(caller, "DeleteScalingPolicy", request, self._target(request)["ScalableTargetARN"])
            key = (*_key(request), request["PolicyName"])
            if key not in self._policies:
                raise _unknown("No scaling policy found", request)
            if found := self._policies[key]["Alarms"]:
                caller.authorize("cloudwatch:DeleteAlarms", _alarms(request))
                scaling_alarms.remove(self._linked.client("cloudwatch"), found)
            del self._policies[key]

    def _schedule(self, caller: Caller, request: Record) -> None:
        with self._lock:
            target = self._target(request)["ScalableTargetARN"]
            _authorize(caller, "PutScheduledAction", request, target)
            self._scheduled.put(request)

    def _describe_scheduled(self, caller: Caller, request: Record) -> Record:
        caller.authorize(f"{_SERVICE}:DescribeScheduledActions", "*")
        found = self._scheduled.of(request.get("ResourceId"), request.get("ScheduledActionNames", []))
        return {"ScheduledActions": found}

    def _unschedule(self, caller: Caller, request: Record) -> None:
        with self._lock:
            target = self._target(request)
            _authorize(caller, "DeleteScheduledAction", request, target["ScalableTargetARN"])
            if not self._scheduled.remove(target["ResourceId"], request["ScheduledActionName"]):
                raise _unknown("No scheduled action found", request)

    def _describe_activities(self, caller: Caller, request: Record) -> Record:
        caller.authorize(f"{_SERVICE}:DescribeScalingActivities", "*")
        wanted = (
            [request["ResourceId"]]
            if "ResourceId" in request
            else [it["ResourceId"] for it in self.targets()]
        )
        found = [it for resource in wanted for it in self._engine.activities(resource)]
        also = request.get("IncludeNotScaledActivities", False)
        return {"ScalingActivities": [it for it in found if also or "NotScaledReasons" not in it]}

    def _list_tags(self, caller: Caller, request: Record) -> Record:
        target = request["ResourceARN"]
        caller.authorize(f"{_SERVICE}:ListTagsForResource", target)
        if target not in self._tags:
            raise ApiError("ResourceNotFoundException", f"{target} was not found.")
        return {"Tags": self._tags[target]}

    def _target(self, request: Record) -> Record:
        found = self._targets.get(_key(request))
        if found is None:
            raise _unknown("No scalable target registered", request)
        return found


def _authorize(
    caller: Caller, action: str, request: Record, target: str, tags: Mapping[str, str] | None = None
) -> None:
    """Ask for a change, with the keys by which a policy knows what is scaled: a target's ARN does not say it."""
    keys = {
        f"{_SERVICE}:service-namespace": request["ServiceNamespace"],
        f"{_SERVICE}:scalable-dimension": request["ScalableDimension"],
    }
    caller.authorize(f"{_SERVICE}:{action}", target, keys | dict(tags or {}))


def _key(request: Record) -> tuple[str, ...]:
    key = tuple(str(request[name]) for name in TARGET)
    if key[0] != "sagemaker" or key[2] != "sagemaker:variant:DesiredInstanceCount":
        raise ApiError(
            "ValidationException", "Only variants of SageMaker endpoints are scalable in the embedded cloud."
        )
    return key


def _configuration(record: Record) -> Record:
    """The configuration of a policy's kind; `ApiError` if it has none, or is of a kind that is missing here."""
    kind = record.get("PolicyType", "StepScaling")
    if kind not in _CONFIGURATIONS:
        raise ApiError("ValidationException", f"{kind} is unsupported in the embedded cloud.")
    record["PolicyType"] = kind
    if _CONFIGURATIONS[kind] not in record:
        raise ApiError("ValidationException", f"{_CONFIGURATIONS[kind]} is required for {kind}.")
    found: Record = record[_CONFIGURATIONS[kind]]
    if kind == "StepScaling" and "AdjustmentType" not in found:
        raise ApiError("ValidationException", "AdjustmentType is required for a new step scaling policy.")
    return found


def _fits(record: Record, request: Record) -> bool:
    dimension = request.get("ScalableDimension")
    return record["ServiceNamespace"] == request["ServiceNamespace"] and dimension in {
        None,
        record["ScalableDimension"],
    }


def _unknown(what: str, request: Record) -> ApiError:
    namespace, resource, dimension = (request[name] for name in TARGET)
    return ApiError(
        "ObjectNotFoundException",
        f"{what} for service namespace: {namespace}, resource ID: {resource}, scalable dimension: {dimension}",
    )


def _target_arn() -> str:
    return arn(_SERVICE, f"scalable-target/{uuid.uuid4().hex[:16]}")


def _policy_arn(request: Record) -> str:
    namespace, resource, _ = (request[name] for name in TARGET)
    return (
        f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:scalingPolicy:{uuid.uuid4()}:"
        f"resource/{namespace}/{resource}:policyName/{request['PolicyName']}"
    )


def _alarms(request: Record) -> str:
    """Target tracking keeps two alarms of this name and a suffix, for which the caller needs permission."""
    return arn("cloudwatch", f"alarm:TargetTracking-{request['ResourceId']}-AlarmHigh")
