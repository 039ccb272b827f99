"""The role of the pipeline itself: it starts jobs, it does not do them."""

from collections.abc import Sequence

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.foundation.stack import Foundation
from stacks.permissions import allow, read_objects


class PipelineRole(iam.Role):
    """It creates, watches and stops the pipeline's jobs, and hands them their roles and no other (Task 4.3).

    `iam:PassRole` on everything would let whoever may edit the pipeline run code as any role of the account. Source:
    "IAM Access Management" of SageMaker Pipelines.
    """

    def __init__(
        self, scope: Construct, id: str, *, foundation: Foundation, job_roles: Sequence[iam.IRole]
    ) -> None:
        self._stack = cdk.Stack.of(scope)
        super().__init__(
            scope,
            id,
            description="Starts the jobs of the pipeline",
            assumed_by=iam.ServicePrincipal(
                "sagemaker.amazonaws.com",
                conditions={"StringEquals": {"aws:SourceAccount": self._stack.account}},
            ),
        )
        for kind, job in (("ProcessingJob", "processing-job"), ("TrainingJob", "training-job")):
            self._allow_named([f"sagemaker:{verb}{kind}" for verb in ("Create", "Describe", "Stop")], job)
        self._allow_named(["sagemaker:CreateModel", "sagemaker:DescribeModel"], "model")
        self._allow_named(["sagemaker:AddTags"], "processing-job", "training-job", "model")
        group = foundation.model_package_group_name
        allow(
            self,
            ["sagemaker:CreateModelPackage", "sagemaker:DescribeModelPackage"],
            [self._arn("model-package", f"{group}/*")],
            because="SageMaker numbers the versions of the group.",
        )
        allow(
            self,
            ["sagemaker:CreateModelPackage", "sagemaker:DescribeModelPackageGroup"],
            [self._arn("model-package-group", group)],
        )
        allow(
            self,
            ["iam:PassRole"],
            [role.role_arn for role in job_roles],
            conditions={"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
        )
        # The condition reads the metrics that the evaluation step wrote (`JsonGet` on a property file).
        read_objects(self, foundation.artifacts, "pipeline/Evaluate/")

    def _allow_named(self, actions: list[str], *resources: str) -> None:
        allow(
            self,
            actions,
            [self._arn(resource, "pipelines-*") for resource in resources],
            because="SageMaker names what a pipeline starts `pipelines-<execution>-<step>-<suffix>`.",
        )

    def _arn(self, resource: str, name: str) -> str:
        return self._stack.format_arn(service="sagemaker", resource=resource, resource_name=name)
