"""The role CloudFormation uses when an approved model updates Serving, or an option that follows it."""

from collections.abc import Mapping

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from constructs import Construct

from stacks.config import Config
from stacks.permissions import allow
from stacks.serving_rules import Option

_GENERATED = "CloudFormation generates these names, because a replacement needs a new one."
_SLASH, _COLON = cdk.ArnFormat.SLASH_RESOURCE_NAME, cdk.ArnFormat.COLON_RESOURCE_NAME


class ServingUpdateRole(iam.Role):
    """A release may change the endpoints and nothing else (Task 4.3: least privilege; Task 3.3: deployment).

    Without it `UpdateStack` runs with the stack's bootstrap execution role, which is an administrator: whoever may
    approve a model could then change the account. Models and endpoint configs have generated names, so what may be
    created or deleted among them is bound to the tag of this deployment. What it may do for an option, it may where
    the stage lists that option.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        config: Config,
        model_role: iam.IRole,
        transform_role: iam.IRole | None,
        key: kms.IKey,
    ) -> None:
        super().__init__(
            scope,
            id,
            description="CloudFormation changes the resources of Serving with this role",
            assumed_by=iam.ServicePrincipal("cloudformation.amazonaws.com"),
        )
        self._stack = cdk.Stack.of(self)
        self._allow_sagemaker(config)
        self._allow_alarms(config)
        self._allow_scaling(config)
        self._allow_what_they_need(model_role, key)
        if transform_role:
            self._allow_schedule(config, transform_role)

    def _allow_sagemaker(self, config: Config) -> None:
        configs = self._arn("sagemaker", "endpoint-config", "*")
        models = [self._arn("sagemaker", "model", "*"), configs]
        endpoints = [self._arn("sagemaker", "endpoint", name) for name in config.deployed_endpoints]
        versions = self._arn("sagemaker", "model-package", f"{config.prefix}/*")
        tag, deployment = config.deployment_tag

        created, existing = (
            {"StringEquals": {f"aws:{key}/{tag}": deployment}} for key in ("RequestTag", "ResourceTag")
        )
        create, delete = "CreateModel CreateEndpointConfig", "DeleteModel DeleteEndpointConfig"
        self._allow("sagemaker", create, models, because=_GENERATED, conditions=created)
        self._allow("sagemaker", delete, models, because=_GENERATED, conditions=existing)
        # While it creates one only: whoever may tag any model could make it ours, and then delete it.
        creating = {"sagemaker:TaggingAction": create.split()}
        on_creation = {"StringEquals": {**created["StringEquals"], **creating}}
        self._allow("sagemaker", "AddTags", models, because=_GENERATED, conditions=on_creation)
        self._allow("sagemaker", "DescribeEndpointConfig DescribeModel ListTags", models, because=_GENERATED)
        self._allow("sagemaker", "CreateEndpoint UpdateEndpoint", [*endpoints, configs], because=_GENERATED)
        self._allow(
            "sagemaker",
            "AddTags DeleteEndpoint DescribeEndpoint ListTags UpdateEndpointWeightsAndCapacities",
            endpoints,
        )
        self._allow(
            "sagemaker",
            "DescribeModelPackage",
            [versions],
            because="Any version of this app may be approved.",
        )

    def _allow_alarms(self, config: Config) -> None:
        scaled = {"Serving": config.endpoint_name}
        if "asynchronous" in config.options:
            scaled["Asynchronous"] = config.endpoint_names[Option.ASYNCHRONOUS]
        names = [
            name
            for stack, endpoint in scaled.items()
            for name in (f"{config.stack_name(stack)}-*", f"TargetTracking-endpoint/{endpoint}/*")
        ]
        self._allow(
            "cloudwatch",
            "DeleteAlarms DescribeAlarms ListTagsForResource PutMetricAlarm TagResource UntagResource",
            [self._arn("cloudwatch", "alarm", name, _COLON) for name in names],
            because="CloudFormation names the alarms of a stack; target tracking names its own, for one endpoint.",
        )

    def _allow_scaling(self, config: Config) -> None:
        scaling, generated = (
            "application-autoscaling",
            "Application Auto Scaling generates the id of a target.",
        )
        targets = [self._arn(scaling, "scalable-target", "*")]
        write = "DeleteScalingPolicy DeregisterScalableTarget PutScalingPolicy RegisterScalableTarget"
        if config.serving.autoscaling.scheduled:
            write += " DeleteScheduledAction PutScheduledAction"
        # A target's id does not say what it scales; these two keys do.
        variants = {
            f"{scaling}:service-namespace": "sagemaker",
            f"{scaling}:scalable-dimension": "sagemaker:variant:DesiredInstanceCount",
        }
        self._allow(scaling, write, targets, because=generated, conditions={"StringEquals": variants})
        tag, deployment = config.deployment_tag
        ours = {"StringEquals": {f"aws:RequestTag/{tag}": deployment}}
        self._allow(scaling, "TagResource", targets, because=generated, conditions=ours)
        self._allow(scaling, "ListTagsForResource", targets, because=generated)
        self._allow(
            scaling,
            "DescribeScalableTargets DescribeScalingPolicies DescribeScheduledActions",
            ["*"],
            because="IAM cannot limit these three reads to a resource (Service Authorization Reference).",
        )

    def _allow_what_they_need(self, model_role: iam.IRole, key: kms.IKey) -> None:
        to_sagemaker = {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
        self._allow("iam", "PassRole", [model_role.role_arn], conditions=to_sagemaker)
        # Application Auto Scaling acts with a role of AWS's own making, which the first registration in an account creates.
        autoscaler = "sagemaker.application-autoscaling.amazonaws.com"
        self._allow(
            "iam",
            "CreateServiceLinkedRole",
            [
                self._stack.format_arn(
                    service="iam",
                    region="",
                    resource=f"role/aws-service-role/{autoscaler}",
                    resource_name="AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint",
                )
            ],
            conditions={"StringEquals": {"iam:AWSServiceName": autoscaler}},
        )
        # The instances' volumes are encrypted through a grant that SageMaker makes on the caller's behalf.
        sagemaker = f"sagemaker.{self._stack.region}.amazonaws.com"
        on_behalf = {"StringEquals": {"kms:ViaService": sagemaker}}
        self._allow("kms", "CreateGrant DescribeKey", [key.key_arn], conditions=on_behalf)
        bootstrap = self._arn("ssm", "parameter", "cdk-bootstrap/*/version")
        self._allow(
            "ssm",
            "GetParameters",
            [bootstrap],
            because="Every CDK template reads the version of its bootstrap stack, whose qualifier is the account's.",
        )

    def _allow_schedule(self, config: Config, transform_role: iam.IRole) -> None:
        """The schedule of transform jobs holds the model's name, so each release changes it."""
        self._allow(
            "scheduler",
            "CreateSchedule DeleteSchedule GetSchedule UpdateSchedule",
            [self._arn("scheduler", "schedule", f"default/{config.stack_name('Batch')}-*")],
            because="CloudFormation names the schedule of the Batch stack.",
        )
        to_scheduler = {"StringEquals": {"iam:PassedToService": "scheduler.amazonaws.com"}}
        self._allow("iam", "PassRole", [transform_role.role_arn], conditions=to_scheduler)

    def _arn(self, service: str, resource: str, name: str, arn_format: cdk.ArnFormat = _SLASH) -> str:
        return self._stack.format_arn(
            service=service, resource=resource, resource_name=name, arn_format=arn_format
        )

    def _allow(
        self,
        service: str,
        actions: str,
        resources: list[str],
        *,
        because: str = "",
        conditions: Mapping[str, Mapping[str, object]] | None = None,
    ) -> None:
        named = [f"{service}:{action}" for action in actions.split()]
        allow(self, named, resources, because=because, conditions=conditions)
