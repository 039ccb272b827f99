"""What an endpoint is asked and answers, kept for whoever compares."""

from aws_cdk import aws_sagemaker as sagemaker

from stacks.foundation.stack import Foundation

_Config = sagemaker.CfnEndpointConfig


def data_capture(
    foundation: Foundation, percent: int
) -> sagemaker.CfnEndpointConfig.DataCaptureConfigProperty:
    """`percent` of the requests with their answers, encrypted, under datacapture/ (Tasks 4.1 and 4.3).

    Monitors compare them with the training data, an experiment one variant with the other. SageMaker adds the
    endpoint's and the variant's name to the path.
    """
    return _Config.DataCaptureConfigProperty(
        enable_capture=True,
        initial_sampling_percentage=percent,
        destination_s3_uri=foundation.artifacts.s3_url_for_object("datacapture"),
        kms_key_id=foundation.key.key_arn,
        capture_options=[_Config.CaptureOptionProperty(capture_mode=mode) for mode in ("Input", "Output")],
        # Anything else would be captured as base64, which no monitor reads.
        capture_content_type_header=_Config.CaptureContentTypeHeaderProperty(
            csv_content_types=["text/csv"], json_content_types=["application/json"]
        ),
    )
