"""The execution role of models and endpoints."""

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_s3 as s3
from constructs import Construct

from stacks.config import Config
from stacks.foundation.network import Network
from stacks.network_interfaces import SAGEMAKER_READS, allow_network_interfaces
from stacks.permissions import allow, read_objects, write_objects

# AWS keeps its XGBoost images in accounts of its own, one a region; the repository has one name everywhere.
IMAGE_REPOSITORY = "sagemaker-xgboost"
_NO_RESOURCE = "IAM cannot limit these actions to a resource (Service Authorization Reference)."


class ModelRole(iam.Role):
    """What a model in service may do: read itself, write captured requests, logs and metrics (Task 4.3).

    It stands in Foundation because an endpoint outlives the update that started it, and because Serving holds no IAM.
    Source: "CreateModel API: Execution Role Permissions" (Amazon SageMaker AI Developer Guide).
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        config: Config,
        artifacts: s3.IBucket,
        curated: s3.IBucket,
        network: Network | None,
    ) -> None:
        stack = cdk.Stack.of(scope)
        super().__init__(
            scope,
            id,
            description="Execution role of the endpoint and its models",
            assumed_by=iam.ServicePrincipal(
                "sagemaker.amazonaws.com", conditions={"StringEquals": {"aws:SourceAccount": stack.account}}
            ),
        )
        read_objects(self, artifacts, "pipeline/Train/")
        write_objects(self, artifacts, "datacapture/")
        allow(
            self,
            ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
            [
                stack.format_arn(
                    service="ecr", account="*", resource="repository", resource_name=IMAGE_REPOSITORY
                )
            ],
            because="The account is AWS's and differs by region; the repository is exact.",
        )
        allow(self, ["ecr:GetAuthorizationToken"], ["*"], because=_NO_RESOURCE)
        allow(
            self,
            ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
            [
                self._named(stack, "logs", "log-group", f"/aws/sagemaker/{group}*")
                for group in (
                    f"Endpoints/{config.endpoint_name}",
                    *(["TransformJobs"] if "batch" in config.options else []),
                )
            ],
            because="SageMaker names the streams; a group is an endpoint's of this deployment, or that of all jobs.",
        )
        allow(
            self,
            ["cloudwatch:PutMetricData"],
            ["*"],
            because=_NO_RESOURCE,
            conditions={"StringLike": {"cloudwatch:namespace": ["/aws/sagemaker/*", "AWS/SageMaker"]}},
        )
        # SageMaker reads the rollback alarms with this role ("Auto-Rollback Configuration and Monitoring").
        allow(
            self,
            ["cloudwatch:DescribeAlarms"],
            [
                self._named(stack, "cloudwatch", "alarm", f"{config.stack_name(guarded)}-*")
                for guarded in (
                    "Serving",
                    *(["Asynchronous"] if "asynchronous" in config.options else []),
                )
            ],
            because="CloudFormation names the alarms of a stack.",
        )
        self._serve_options(config, curated)
        if network:
            allow_network_interfaces(
                self, network, subnets=network.subnets, reads=SAGEMAKER_READS, permissions=True
            )

    def _serve_options(self, config: Config, curated: s3.IBucket) -> None:
        """Requests and answers that lie in S3, where a stage lists the options that work so."""
        if "batch" in config.options:
            read_objects(self, curated, config.batch.input_prefix)
            write_objects(self, curated, config.batch.output_prefix)
        if "asynchronous" in config.options:
            settings, stack = config.asynchronous, cdk.Stack.of(self)
            read_objects(self, curated, settings.input_prefix)
            write_objects(self, curated, settings.output_prefix, settings.failure_prefix)
            topics = [stack.format_arn(service="sns", resource=name) for name in config.result_topics]
            allow(self, ["sns:Publish"], topics)

    @staticmethod
    def _named(stack: cdk.Stack, service: str, resource: str, name: str) -> str:
        return stack.format_arn(
            service=service,
            resource=resource,
            resource_name=name,
            arn_format=cdk.ArnFormat.COLON_RESOURCE_NAME,
        )
