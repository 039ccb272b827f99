"""The execution role of models and endpoints."""

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_s3 as s3
from constructs import Construct

from stacks.config import Config

# Where AWS keeps its XGBoost images is an account of AWS's that differs by region; the repository's name does not.
IMAGE_REPOSITORY = "sagemaker-xgboost"


class ModelRole(iam.Role):
    """What a model in service may do: read itself, write its captured data, logs and metrics (Task 4.3).

    It stands in Foundation because an endpoint outlives the stack that started it, and because Serving holds no IAM.
    """

    def __init__(
        self, scope: Construct, id: str, *, config: Config, artifacts: s3.IBucket, key: kms.IKey
    ) -> None:
        stack = cdk.Stack.of(scope)
        super().__init__(
            scope,
            id,
            description="Execution role of the endpoint and its models",
            assumed_by=iam.ServicePrincipal(
                "sagemaker.amazonaws.com",
                conditions={"StringEquals": {"aws:SourceAccount": stack.account}},
            ),
        )
        artifacts.grant_read(self, "pipeline/*")
        artifacts.grant_put(self, "datacapture/*")
        key.grant_encrypt_decrypt(self)

        def arn(
            service: str, resource: str, name: str, form: cdk.ArnFormat, account: str | None = None
        ) -> str:
            return stack.format_arn(
                service=service, resource=resource, resource_name=name, arn_format=form, account=account
            )

        colon, slash = cdk.ArnFormat.COLON_RESOURCE_NAME, cdk.ArnFormat.SLASH_RESOURCE_NAME
        self._allow(
            ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"],
            arn("logs", "log-group", f"/aws/sagemaker/Endpoints/{config.endpoint_name}*", colon),
        )
        # The two actions that IAM cannot limit to a resource; the first is limited to a namespace instead.
        self.add_to_policy(
            iam.PolicyStatement(
                actions=["cloudwatch:PutMetricData"],
                resources=["*"],
                conditions={"StringLike": {"cloudwatch:namespace": ["/aws/sagemaker/*", "AWS/SageMaker"]}},
            )
        )
        self._allow(["ecr:GetAuthorizationToken"], "*")
        self._allow(
            ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
            arn("ecr", "repository", IMAGE_REPOSITORY, slash, account="*"),
        )
        # Rollback alarms are read with this role ("Auto-Rollback Configuration and Monitoring").
        self._allow(
            ["cloudwatch:DescribeAlarms"],
            arn("cloudwatch", "alarm", f"{config.stack_name('Serving')}-*", colon),
        )

    def _allow(self, actions: list[str], resource: str) -> None:
        self.add_to_policy(iam.PolicyStatement(actions=actions, resources=[resource]))
