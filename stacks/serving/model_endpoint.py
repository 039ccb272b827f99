"""A registered model version behind an endpoint."""

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from stacks.config import Config
from stacks.foundation.stack import Foundation
from stacks.serving.alarms import RollbackAlarms
from stacks.serving.endpoint_config import EndpointConfig
from stacks.serving.guard_parameter import GuardParameter
from stacks.serving.model_parameter import ModelParameter
from stacks.serving.rollout import deployment_config
from stacks.serving.served_model import ServedModel


class ModelEndpoint(Construct):
    """Model, endpoint configuration and endpoint, which exist only while there is a model (Tasks 3.1 and 3.3).

    The endpoint's name is fixed, because alarms, scaling and callers know it before it exists; the other two are named
    by CloudFormation, because replacing them needs a second name.
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
        guard: GuardParameter,
    ) -> None:
        super().__init__(scope, id)
        has_model = parameter.has_model
        model = ServedModel(
            self, "Model", foundation=foundation, package=parameter.value_as_string, condition=has_model
        )
        self.config = EndpointConfig(
            self,
            "Config",
            config=config,
            foundation=foundation,
            fleet=fleet,
            model=model,
            condition=has_model,
        )
        self.endpoint = sagemaker.CfnEndpoint(
            self,
            "Endpoint",
            endpoint_name=config.endpoint_name,
            endpoint_config_name=self.config.attr_endpoint_config_name,
            deployment_config=deployment_config(
                config.serving.rollout,
                [alarm.alarm_name for alarm in alarms.alarms],
                guarded=guard.on,
            ),
            # Keeps the number of instances that autoscaling chose; weight and capture follow the new configuration.
            retain_all_variant_properties=True,
            exclude_retained_variant_properties=[
                sagemaker.CfnEndpoint.VariantPropertyProperty(variant_property_type=kind)
                for kind in ("DesiredWeight", "DataCaptureConfig")
            ],
        )
        self.endpoint.node.add_dependency(*alarms.alarms)
        self.endpoint.cfn_options.condition = has_model
