"""The CloudFormation types of registry, models and endpoints: each call of one is a call of the API.

Ref is the ARN, as AWS documents it. An endpoint's creation, update and deletion wait until it is done.
"""

from __future__ import annotations

import functools
import time
from typing import Any

from botocore.exceptions import ClientError

from local.cloud import resources
from local.cloud.resources import Properties, Request

_POLL_SECONDS = 0.2
_UNDER_WAY = {"Creating", "Updating", "RollingBack", "SystemUpdating"}


class EndpointError(Exception):
    """The endpoint did not become what the template says; the text is its FailureReason."""


def register(*, silent: bool) -> None:
    """Teach CloudFormation these types; `silent` if it takes an endpoint that was rolled back for updated."""
    _register(
        "ModelPackageGroup",
        ("ModelPackageGroupName", "ModelPackageGroupDescription"),
        {
            "ModelPackageGroupArn": "ModelPackageGroupArn",
            "ModelPackageGroupStatus": "ModelPackageGroupStatus",
        },
    )
    _register(
        "Model",
        (
            "ModelName",
            "PrimaryContainer",
            "Containers",
            "ExecutionRoleArn",
            "VpcConfig",
            "EnableNetworkIsolation",
        ),
        {"ModelName": "ModelName"},
    )
    _register(
        "EndpointConfig",
        (
            "EndpointConfigName",
            "ProductionVariants",
            "DataCaptureConfig",
            "KmsKeyId",
            "ShadowProductionVariants",
            "AsyncInferenceConfig",
        ),
        {"EndpointConfigName": "EndpointConfigName"},
    )
    resources.register(
        "AWS::SageMaker::Endpoint",
        create=_create_endpoint,
        update=functools.partial(_update_endpoint, silent),
        delete=_delete_endpoint,
        attributes=lambda arn, _: {"EndpointName": _name(arn)},
        replacing=("EndpointName",),
        tags=("Tags", "list"),
    )


def _register(kind: str, replacing: tuple[str, ...], attributes: dict[str, str]) -> None:
    """A type whose properties are the parameters of its Create operation, and that only its tags can change."""
    verb = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in kind)

    def create(request: Request) -> str:
        client = request.client("sagemaker")
        arn: str = getattr(client, f"create{verb}")(
            **parameters(
                client, f"Create{kind}", request.properties | {f"{kind}Name": request.name(f"{kind}Name")}
            )
        )[f"{kind}Arn"]
        return arn

    def delete(arn: str, request: Request) -> None:
        _unless_gone(getattr(request.client("sagemaker"), f"delete{verb}"), **{f"{kind}Name": _name(arn)})

    def described(arn: str, _properties: Properties) -> Properties:
        known = {f"{kind}Arn": arn, f"{kind}Name": _name(arn), f"{kind}Status": "Completed"}
        return {name: known[source] for name, source in attributes.items()}

    resources.register(
        f"AWS::SageMaker::{kind}",
        create=create,
        update=_retag,
        delete=delete,
        attributes=described,
        replacing=replacing,
        tags=("Tags", "list"),
    )


def parameters(client: Any, operation: str, properties: Properties) -> Properties:
    """A template's properties as the operation's parameters: numbers and booleans may be text there."""
    shape = client.meta.service_model.operation_model(operation).input_shape
    typed: Properties = _typed(shape, properties)
    return typed


def _typed(shape: Any, value: Any) -> Any:
    if shape.type_name == "structure" and isinstance(value, dict):
        return {
            name: _typed(shape.members[name], item) if name in shape.members else item
            for name, item in value.items()
        }
    if shape.type_name == "list" and isinstance(value, list):
        return [_typed(shape.member, item) for item in value]
    if isinstance(value, str):
        if shape.type_name in {"integer", "long"}:
            return int(value)
        if shape.type_name in {"float", "double"}:
            return float(value)
        if shape.type_name == "boolean":
            return value.lower() == "true"
    return value


def _create_endpoint(request: Request) -> str:
    client, name = request.client("sagemaker"), request.name("EndpointName")
    wanted: Properties = {
        key: request.properties[key]
        for key in ("EndpointConfigName", "DeploymentConfig", "Tags")
        if key in request.properties
    }
    given = parameters(client, "CreateEndpoint", {**wanted, "EndpointName": name})
    arn: str = client.create_endpoint(**given)["EndpointArn"]
    found = _settled(client, name)
    if found["EndpointStatus"] != "InService":
        _delete_endpoint(arn, request)  # CloudFormation does not know it yet
        raise EndpointError(found.get("FailureReason", found["EndpointStatus"]))
    return arn


def _update_endpoint(silent: bool, arn: str, request: Request, old: Properties) -> None:  # noqa: FBT001 - bound once
    _retag(arn, request, old)
    wanted = {key: value for key, value in request.properties.items() if key != "Tags"}
    if wanted == {key: value for key, value in old.items() if key != "Tags"}:
        return
    client = request.client("sagemaker")
    running = client.describe_endpoint(EndpointName=_name(arn))
    current = running["EndpointConfigName"], running["EndpointStatus"]
    if current == (wanted["EndpointConfigName"], "InService"):
        # The stack goes back to what SageMaker has gone back to before. AWS does not say whether it deploys it again.
        return
    client.update_endpoint(**parameters(client, "UpdateEndpoint", {**wanted, "EndpointName": _name(arn)}))
    found = _settled(client, _name(arn))
    if found["EndpointConfigName"] != wanted["EndpointConfigName"] and not silent:
        raise EndpointError(found.get("FailureReason", "The update was rolled back."))


def _delete_endpoint(arn: str, request: Request) -> None:
    client = request.client("sagemaker")
    _unless_gone(client.delete_endpoint, EndpointName=_name(arn))
    while _unless_gone(client.describe_endpoint, EndpointName=_name(arn)):
        time.sleep(_POLL_SECONDS)


def _settled(client: Any, name: str) -> Any:
    while (found := client.describe_endpoint(EndpointName=name))["EndpointStatus"] in _UNDER_WAY:
        time.sleep(_POLL_SECONDS)
    return found


def _retag(arn: str, request: Request, old: Properties) -> None:
    client = request.client("sagemaker")
    tags = request.properties.get("Tags", [])
    kept = {tag["Key"] for tag in tags}
    if gone := [tag["Key"] for tag in old.get("Tags", []) if tag["Key"] not in kept]:
        client.delete_tags(ResourceArn=arn, TagKeys=gone)
    if tags and tags != old.get("Tags"):
        client.add_tags(ResourceArn=arn, Tags=tags)


def _name(arn: str) -> str:
    return arn.rsplit("/", 1)[1]


def _unless_gone(call: Any, **arguments: str) -> Any:
    """The answer, or None if there is no such resource (any more)."""
    try:
        return call(**arguments) or True
    except ClientError as error:
        message = error.response["Error"]["Message"]
        if "Could not find" in message or "does not exist" in message:
            return None
        raise
