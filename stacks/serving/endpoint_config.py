"""What the endpoint runs: instances, encryption, and the capture of what it is asked and answers."""

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from stacks.config import Config
from stacks.foundation.stack import Foundation
from stacks.serving.data_capture import data_capture
from stacks.serving.served_model import replaced_by_a_rollout

# The same in every update: SageMaker shifts no traffic between variants of different names.
VARIANT = "AllTraffic"
_Config = sagemaker.CfnEndpointConfig


class EndpointConfig(_Config):
    """One variant, encrypted volumes, captured traffic (Tasks 3.1, 4.1 and 4.3).

    The mapping `fleet` says per stage which instances, and how many.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        config: Config,
        foundation: Foundation,
        fleet: cdk.CfnMapping,
        model: sagemaker.CfnModel,
        condition: cdk.CfnCondition,
    ) -> None:
        super().__init__(
            scope,
            id,
            kms_key_id=foundation.key.key_arn,
            production_variants=[
                _Config.ProductionVariantProperty(
                    variant_name=VARIANT,
                    model_name=model.attr_model_name,
                    instance_type=fleet.find_in_map(config.stage, "InstanceType"),
                    initial_instance_count=cdk.Token.as_number(
                        fleet.find_in_map(config.stage, "InstanceCount")
                    ),
                    initial_variant_weight=1,
                )
            ],
            data_capture_config=data_capture(foundation, config.serving.data_capture_percent),
        )
        replaced_by_a_rollout(self, condition)
