"""An endpoint with a queue."""

from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_sagemaker as sagemaker
from constructs import Construct

from stacks.asynchronous.results import Results
from stacks.config import Config
from stacks.foundation.stack import Foundation
from stacks.serving.endpoint_config import VARIANT
from stacks.serving.model_parameter import ModelParameter
from stacks.serving.rollout import deployment_config
from stacks.serving.served_model import ServedModel, replaced_by_a_rollout
from stacks.serving_rules import Option

_Config = sagemaker.CfnEndpointConfig


class AsyncEndpoint(Construct):
    """Requests up to 1 GB and an hour long, answered in S3 (Task 3.1: asynchronous endpoints).

    A caller puts the body under the input prefix and is given the place of the answer at once. The rollout has
    guardrails as the real-time endpoint has, with an alarm on failed invocations. What they do for an endpoint that has
    scaled to zero, and so has nothing to bake, is not documented: it has to be looked at in an account.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        config: Config,
        foundation: Foundation,
        parameter: ModelParameter,
        results: Results,
        alarm: cloudwatch.IAlarm,
    ) -> None:
        super().__init__(scope, id)
        settings = config.asynchronous
        model = ServedModel(
            self,
            "Model",
            foundation=foundation,
            package=parameter.value_as_string,
            condition=parameter.has_model,
        )
        self.config = _Config(
            self,
            "Config",
            kms_key_id=foundation.key.key_arn,
            production_variants=[
                _Config.ProductionVariantProperty(
                    variant_name=VARIANT,
                    model_name=model.attr_model_name,
                    instance_type=settings.instance_type,
                    # The API takes no 0: where none is the minimum, scaling ends the first one when nothing waits.
                    initial_instance_count=settings.fewest,
                    initial_variant_weight=1,
                )
            ],
            async_inference_config=_Config.AsyncInferenceConfigProperty(
                client_config=_Config.AsyncInferenceClientConfigProperty(
                    max_concurrent_invocations_per_instance=settings.concurrent_invocations_per_instance
                ),
                output_config=_output(config, foundation.curated, foundation.key.key_arn, results),
            ),
        )
        replaced_by_a_rollout(self.config, parameter.has_model)
        self.endpoint = sagemaker.CfnEndpoint(
            self,
            "Endpoint",
            endpoint_name=config.endpoint_names[Option.ASYNCHRONOUS],
            endpoint_config_name=self.config.attr_endpoint_config_name,
            deployment_config=deployment_config(settings.rollout, [alarm.alarm_name]),
            # Keeps the number of instances that the backlog asked for.
            retain_all_variant_properties=True,
        )
        self.endpoint.node.add_dependency(alarm)
        self.endpoint.cfn_options.condition = parameter.has_model


def _output(
    config: Config, bucket: s3.IBucket, key: str, results: Results
) -> sagemaker.CfnEndpointConfig.AsyncInferenceOutputConfigProperty:
    """Where answers and failures lie, and who is told; requests lie beside them, but each names its own place."""
    settings = config.asynchronous
    return _Config.AsyncInferenceOutputConfigProperty(
        kms_key_id=key,
        s3_output_path=bucket.s3_url_for_object(settings.output_prefix),
        s3_failure_path=bucket.s3_url_for_object(settings.failure_prefix),
        notification_config=_Config.AsyncInferenceNotificationConfigProperty(
            success_topic=results.success.topic_arn, error_topic=results.error.topic_arn
        ),
    )
