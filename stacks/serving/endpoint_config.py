"""What the endpoint runs: instances, encryption, and the capture of what it is asked and answers."""

import re

import aws_cdk as cdk
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from stacks.config import Config
from stacks.foundation.stack import Foundation

# The same in every update: SageMaker shifts no traffic between variants of different names.
VARIANT = "AllTraffic"
# Families with local NVMe volumes, which their hardware encrypts: AWS refuses a key for them ("KmsKeyId",
# CreateEndpointConfig, SageMaker API Reference). Most say so by a "d" after the number; the others are named.
_LOCAL_STORAGE = re.compile(
    r"ml\.([a-z]+[0-9]+[a-z]*d[a-z]*|dl1|g5|g6e?|g7e?|p5(e|en)?|p6[a-z0-9-]*|trn[12]n?)\..+"
)
_Config = sagemaker.CfnEndpointConfig


def has_local_storage(instance_type: str) -> bool:
    """Whether the instance type brings its own NVMe volume."""
    return bool(_LOCAL_STORAGE.fullmatch(instance_type))


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
            kms_key_id=None if has_local_storage(settings.instance_type) else key,
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
