"""Types whose service is not written yet: their properties are stored, nothing runs. One line goes when one is."""

from __future__ import annotations

from local.cloud import resources
from local.cloud.protocol import arn

# Type: (property that holds its name, properties that replace it, GetAtt attributes)
_PENDING: dict[str, tuple[str, tuple[str, ...], resources.Attributes]] = {
    "AWS::SageMaker::ModelPackageGroup": (
        "ModelPackageGroupName",
        ("ModelPackageGroupName",),
        lambda name, _: {"ModelPackageGroupArn": arn("sagemaker", f"model-package-group/{name}")},
    ),
    "AWS::SageMaker::Model": ("ModelName", ("PrimaryContainer",), lambda name, _: {"ModelName": name}),
    "AWS::SageMaker::EndpointConfig": (
        "EndpointConfigName",
        ("ProductionVariants", "DataCaptureConfig", "KmsKeyId"),
        lambda name, _: {"EndpointConfigName": name},
    ),
    "AWS::SageMaker::Endpoint": ("EndpointName", ("EndpointName",), lambda name, _: {"EndpointName": name}),
    "AWS::ApplicationAutoScaling::ScalableTarget": ("ResourceId", ("ResourceId",), lambda _, __: {}),
    "AWS::ApplicationAutoScaling::ScalingPolicy": ("PolicyName", ("PolicyName",), lambda _, __: {}),
}

stored: dict[tuple[str, str], resources.Properties] = {}


def install(_cloud: object) -> None:
    """Register them all."""
    for resource_type, (name, replacing, attributes) in _PENDING.items():
        _register(resource_type, name, replacing, attributes)


def _register(
    resource_type: str, name: str, replacing: tuple[str, ...], attributes: resources.Attributes
) -> None:
    def create(request: resources.Request) -> str:
        physical_id = request.name(name)
        stored[resource_type, physical_id] = request.properties
        return physical_id

    def update(physical_id: str, request: resources.Request, _old: resources.Properties) -> None:
        stored[resource_type, physical_id] = request.properties

    def delete(physical_id: str, _request: resources.Request) -> None:
        stored.pop((resource_type, physical_id), None)

    resources.register(
        resource_type, create=create, update=update, delete=delete, attributes=attributes, replacing=replacing
    )
