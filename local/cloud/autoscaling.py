"""Application Auto Scaling: targets and policies, stored and described. Nothing acts on them yet.

Only variants of SageMaker endpoints are scalable here; what may register one is what AWS documents.
"""

from __future__ import annotations

import datetime as dt
import threading
import uuid
from typing import Any

from local.cloud import protocol, resources
from local.cloud.extensions import Cloud
from local.cloud.place import ACCOUNT, REGION
from local.cloud.protocol import ApiError, Caller, Operation, arn
from local.cloud.resources import Properties, Request
from local.cloud.sagemaker.types import parameters

Record = dict[str, Any]
_KEY = ("ServiceNamespace", "ResourceId", "ScalableDimension")
_SERVICE = "application-autoscaling"
_LINKED = "sagemaker.application-autoscaling.amazonaws.com"
_LINKED_ROLE = f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/{_LINKED}/AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"


def install(_cloud: Cloud) -> None:
    """Serve the API, and teach CloudFormation its two types."""
    protocol.register(_SERVICE, "AnyScaleFrontendService", _Scaling().operations())
    resources.register(
        "AWS::ApplicationAutoScaling::ScalableTarget",
        create=_create_target,
        update=_update_target,
        delete=_delete_target,
        attributes=lambda physical_id, _: {"Id": physical_id},
        replacing=_KEY,
        tags=("Tags", "list"),
    )
    resources.register(
        "AWS::ApplicationAutoScaling::ScalingPolicy",
        create=_put_policy,
        update=lambda _arn, request, _old: _put_policy(request),
        delete=_delete_policy,
        attributes=lambda physical_id, _: {"Arn": physical_id},
        replacing=("PolicyName", "ScalingTargetId", *_KEY),
    )


class _Scaling:
    """Records in the API's words, by what identifies them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._targets: dict[tuple[str, ...], Record] = {}
        self._policies: dict[tuple[str, ...], Record] = {}
        self._tags: dict[str, dict[str, str]] = {}
        self._linked = False

    def operations(self) -> dict[str, Operation]:
        return {
            "RegisterScalableTarget": self._register,
            "DescribeScalableTargets": self._describe_targets,
            "DeregisterScalableTarget": self._deregister,
            "PutScalingPolicy": self._put,
            "DescribeScalingPolicies": self._describe_policies,
            "DeleteScalingPolicy": self._delete,
            "ListTagsForResource": self._list_tags,
        }

    def _register(self, caller: Caller, request: Record) -> Record:
        key, tags = _key(request), request.pop("Tags", {})
        with self._lock:
            old = self._targets.get(key)
            target: str = old["ScalableTargetARN"] if old else _target_arn()
            context = {f"aws:RequestTag/{name}": value for name, value in tags.items()}
            caller.authorize(f"{_SERVICE}:RegisterScalableTarget", target, context)
            self._may_scale(caller, key)
            record = {
                "CreationTime": dt.datetime.now(dt.UTC),
                "RoleARN": _LINKED_ROLE,
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
        if not self._linked:
            caller.authorize("iam:CreateServiceLinkedRole", _LINKED_ROLE, {"iam:AWSServiceName": _LINKED})
            self._linked = True

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
            caller.authorize(f"{_SERVICE}:DeregisterScalableTarget", target["ScalableTargetARN"])
            del self._targets[_key(request)]
            self._tags.pop(target["ScalableTargetARN"], None)
            for key in [key for key in self._policies if key[:-1] == _key(request)]:
                del self._policies[key]

    def _put(self, caller: Caller, request: Record) -> Record:
        with self._lock:
            caller.authorize(f"{_SERVICE}:PutScalingPolicy", self._target(request)["ScalableTargetARN"])
            if request.get("PolicyType") != "TargetTrackingScaling":
                raise ApiError(
                    "ValidationException", "Only TargetTrackingScaling is supported in the embedded cloud."
                )
            caller.authorize("cloudwatch:PutMetricAlarm", _alarms(request))
            key = (*_key(request), request["PolicyName"])
            old = self._policies.get(key)
            policy = old["PolicyARN"] if old else _policy_arn(request)
            created = old["CreationTime"] if old else dt.datetime.now(dt.UTC)
            self._policies[key] = request | {"PolicyARN": policy, "CreationTime": created, "Alarms": []}
        return {"PolicyARN": policy, "Alarms": []}

    def _describe_policies(self, caller: Caller, request: Record) -> Record:
        caller.authorize(f"{_SERVICE}:DescribeScalingPolicies", "*")
        named, resource = request.get("PolicyNames"), request.get("ResourceId")
        found = [
            it
            for it in self._policies.values()
            if _fits(it, request)
            and it["PolicyName"] in (named or [it["PolicyName"]])
            and resource in {None, it["ResourceId"]}
        ]
        return {"ScalingPolicies": found}

    def _delete(self, caller: Caller, request: Record) -> None:
        with self._lock:
            caller.authorize(f"{_SERVICE}:DeleteScalingPolicy", self._target(request)["ScalableTargetARN"])
            key = (*_key(request), request["PolicyName"])
            if key not in self._policies:
                raise _unknown("No scaling policy found", request)
            caller.authorize("cloudwatch:DeleteAlarms", _alarms(request))
            del self._policies[key]

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


def _key(request: Record) -> tuple[str, ...]:
    key = tuple(str(request[name]) for name in _KEY)
    if key[0] != "sagemaker" or key[2] != "sagemaker:variant:DesiredInstanceCount":
        raise ApiError(
            "ValidationException", "Only variants of SageMaker endpoints are scalable in the embedded cloud."
        )
    return key


def _fits(record: Record, request: Record) -> bool:
    dimension = request.get("ScalableDimension")
    return record["ServiceNamespace"] == request["ServiceNamespace"] and dimension in {
        None,
        record["ScalableDimension"],
    }


def _unknown(what: str, request: Record) -> ApiError:
    namespace, resource, dimension = (request[name] for name in _KEY)
    return ApiError(
        "ObjectNotFoundException",
        f"{what} for service namespace: {namespace}, resource ID: {resource}, scalable dimension: {dimension}",
    )


def _target_arn() -> str:
    return arn(_SERVICE, f"scalable-target/{uuid.uuid4().hex[:16]}")


def _policy_arn(request: Record) -> str:
    namespace, resource, _ = (request[name] for name in _KEY)
    return (
        f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:scalingPolicy:{uuid.uuid4()}:"
        f"resource/{namespace}/{resource}:policyName/{request['PolicyName']}"
    )


def _alarms(request: Record) -> str:
    """Target tracking keeps two alarms of this name and a suffix, for which the caller needs permission."""
    return arn("cloudwatch", f"alarm:TargetTracking-{request['ResourceId']}-AlarmHigh")


def _create_target(request: Request) -> str:
    _update_target("", request, {})
    resource, dimension, namespace = (
        request.properties[name] for name in ("ResourceId", "ScalableDimension", "ServiceNamespace")
    )
    return f"{resource}|{dimension}|{namespace}"


def _update_target(_id: str, request: Request, _old: Properties) -> None:
    client = request.client(_SERVICE)
    tags = {tag["Key"]: tag["Value"] for tag in request.properties.get("Tags", [])}
    given = request.properties | {"Tags": tags}  # a list in templates, a map in the API
    client.register_scalable_target(**parameters(client, "RegisterScalableTarget", given))


def _delete_target(_id: str, request: Request) -> None:
    client = request.client(_SERVICE)
    try:
        client.deregister_scalable_target(**{name: request.properties[name] for name in _KEY})
    except client.exceptions.ObjectNotFoundException:
        return


def _put_policy(request: Request) -> str:
    client = request.client(_SERVICE)
    given = {key: value for key, value in request.properties.items() if key != "ScalingTargetId"}
    arguments = parameters(client, "PutScalingPolicy", given | _of_target(request.properties))
    policy: str = client.put_scaling_policy(**arguments)["PolicyARN"]
    return policy


def _delete_policy(_arn: str, request: Request) -> None:
    client = request.client(_SERVICE)
    try:
        client.delete_scaling_policy(
            PolicyName=request.properties["PolicyName"], **_of_target(request.properties)
        )
    except client.exceptions.ObjectNotFoundException:
        return


def _of_target(properties: Properties) -> Properties:
    """What names the target: three properties, or the one id that Ref of a target gives."""
    if target := properties.get("ScalingTargetId"):
        resource, dimension, namespace = target.split("|")
        return {"ServiceNamespace": namespace, "ResourceId": resource, "ScalableDimension": dimension}
    return {name: properties[name] for name in _KEY}
