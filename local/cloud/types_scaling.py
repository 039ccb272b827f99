"""The CloudFormation types of Application Auto Scaling: each call of one is a call of the API."""

from __future__ import annotations

from typing import Any

from local.cloud import resources
from local.cloud.resources import Properties, Request
from local.cloud.sagemaker.types import parameters
from local.cloud.scaling_engine import TARGET

_SERVICE = "application-autoscaling"


def register() -> None:
    """Teach CloudFormation the two types."""
    resources.register(
        "AWS::ApplicationAutoScaling::ScalableTarget",
        create=_create_target,
        update=_update_target,
        delete=_delete_target,
        attributes=lambda physical_id, _: {"Id": physical_id},
        replacing=TARGET,
        tags=("Tags", "list"),
    )
    resources.register(
        "AWS::ApplicationAutoScaling::ScalingPolicy",
        create=_put_policy,
        update=lambda _arn, request, _old: _put_policy(request),
        delete=_delete_policy,
        attributes=lambda physical_id, _: {"Arn": physical_id},
        replacing=("PolicyName", "ScalingTargetId", *TARGET),
    )


def _create_target(request: Request) -> str:
    _update_target("", request, {})
    resource, dimension, namespace = (
        request.properties[name] for name in ("ResourceId", "ScalableDimension", "ServiceNamespace")
    )
    return f"{resource}|{dimension}|{namespace}"


def _update_target(_id: str, request: Request, old: Properties) -> None:
    client, key = request.client(_SERVICE), _of_target(request.properties)
    tags = {tag["Key"]: tag["Value"] for tag in request.properties.get("Tags", [])}
    given = {name: value for name, value in request.properties.items() if name != "ScheduledActions"}
    given["Tags"] = tags  # a list in templates, a map in the API
    client.register_scalable_target(**parameters(client, "RegisterScalableTarget", given))
    actions = request.properties.get("ScheduledActions", [])
    for action in actions:
        client.put_scheduled_action(**parameters(client, "PutScheduledAction", action | key))
    kept = {action["ScheduledActionName"] for action in actions}
    for action in old.get("ScheduledActions", []):
        if action["ScheduledActionName"] not in kept:
            client.delete_scheduled_action(ScheduledActionName=action["ScheduledActionName"], **key)


def _delete_target(_id: str, request: Request) -> None:
    _unless_gone(request, "deregister_scalable_target", _of_target(request.properties))


def _put_policy(request: Request) -> str:
    client = request.client(_SERVICE)
    given = {key: value for key, value in request.properties.items() if key != "ScalingTargetId"}
    arguments = parameters(client, "PutScalingPolicy", given | _of_target(request.properties))
    policy: str = client.put_scaling_policy(**arguments)["PolicyARN"]
    return policy


def _delete_policy(_arn: str, request: Request) -> None:
    named = {"PolicyName": request.properties["PolicyName"]}
    _unless_gone(request, "delete_scaling_policy", named | _of_target(request.properties))


def _unless_gone(request: Request, operation: str, arguments: dict[str, Any]) -> None:
    client = request.client(_SERVICE)
    try:
        getattr(client, operation)(**arguments)
    except client.exceptions.ObjectNotFoundException:
        return


def _of_target(properties: Properties) -> Properties:
    """What names the target: three properties, or the one id that Ref of a target gives."""
    if target := properties.get("ScalingTargetId"):
        resource, dimension, namespace = target.split("|")
        return {"ServiceNamespace": namespace, "ResourceId": resource, "ScalableDimension": dimension}
    return {name: properties[name] for name in TARGET}
