"""The one thing about Serving that is decided at run time: which model version it serves."""

from typing import Any

import aws_cdk as cdk
from constructs import Construct


class ModelParameter(cdk.CfnParameter):
    """The parameter `ModelPackageArn`, the condition `HasModel`, and how the console shows them (Task 3.2: IaC).

    Empty is a value: the stack deploys before the first approval, and its alarms wait for the endpoint.
    """

    def __init__(self, scope: Construct) -> None:
        super().__init__(
            scope,
            "ModelPackageArn",
            default="",
            allowed_pattern=r"^$|^arn:[^:]+:sagemaker:[^:]+:[0-9]{12}:model-package/[^/]+/[0-9]+$",
            constraint_description="must be empty, or the ARN of a version in a model package group",
            description="The approved model version to serve; empty while there is none",
        )
        self.has_model = cdk.CfnCondition(
            scope,
            "HasModel",
            expression=cdk.Fn.condition_not(cdk.Fn.condition_equals(self.value_as_string, "")),
        )

    @property
    def metadata(self) -> dict[str, Any]:
        """The template's metadata section: the group and label under which the console shows the parameter."""
        group = {"Label": {"default": "Model"}, "Parameters": [self.logical_id]}
        labels = {self.logical_id: {"default": "Model package version"}}
        return {"AWS::CloudFormation::Interface": {"ParameterGroups": [group], "ParameterLabels": labels}}
