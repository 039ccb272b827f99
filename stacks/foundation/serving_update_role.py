"""The role CloudFormation uses when an approved model updates Serving."""

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from stacks.config import Config


class ServingUpdateRole(iam.Role):
    """A release may change the endpoint and nothing else (Task 4.3: least privilege; Task 3.3: deployment).

    Without it `UpdateStack` runs with the stack's bootstrap execution role, which is an administrator: whoever may
    approve a model could then change the account. The models' and endpoint configs' names are CloudFormation's, so
    those statements are bound to this app's tags instead of to names.
    """

    def __init__(
        self, scope: Construct, id: str, *, config: Config, model_role: iam.IRole, key: kms.IKey
    ) -> None:
        super().__init__(
            scope,
            id,
            description="CloudFormation changes Serving's resources with this role, and nothing else",
            assumed_by=iam.ServicePrincipal("cloudformation.amazonaws.com"),
        )
        self._stack = cdk.Stack.of(self)
        self._allow_sagemaker(config, model_role)
        self._allow_alarms_and_scaling(config)
        # SageMaker encrypts the instances' volumes with our key through a grant that it makes on the caller's behalf.
        self._allow(
            ["kms:CreateGrant", "kms:DescribeKey"],
            key.key_arn,
            conditions={"StringEquals": {"kms:ViaService": f"sagemaker.{self._stack.region}.amazonaws.com"}},
        )
        # Every CDK template has a parameter of the type AWS::SSM::Parameter::Value that CloudFormation resolves.
        self._allow(["ssm:GetParameters"], self._arn("ssm", "parameter", "cdk-bootstrap/*/version"))

    def _allow_sagemaker(self, config: Config, model_role: iam.IRole) -> None:
        endpoint = self._arn("sagemaker", "endpoint", config.endpoint_name)
        models, configs = (self._arn("sagemaker", kind, "*") for kind in ("model", "endpoint-config"))
        requested = {"StringEquals": {f"aws:RequestTag/{k}": v for k, v in sorted(config.tags.items())}}
        present = {"StringEquals": {f"aws:ResourceTag/{k}": v for k, v in sorted(config.tags.items())}}
        self._allow(["sagemaker:CreateModel"], models, conditions=requested)
        self._allow(["sagemaker:CreateEndpointConfig"], configs, conditions=requested)
        self._allow(["sagemaker:DeleteModel"], models, conditions=present)
        self._allow(["sagemaker:DeleteEndpointConfig"], configs, conditions=present)
        self._allow(["sagemaker:AddTags"], models, configs, endpoint, conditions=requested)
        self._allow(["sagemaker:DescribeModel"], models)
        self._allow(["sagemaker:DescribeEndpointConfig"], configs)
        self._allow(["sagemaker:ListTags"], models, configs, endpoint)
        self._allow(["sagemaker:CreateEndpoint", "sagemaker:UpdateEndpoint"], endpoint, configs)
        self._allow(
            [
                "sagemaker:DeleteEndpoint",
                "sagemaker:DescribeEndpoint",
                "sagemaker:UpdateEndpointWeightsAndCapacities",
            ],
            endpoint,
        )
        self._allow(
            ["sagemaker:DescribeModelPackage"],
            self._arn("sagemaker", "model-package", f"{config.prefix}/*"),
        )
        self._allow(
            ["iam:PassRole"],
            model_role.role_arn,
            conditions={"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}},
        )

    def _allow_alarms_and_scaling(self, config: Config) -> None:
        colon = cdk.ArnFormat.COLON_RESOURCE_NAME
        alarms = [
            self._arn("cloudwatch", "alarm", name, colon)
            # The stack's own, and those that target tracking makes for the endpoint.
            for name in (
                f"{config.stack_name('Serving')}-*",
                f"TargetTracking-endpoint/{config.endpoint_name}/*",
            )
        ]
        self._allow(
            [
                "cloudwatch:DeleteAlarms",
                "cloudwatch:DescribeAlarms",
                "cloudwatch:ListTagsForResource",
                "cloudwatch:PutMetricAlarm",
                "cloudwatch:TagResource",
                "cloudwatch:UntagResource",
            ],
            *alarms,
        )
        scaling = "application-autoscaling"
        self._allow(
            [
                f"{scaling}:DeleteScalingPolicy",
                f"{scaling}:DeregisterScalableTarget",
                f"{scaling}:PutScalingPolicy",
                f"{scaling}:RegisterScalableTarget",
            ],
            self._arn(scaling, "scalable-target", "*"),
            conditions={"StringEquals": {f"{scaling}:service-namespace": "sagemaker"}},
        )
        # These two read, and IAM cannot limit them to a resource.
        self._allow([f"{scaling}:DescribeScalableTargets", f"{scaling}:DescribeScalingPolicies"], "*")

    def _arn(
        self,
        service: str,
        resource: str,
        name: str,
        form: cdk.ArnFormat = cdk.ArnFormat.SLASH_RESOURCE_NAME,
    ) -> str:
        return self._stack.format_arn(service=service, resource=resource, resource_name=name, arn_format=form)

    def _allow(
        self, actions: list[str], *resources: str, conditions: dict[str, object] | None = None
    ) -> None:
        self.add_to_policy(
            iam.PolicyStatement(actions=actions, resources=list(resources), conditions=conditions)
        )
