"""The Lambda function that turns each flight of the stream into a prediction."""

import aws_cdk as cdk
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from stacks.config import Config
from stacks.foundation.stack import Foundation
from stacks.ingestion.event_stream import EventStream
from stacks.permissions import allow, write_objects
from stacks.python_function import FunctionSettings, PythonFunction

PREDICTIONS_PREFIX, QUARANTINE_PREFIX = "predictions/", "quarantine/"
SERVICE = "stream-consumer"
# Where Lambda itself puts batches that failed for good. The prefix is Lambda's; no setting changes it ("Retain discarded
# batch records for a Kinesis Data Streams event source in Lambda", AWS Lambda Developer Guide).
FAILURE_PREFIX = "aws/lambda/"
_Mapping = lambda_.CfnEventSourceMapping


class Consumer(Construct):
    """Inference on the stream: no record stops the others, and none is lost (Tasks 1.1, 3.1 and 4.1).

    A shard is read in order, so one bad record could block it until it expires. Here a failed batch is split to find
    the bad record, only the failed part is retried, retries are bounded, and what still fails goes to S3 with its
    data: an SQS destination would get the position in the stream only, useless once the stream forgot the record.
    """

    def __init__(
        self, scope: Construct, id: str, *, config: Config, foundation: Foundation, stream: EventStream
    ) -> None:
        super().__init__(scope, id)
        settings = config.ingestion
        self.function = PythonFunction(
            self,
            "Predict",
            handler="lambdas.stream_consumer.handler",
            settings=FunctionSettings(
                timeout_seconds=settings.consumer_timeout_seconds,
                memory_mib=settings.consumer_memory_mib,
                foundation=config.foundation,
                key=foundation.key,
                network=foundation.network,
            ),
            environment={
                "DATASET": config.dataset,
                "ENDPOINT_NAME": config.endpoint_name,
                "PREDICTIONS_BUCKET": foundation.curated.bucket_name,
                "PREDICTIONS_PREFIX": PREDICTIONS_PREFIX,
                "QUARANTINE_BUCKET": foundation.raw.bucket_name,
                "QUARANTINE_PREFIX": QUARANTINE_PREFIX,
                "POWERTOOLS_SERVICE_NAME": SERVICE,
                "POWERTOOLS_METRICS_NAMESPACE": config.prefix,
            },
        ).function
        self._grant(config, foundation, stream)
        self.mapping = _Mapping(
            self,
            "Mapping",
            function_name=self.function.function_name,
            event_source_arn=stream.stream_arn,
            starting_position="TRIM_HORIZON",
            batch_size=settings.consumer_batch_size,
            maximum_batching_window_in_seconds=settings.consumer_batching_window_seconds,
            parallelization_factor=settings.consumer_parallelization_factor,
            function_response_types=["ReportBatchItemFailures"],
            bisect_batch_on_function_error=True,
            maximum_retry_attempts=settings.consumer_retry_attempts,
            maximum_record_age_in_seconds=settings.consumer_max_record_age_seconds,
            destination_config=_Mapping.DestinationConfigProperty(
                on_failure=_Mapping.OnFailureProperty(destination=foundation.raw.bucket_arn)
            ),
        )

    def _grant(self, config: Config, foundation: Foundation, stream: EventStream) -> None:
        role = self.function.role
        assert role  # noqa: S101 - PythonFunction always has one
        stream.let_read(role)
        write_objects(role, foundation.curated, PREDICTIONS_PREFIX)
        # CDK's own S3 destination would let the function read and delete the whole bucket.
        write_objects(role, foundation.raw, QUARANTINE_PREFIX, FAILURE_PREFIX)
        allow(role, ["s3:ListBucket"], [foundation.raw.bucket_arn])
        endpoint = cdk.Stack.of(self).format_arn(
            service="sagemaker", resource="endpoint", resource_name=config.endpoint_name
        )
        allow(role, ["sagemaker:InvokeEndpoint"], [endpoint])
