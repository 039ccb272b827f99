"""The role of a step's job: its code, its data, its logs."""

from collections.abc import Sequence
from typing import NamedTuple

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.foundation.stack import Foundation
from stacks.network_interfaces import SAGEMAKER_READS, allow_network_interfaces
from stacks.permissions import allow, read_objects, write_objects
from stacks.training.image import XGBoostImage


class Job(NamedTuple):
    """A step of the pipeline that runs as a SageMaker job: its kind, and the steps whose results it reads."""

    kind: str
    reads: Sequence[str]


JOBS = {
    "Prepare": Job("ProcessingJobs", ()),
    "Train": Job("TrainingJobs", ("Prepare",)),
    "TrainBaseline": Job("TrainingJobs", ("Prepare",)),
    "Evaluate": Job("ProcessingJobs", ("Prepare", "Train", "TrainBaseline")),
}


class JobRole(iam.Role):
    """What one step's job may do: pull the image, read what earlier steps wrote, write its own prefix (Task 4.3).

    One role a step: a training job that could write where the evaluation does could write its own marks. Source: "How
    to use SageMaker AI execution roles", narrowed to this app's key, prefixes, image and log group.
    """

    def __init__(
        self,
        scope: Construct,
        step: str,
        *,
        foundation: Foundation,
        image: XGBoostImage,
        code: cdk.FileAssetLocation,
    ) -> None:
        stack = cdk.Stack.of(scope)
        super().__init__(
            scope,
            f"{step}Role",
            description=f"Execution role of the pipeline's step {step}",
            assumed_by=iam.ServicePrincipal(
                "sagemaker.amazonaws.com",
                conditions={"StringEquals": {"aws:SourceAccount": stack.account}},
            ),
        )
        kind, reads = JOBS[step]
        if reads:
            read_objects(self, foundation.artifacts, *(f"pipeline/{earlier}/" for earlier in reads))
        write_objects(self, foundation.artifacts, f"pipeline/{step}/")
        assets = f"arn:{stack.partition}:s3:::{code.bucket_name}"
        allow(self, ["s3:ListBucket"], [assets])
        allow(self, ["s3:GetObject"], [f"{assets}/{code.object_key}"])
        self._use_volume_key(foundation)
        self._pull(image)
        self._observe(kind, stack)
        if foundation.network:
            allow_network_interfaces(
                self,
                foundation.network,
                subnets=foundation.network.subnets,
                reads=SAGEMAKER_READS,
                permissions=True,
            )

    def _use_volume_key(self, foundation: Foundation) -> None:
        # SageMaker has EBS encrypt the job's volume: it grants EBS the use of the key, on the role's behalf.
        allow(
            self,
            ["kms:CreateGrant"],
            [foundation.key.key_arn],
            conditions={"Bool": {"kms:GrantIsForAWSResource": "true"}},
        )
        allow(self, ["kms:DescribeKey"], [foundation.key.key_arn])

    def _pull(self, image: XGBoostImage) -> None:
        allow(
            self,
            ["ecr:GetAuthorizationToken"],
            ["*"],
            because="A token is for the whole of ECR; the next statement limits what it pulls.",
        )
        allow(
            self,
            ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
            [image.repository_arn],
        )

    def _observe(self, kind: str, stack: cdk.Stack) -> None:
        group = stack.format_arn(
            service="logs",
            resource="log-group",
            resource_name=f"/aws/sagemaker/{kind}*",
            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
        )
        allow(
            self,
            ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
            [group],
            because="SageMaker writes all jobs of a kind to one log group, a stream a job.",
        )
        allow(
            self,
            ["cloudwatch:PutMetricData"],
            ["*"],
            because="CloudWatch limits this action by namespace, not by resource: see the condition.",
            conditions={"StringEquals": {"cloudwatch:namespace": f"/aws/sagemaker/{kind}"}},
        )
