"""The role CloudFormation uses when an approved model updates Serving."""

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from stacks.config import Config
from stacks.permissions import allow

_NAMED_BY_CLOUDFORMATION = "CloudFormation generates these names, because a replacement needs a new one."


class ServingUpdateRole(iam.Role):
    """A release may change the endpoint and nothing else (Task 4.3: least privilege; Task 3.3: deployment).

    Without it `UpdateStack` runs with the stack's bootstrap execution role, which is an administrator: whoever may
    approve a model could then change the account. Models and endpoint configs have generated names, so what may be
    created or deleted among them is bound to this app's tags.
    """

    def __init__(
        self, scope: Construct, id: str, *, config: Config, model_role: iam.IRole, key: kms.IKey
    ) -> None:
        super().__init__(
            scope,
            id,
            description="CloudFormation changes the resources of Serving with this role",
            assumed_by=iam.ServicePrincipal("cloudformation.amazonaws.com"),
        )
        self._stack = cdk.Stack.of(self)
        self._allow_models(config, model_role)
        self._allow_endpoint(config, key)
        self._allow_alarms(config)
        self._allow_scaling()
        allow(
            self,
            ["ssm:GetParameters"],
            [self._arn("ssm", "parameter", "cdk-bootstrap/*/version")],
            because="Every CDK template reads the version of its bootstrap stack, whose qualifier is the account's.",
        )

    def _allow_models(self, config: Config, model_role: iam.IRole) -> None:
        models = [self._arn("sagemaker", kind, "*") for kind in ("model", "endpoint-config")]
        for actions, condition in (
            (("CreateModel", "CreateEndpointConfig", "AddTags"), "aws:RequestTag"),
            (("DeleteModel", "DeleteEndpointConfig"), "aws:ResourceTag"),
        ):
            allow(
                self,
                [f"sagemaker:{action}" for action in actions],
                models,
                because=_NAMED_BY_CLOUDFORMATION,
                conditions={
                    "StringEquals": {f"{condition}/{tag}": v for tag, v in sorted(config.tags.items())}
                },
            )
        allow(
            self,
            ["sagemaker:DescribeEndpointConfig", "sagemaker:DescribeModel", "sagemaker:ListTags"],
            models,
            because=_NAMED_BY_CLOUDFORMATION,
        )
        allow(
            self,
            ["sagemaker:DescribeModelPackage"],
            [self._arn("sagemaker", "model-package", f"{config.prefix}/*")],
            because="Any version of this app's model package group may be the approved one.",
        )
        allow(
            self,
            ["iam:PassRole"],
            [model_role.role_arn],
            conditions={"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
        )

    def _allow_endpoint(self, config: Config, key: kms.IKey) -> None:
        endpoint = self._arn("sagemaker", "endpoint", config.endpoint_name)
        allow(
            self,
            ["sagemaker:CreateEndpoint", "sagemaker:UpdateEndpoint"],
            [endpoint, self._arn("sagemaker", "endpoint-config", "*")],
            because=_NAMED_BY_CLOUDFORMATION,
        )
        allow(
            self,
            [
                "sagemaker:AddTags",
                "sagemaker:DeleteEndpoint",
                "sagemaker:DescribeEndpoint",
                "sagemaker:ListTags",
                "sagemaker:UpdateEndpointWeightsAndCapacities",
            ],
            [endpoint],
        )
        # The instances' volumes are encrypted through a grant that SageMaker makes on the caller's behalf.
        allow(
            self,
            ["kms:CreateGrant", "kms:DescribeKey"],
            [key.key_arn],
            conditions={"StringEquals": {"kms:ViaService": f"sagemaker.{self._stack.region}.amazonaws.com"}},
        )

    def _allow_alarms(self, config: Config) -> None:
        names = (f"{config.stack_name('Serving')}-*", f"TargetTracking-endpoint/{config.endpoint_name}/*")
        allow(
            self,
            [
                "cloudwatch:DeleteAlarms",
                "cloudwatch:DescribeAlarms",
                "cloudwatch:ListTagsForResource",
                "cloudwatch:PutMetricAlarm",
                "cloudwatch:TagResource",
                "cloudwatch:UntagResource",
            ],
            [self._arn("cloudwatch", "alarm", name, cdk.ArnFormat.COLON_RESOURCE_NAME) for name in names],
            because="CloudFormation names the alarms of Serving; target tracking names its own, for this endpoint.",
        )

    def _allow_scaling(self) -> None:
        service = "application-autoscaling"
        allow(
            self,
            [
                f"{service}:DeleteScalingPolicy",
                f"{service}:DeregisterScalableTarget",
                f"{service}:ListTagsForResource",
                f"{service}:PutScalingPolicy",
                f"{service}:RegisterScalableTarget",
                f"{service}:TagResource",
                f"{service}:UntagResource",
            ],
            [self._arn(service, "scalable-target", "*")],
            because="Application Auto Scaling generates the id of a target.",
        )
        allow(
            self,
            [f"{service}:DescribeScalableTargets", f"{service}:DescribeScalingPolicies"],
            ["*"],
            because="IAM cannot limit these two reads to a resource (Service Authorization Reference).",
        )

    def _arn(
        self,
        service: str,
        resource: str,
        name: str,
        arn_format: cdk.ArnFormat = cdk.ArnFormat.SLASH_RESOURCE_NAME,
    ) -> str:
        return self._stack.format_arn(
            service=service, resource=resource, resource_name=name, arn_format=arn_format
        )
