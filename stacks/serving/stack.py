"""Serving: the endpoint, as one CloudFormation template with all eight sections."""

import aws_cdk as cdk
from constructs import Construct

from stacks.base import BaseStack
from stacks.config import Config
from stacks.foundation.stack import Foundation
from stacks.serving.alarms import RollbackAlarms
from stacks.serving.autoscaling import Autoscaling
from stacks.serving.endpoint_config import VARIANT
from stacks.serving.guard_parameter import GuardParameter
from stacks.serving.model_endpoint import ModelEndpoint
from stacks.serving.model_parameter import ModelParameter, interface


class Serving(BaseStack):
    """Format version, description, metadata, parameters, mappings, conditions, resources, outputs (Task 3.2: IaC).

    It deploys before any model exists. An approval changes the parameter `ModelPackageArn`, and CloudFormation starts
    the rollout: which model serves is known at run time only, so it is no part of the synthesized configuration.
    There is no IAM here: the role that updates this stack may change the endpoint and no permission.
    """

    def __init__(self, scope: Construct, id: str, *, config: Config, foundation: Foundation) -> None:
        super().__init__(
            scope, id, config=config, description="The endpoint, its rollback alarms and scaling"
        )
        settings = config.serving
        parameter, guard = ModelParameter(self), GuardParameter(self)
        self.template_options.template_format_version = "2010-09-09"
        self.template_options.metadata = interface(parameter, guard)
        instances = {"InstanceType": settings.instance_type, "InstanceCount": settings.instance_count}
        # Not lazy: else CDK would look the values up itself, and the template would have no section Mappings.
        fleet = cdk.CfnMapping(self, "Fleet", mapping={config.stage: instances}, lazy=False)
        self.endpoint_name = config.endpoint_name
        rollback = RollbackAlarms(
            self,
            "Alarms",
            endpoint_name=self.endpoint_name,
            variant_name=VARIANT,
            namespace=config.prefix,
            settings=settings.alarms,
        )
        self.alarms = rollback.alarms
        serving = ModelEndpoint(
            self,
            "Endpoint",
            config=config,
            foundation=foundation,
            fleet=fleet,
            parameter=parameter,
            alarms=rollback,
            guard=guard,
        )
        scaling = Autoscaling(
            self,
            "Scaling",
            endpoint_name=self.endpoint_name,
            variant_name=VARIANT,
            settings=settings,
            condition=parameter.has_model,
        )
        # Only a variant that exists can be registered.
        scaling.node.add_dependency(serving.endpoint)
        cdk.CfnOutput(self, "EndpointName", value=self.endpoint_name, description="What to invoke")
        cdk.CfnOutput(
            self,
            "RollbackAlarmNames",
            value=cdk.Fn.join(",", [alarm.alarm_name for alarm in self.alarms]),
            description="What takes a rollout back",
        )
        cdk.CfnOutput(
            self,
            "EndpointConfigName",
            value=serving.config.attr_endpoint_config_name,
            description="What this stack believes the endpoint runs",
            condition=parameter.has_model,
        )
