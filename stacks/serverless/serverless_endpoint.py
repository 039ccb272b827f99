"""An endpoint without instances."""

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from stacks.config import Config
from stacks.foundation.stack import Foundation
from stacks.serving.endpoint_config import VARIANT
from stacks.serving.served_model import ServedModel, replaced_by_a_rollout
from stacks.serving_rules import Option

_Config = sagemaker.CfnEndpointConfig


class ServerlessEndpoint(Construct):
    """Memory and concurrency instead of instances (Task 3.1: serverless endpoints; Task 4.2: cost).

    The first request to a new copy waits for its start; beyond `maximum_concurrency` SageMaker throttles. What is not
    here, AWS does not offer ("Serverless Inference: Feature exclusions"): no VPC and no network isolation, no capture,
    no guardrails (a wrong version is not taken back), no volumes: the key encrypts the copy of the image. Therefore it
    follows the real-time endpoint, where a canary has proved the version, and an isolated stage refuses it.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        config: Config,
        foundation: Foundation,
        package: str,
        condition: cdk.CfnCondition,
    ) -> None:
        super().__init__(scope, id)
        settings = config.serverless
        model = ServedModel(
            self, "Model", foundation=foundation, package=package, condition=condition, isolated=False
        )
        self.config = _Config(
            self,
            "Config",
            kms_key_id=foundation.key.key_arn,
            production_variants=[
                _Config.ProductionVariantProperty(
                    variant_name=VARIANT,
                    model_name=model.attr_model_name,
                    initial_variant_weight=1,
                    serverless_config=_Config.ServerlessConfigProperty(
                        memory_size_in_mb=settings.memory_mib,
                        max_concurrency=settings.maximum_concurrency,
                        # None warm is left out: the API takes no 0.
                        provisioned_concurrency=settings.provisioned_concurrency or None,
                    ),
                )
            ],
        )
        replaced_by_a_rollout(self.config, condition)
        endpoint = sagemaker.CfnEndpoint(
            self,
            "Endpoint",
            endpoint_name=config.endpoint_names[Option.SERVERLESS],
            endpoint_config_name=self.config.attr_endpoint_config_name,
        )
        endpoint.cfn_options.condition = condition
