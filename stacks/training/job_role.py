"""The role of a SageMaker job: its code, its data, its logs."""

from typing import Literal

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from constructs import Construct

from stacks.foundation.stack import Foundation
from stacks.network_interfaces import SAGEMAKER_READS, allow_network_interfaces
from stacks.permissions import allow, read_objects, write_objects
from stacks.training.image import XGBoostImage


class JobRole(iam.Role):
    """What a processing or training job may do: pull the image, read its inputs, write its outputs (Task 4.3).

    Source: "How to use SageMaker AI execution roles", narrowed to this app's key, prefixes, image and log group. The
    roles differ in one thing: only a processing job reads the curated table.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        kind: Literal["ProcessingJobs", "TrainingJobs"],
        foundation: Foundation,
        image: XGBoostImage,
        code: cdk.FileAssetLocation,
    ) -> None:
        stack = cdk.Stack.of(scope)
        super().__init__(
            scope,
            id,
            description=f"Execution role of the pipeline's {kind}",
            assumed_by=iam.ServicePrincipal(
                "sagemaker.amazonaws.com",
                conditions={"StringEquals": {"aws:SourceAccount": stack.account}},
            ),
        )
        read_objects(self, foundation.artifacts, "pipeline/")
        write_objects(self, foundation.artifacts, "pipeline/")
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
