"""The metrics that both alarms and dashboard look at, left to right along the flow."""

from collections.abc import Mapping

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_sqs as sqs

from stacks.config import Config
from stacks.ingestion.stack import Ingestion
from stacks.processing.stack import Processing
from stacks.serving.endpoint_config import VARIANT

PERIOD = cdk.Duration.minutes(5)


class Metrics:
    """Names and dimensions as each service documents them; statistics over five minutes."""

    def __init__(self, *, config: Config, ingestion: Ingestion, processing: Processing) -> None:
        self._config, self._ingestion, self._processing = config, ingestion, processing

    def stream(self, name: str, statistic: str = "Sum") -> cloudwatch.Metric:
        """A metric of the Kinesis stream."""
        return _metric("AWS/Kinesis", name, statistic, {"StreamName": self._ingestion.stream.stream_name})

    def archive(self, name: str, statistic: str) -> cloudwatch.Metric:
        """A metric of the Firehose delivery stream."""
        dimensions = {"DeliveryStreamName": self._ingestion.delivery_stream_name}
        return _metric("AWS/Firehose", name, statistic, dimensions)

    def consumer(self, name: str, statistic: str = "Sum") -> cloudwatch.Metric:
        """A metric of the consumer as Lambda sees it."""
        return _metric(
            "AWS/Lambda", name, statistic, {"FunctionName": self._ingestion.consumer.function_name}
        )

    def function(self, service: str, name: str) -> cloudwatch.Metric:
        """A count that a function itself reports (lambdas/), under its service name."""
        return _metric(self._config.prefix, name, "Sum", {"service": service})

    def records(self, name: str) -> cloudwatch.Metric:
        """A count of records, as the consumer reports it."""
        return self.function(self._ingestion.consumer_service, name)

    def job(self, name: str) -> cloudwatch.Metric:
        """A metric of the Spark job, over all its runs."""
        dimensions = {"JobName": self._processing.curate_job_name, "JobRunId": "ALL", "Type": "count"}
        return _metric("Glue", f"glue.driver.aggregate.{name}", "Sum", dimensions)

    def pipeline(self, name: str) -> cloudwatch.Metric:
        """A metric of the SageMaker Pipeline's executions."""
        namespace = "AWS/Sagemaker/ModelBuildingPipeline"
        return _metric(namespace, name, "Sum", {"PipelineName": self._config.prefix})

    def dead_letters(self, queue: sqs.IQueue) -> cloudwatch.Metric:
        """The messages that wait in a dead-letter queue."""
        dimensions = {"QueueName": queue.queue_name}
        return _metric("AWS/SQS", "ApproximateNumberOfMessagesVisible", "Maximum", dimensions)

    def endpoint(self, name: str, statistic: str) -> cloudwatch.Metric:
        """A metric of the endpoint's one variant; latencies are in microseconds."""
        dimensions = {"EndpointName": self._config.endpoint_name, "VariantName": VARIANT}
        return _metric("AWS/SageMaker", name, statistic, dimensions)


def _metric(namespace: str, name: str, statistic: str, dimensions: Mapping[str, str]) -> cloudwatch.Metric:
    return cloudwatch.Metric(
        namespace=namespace,
        metric_name=name,
        statistic=statistic,
        dimensions_map=dict(dimensions),
        period=PERIOD,
    )
