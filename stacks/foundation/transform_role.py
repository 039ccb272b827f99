"""The role with which EventBridge Scheduler starts transform jobs."""

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from stacks.config import Config
from stacks.permissions import allow


class TransformRole(iam.Role):
    """It starts jobs of this deployment's name, and does nothing of what they do (Task 4.3: least privilege).

    A transform job has no role in its request: it acts with its model's. The caller needs a grant on the key of the
    instances' volumes ("AWS KMS permissions for SageMaker"), and the key for the queue of failed starts.
    """

    def __init__(self, scope: Construct, id: str, *, config: Config, key: kms.IKey) -> None:
        stack = cdk.Stack.of(scope)
        super().__init__(
            scope,
            id,
            description="EventBridge Scheduler starts transform jobs with this role",
            assumed_by=iam.ServicePrincipal(
                "scheduler.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": stack.account}}
            ),
        )
        jobs = stack.format_arn(
            service="sagemaker", resource="transform-job", resource_name=f"{config.prefix}-*"
        )
        allow(
            self,
            ["sagemaker:AddTags", "sagemaker:CreateTransformJob"],
            [jobs],
            because="Scheduler appends the id of its execution to the name.",
        )
        on_behalf = {"StringEquals": {"kms:ViaService": f"sagemaker.{stack.region}.amazonaws.com"}}
        allow(self, ["kms:CreateGrant", "kms:DescribeKey"], [key.key_arn], conditions=on_behalf)
        key.grant(self, "kms:Decrypt", "kms:GenerateDataKey")
