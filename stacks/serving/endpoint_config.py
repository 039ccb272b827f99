"""What the endpoint runs: instances, encryption, and the capture of what it is asked and answers."""

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from stacks.config import Config
from stacks.foundation.stack import Foundation

# The same in every update: SageMaker shifts no traffic between variants of different names.
VARIANT = "AllTraffic"
_Config = sagemaker.CfnEndpointConfig


class EndpointConfig(_Config):
    """One variant, encrypted volumes, captured traffic (Tasks 3.1, 4.1 and 4.3).

    Captured requests and answers are what monitors compare with the training data. The mapping `fleet` says per stage
    which instances, and how many.
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
    ) -> None:
        settings, key = config.serving, foundation.key.key_arn
        super().__init__(
            scope,
            id,
            kms_key_id=key,
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
            data_capture_config=_Config.DataCaptureConfigProperty(
                enable_capture=True,
                initial_sampling_percentage=settings.data_capture_percent,
                destination_s3_uri=foundation.artifacts.s3_url_for_object("datacapture"),
                kms_key_id=key,
                capture_options=[
                    _Config.CaptureOptionProperty(capture_mode=mode) for mode in ("Input", "Output")
                ],
                # Anything else would be captured as base64, which no monitor reads.
                capture_content_type_header=_Config.CaptureContentTypeHeaderProperty(
                    csv_content_types=["text/csv"], json_content_types=["application/json"]
                ),
            ),
        )
