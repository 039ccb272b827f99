"""The alarm that rolls a rollout of the asynchronous endpoint back."""

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from stacks.option_config import AsynchronousAlarmConfig


class FailureAlarm(cloudwatch.Alarm):
    """Too many invocations failed (Tasks 3.3 and 4.2).

    A number and not a share: an asynchronous endpoint publishes no Invocations ("Monitoring asynchronous endpoints").
    Missing data is no breach: an empty queue is not failing.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        endpoint_name: str,
        variant_name: str,
        settings: AsynchronousAlarmConfig,
    ) -> None:
        super().__init__(
            scope,
            id,
            alarm_description="Invocations fail: a rollout under way is rolled back",
            metric=cloudwatch.Metric(
                namespace="AWS/SageMaker",
                metric_name="InvocationFailures",
                dimensions_map={"EndpointName": endpoint_name, "VariantName": variant_name},
                statistic="Sum",
                period=cdk.Duration.seconds(settings.period_seconds),
            ),
            threshold=settings.failed_invocations,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            evaluation_periods=settings.evaluation_periods,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
