"""The alarms that roll a rollout back."""

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from stacks.serving.quality_alarm import QualityAlarm
from stacks.serving_config import AlarmConfig


class RollbackAlarms(Construct):
    """Server errors, slowness and odd predictions (Tasks 3.1 and 4.2: rollback, monitoring inference).

    They exist before the endpoint does and know it by name, because a rollout refuses alarms that do not exist. They watch
    the endpoint and not the new fleet, which no metric's documented dimensions name for sure (docs/decisions/0135).
    Missing data is no breach: an endpoint without traffic, or without a model, is not failing. Client errors (4xx) are
    left out: a caller's mistake must not roll a good model back.
    """

    def __init__(
        self,
        scope: Construct,
        id: str,
        *,
        endpoint_name: str,
        variant_name: str,
        namespace: str,
        settings: AlarmConfig,
    ) -> None:
        super().__init__(scope, id)
        self._settings = settings
        self._dimensions = {"EndpointName": endpoint_name, "VariantName": variant_name}
        # A share, not a number: twice the traffic must not mean half the tolerance. A minute without an error may have no
        # value of `errors`: FILL makes it 0, or the whole expression would have none.
        errors = cloudwatch.MathExpression(
            expression="IF(invocations > 0, 100 * FILL(errors, 0) / invocations, 0)",
            using_metrics={
                "errors": self._metric("Invocation5XXErrors", "Sum"),
                "invocations": self._metric("Invocations", "Sum"),
            },
            label="Requests answered 5xx, in percent",
            period=cdk.Duration.seconds(settings.period_seconds),
        )
        # ModelLatency is in microseconds.
        latency = self._metric("ModelLatency", settings.latency_statistic)
        what = f"The {settings.latency_statistic} model latency"
        self.alarms = (
            self._alarm("Errors", errors, settings.error_percent, "The share of requests answered 5xx"),
            self._alarm("Latency", latency, 1_000 * settings.latency_milliseconds, what),
            QualityAlarm(self, "Quality", namespace=namespace, settings=settings),
        )

    def _metric(self, name: str, statistic: str) -> cloudwatch.Metric:
        return cloudwatch.Metric(
            namespace="AWS/SageMaker",
            metric_name=name,
            dimensions_map=self._dimensions,
            statistic=statistic,
            period=cdk.Duration.seconds(self._settings.period_seconds),
        )

    def _alarm(self, id: str, metric: cloudwatch.IMetric, threshold: float, what: str) -> cloudwatch.Alarm:
        return cloudwatch.Alarm(
            self,
            id,
            alarm_description=f"{what} is too high: a rollout under way is rolled back",
            metric=metric,
            threshold=threshold,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD,
            evaluation_periods=self._settings.evaluation_periods,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
