"""The one thing about Serving that is decided at run time: which model version it serves."""

from typing import Any, Protocol

import aws_cdk as cdk
from constructs import Construct

_PATTERN = r"^$|^arn:[^:]+:sagemaker:[^:]+:[0-9]{12}:model-package/[^/]+/[0-9]+$"


class PackageParameter(cdk.CfnParameter):
    """A model version by its ARN. Empty is a value: a stack deploys before the first approval.

    The pattern refuses a mistyped ARN before anything is changed.
    """

    def __init__(self, scope: Construct, id: str, *, label: str, description: str) -> None:
        super().__init__(
            scope,
            id,
            default="",
            allowed_pattern=_PATTERN,
            constraint_description="must be empty, or the ARN of a version in a model package group",
            description=description,
        )
        self.label = label
        self.given = cdk.Fn.condition_not(cdk.Fn.condition_equals(self.value_as_string, ""))


class ModelParameter(PackageParameter):
    """The parameter `ModelPackageArn`, the condition `HasModel`, and how the console shows them (Task 3.2: IaC).

    While it is empty, the alarms wait for the endpoint.
    """

    def __init__(self, scope: Construct) -> None:
        super().__init__(
            scope,
            "ModelPackageArn",
            label="Model package version",
            description="The approved model version to serve; empty while there is none",
        )
        self.has_model = cdk.CfnCondition(scope, "HasModel", expression=self.given)

    @property
    def metadata(self) -> dict[str, Any]:
        """The template's metadata section: the group and label under which the console shows the parameter."""
        return interface(self)


class Labelled(Protocol):
    """A parameter with a label for the console."""

    label: str

    @property
    def logical_id(self) -> str:
        """Its name in the template."""
        ...


def interface(*parameters: Labelled) -> dict[str, Any]:
    """The metadata section that groups and labels parameters in the console."""
    group = {
        "Label": {"default": "Model"},
        "Parameters": [parameter.logical_id for parameter in parameters],
    }
    labels = {parameter.logical_id: {"default": parameter.label} for parameter in parameters}
    return {"AWS::CloudFormation::Interface": {"ParameterGroups": [group], "ParameterLabels": labels}}
