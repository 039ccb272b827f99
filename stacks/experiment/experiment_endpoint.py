"""The endpoint on which two models are compared."""

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from stacks.config import Config
from stacks.experiment.variants import ab_variants, shadow_variants
from stacks.foundation.stack import Foundation
from stacks.option_config import AbConfig
from stacks.serving.data_capture import data_capture
from stacks.serving.served_model import ServedModel, replaced_by_a_rollout
from stacks.serving_rules import Option


class ExperimentEndpoint(Construct):
    """Both variants' requests and answers are captured, and compared offline (Tasks 3.1 and 4.1: A/B, shadow).

    An endpoint of its own: the names of the main endpoint's variants must not change, or no traffic could be shifted
    there. It has no rollout and no alarm: what it compares is proved elsewhere, or is to be proved here, and whoever asks
    it knows. Promotion is an approval, which the main endpoint rolls out.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        config: Config,
        foundation: Foundation,
        champion: str,
        challenger: str,
        condition: cdk.CfnCondition,
    ) -> None:
        super().__init__(scope, id)
        settings = config.experiment
        first, second = (
            ServedModel(
                self, name, foundation=foundation, package=package, condition=condition
            ).attr_model_name
            for name, package in (("ChampionModel", champion), ("ChallengerModel", challenger))
        )
        if isinstance(settings, AbConfig):
            production, shadows = [*ab_variants(settings, champion=first, challenger=second)], None
        else:
            variant, shadow = shadow_variants(settings, champion=first, challenger=second)
            production, shadows = [variant], [shadow]
        self.config = sagemaker.CfnEndpointConfig(
            self,
            "Config",
            kms_key_id=foundation.key.key_arn,
            production_variants=production,
            shadow_production_variants=shadows,
            data_capture_config=data_capture(foundation, settings.data_capture_percent),
        )
        replaced_by_a_rollout(self.config, condition)
        endpoint = sagemaker.CfnEndpoint(
            self,
            "Endpoint",
            endpoint_name=config.endpoint_names[Option.AB],
            endpoint_config_name=self.config.attr_endpoint_config_name,
        )
        endpoint.cfn_options.condition = condition
