"""A registered model version behind an endpoint."""

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from stacks.config import Config
from stacks.foundation.stack import Foundation
from stacks.serving.alarms import RollbackAlarms
from stacks.serving.endpoint_config import EndpointConfig
from stacks.serving.model_parameter import ModelParameter
from stacks.serving.rollout import deployment_config


class ModelEndpoint(Construct):
    """Model, endpoint configuration and endpoint, which exist only while there is a model (Tasks 3.1 and 3.3).

    The endpoint's name is fixed, because alarms, scaling and callers know it before it exists; the other two are named
    by CloudFormation, because replacing them needs a second name. What is replaced stays: AWS forbids deleting a
    configuration that an endpoint may still run, as after an automatic rollback, and it costs nothing.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        config: Config,
        foundation: Foundation,
        fleet: cdk.CfnMapping,
        parameter: ModelParameter,
        alarms: RollbackAlarms,
    ) -> None:
        super().__init__(scope, id)
        network = foundation.network
        self.model = sagemaker.CfnModel(
            self,
            "Model",
            execution_role_arn=foundation.model_role.role_arn,
            # SageMaker fetches image and model; the container itself reaches no network (docs/decisions/0042).
            enable_network_isolation=True,
            primary_container=sagemaker.CfnModel.ContainerDefinitionProperty(
                model_package_name=parameter.value_as_string
            ),
            vpc_config=sagemaker.CfnModel.VpcConfigProperty(
                security_group_ids=[network.security_group.security_group_id],
                subnets=[subnet.subnet_id for subnet in network.subnets],
            )
            if network
            else None,
        )
        self.config = EndpointConfig(
            self, "Config", config=config, foundation=foundation, fleet=fleet, model=self.model
        )
        self.endpoint = sagemaker.CfnEndpoint(
            self,
            "Endpoint",
            endpoint_name=config.endpoint_name,
            endpoint_config_name=self.config.attr_endpoint_config_name,
            deployment_config=deployment_config(
                config.serving.rollout, [alarm.alarm_name for alarm in alarms.alarms]
            ),
            # Keeps the number of instances that autoscaling chose; weight and capture follow the new configuration.
            retain_all_variant_properties=True,
            exclude_retained_variant_properties=[
                sagemaker.CfnEndpoint.VariantPropertyProperty(variant_property_type=kind)
                for kind in ("DesiredWeight", "DataCaptureConfig")
            ],
        )
        self.endpoint.node.add_dependency(*alarms.alarms)
        for resource in (self.model, self.config, self.endpoint):
            resource.cfn_options.condition = parameter.has_model
        for replaced in (self.model, self.config):
            replaced.cfn_options.update_replace_policy = cdk.CfnDeletionPolicy.RETAIN
            replaced.cfn_options.deletion_policy = cdk.CfnDeletionPolicy.DELETE
