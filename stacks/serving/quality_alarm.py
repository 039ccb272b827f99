"""The alarm that looks at what the model says, not at how it answers."""

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from stacks.serving_config import AlarmConfig

# Under which service name the stream's consumer counts, and what (lambdas/stream_consumer.py). Serving knows them by
# name: the consumer's stack knows the endpoint by name, and values cross one way.
SERVICE, PREDICTED, SCORES = "stream-consumer", "RecordsPredicted", "SumOfScores"


class QualityAlarm(cloudwatch.Alarm):
    """The mean of the predictions lies outside its band (Task 4.1: model quality; Task 3.3: rollback).

    A model may answer fast, without an error, and nonsense. Whether an answer is right is known hours later, so no
    measure that needs the truth can act within a bake; that all flights are late, or none, shows in minutes. The mean
    is of all the consumer's predictions: during a canary it is diluted by the old fleet, as every metric is. Minutes
    with few predictions are not judged, and silence is no breach.
    """

    def __init__(self, scope: Construct, id: str, *, namespace: str, settings: AlarmConfig) -> None:
        band = settings.quality
        period = cdk.Duration.seconds(settings.period_seconds)

        def count(name: str) -> cloudwatch.Metric:
            return cloudwatch.Metric(
                namespace=namespace,
                metric_name=name,
                dimensions_map={"service": SERVICE},
                statistic="Sum",
                period=period,
            )

        # The mean is scores / predicted; both sides are multiplied, so that nothing is divided by.
        outside = (
            f"IF(scores < {band.minimum_mean_score} * predicted, 1, "
            f"IF(scores > {band.maximum_mean_score} * predicted, 1, 0))"
        )
        super().__init__(
            scope,
            id,
            alarm_description="The mean prediction is outside its band: a rollout under way is rolled back",
            metric=cloudwatch.MathExpression(
                expression=f"IF(predicted >= {band.minimum_predictions}, {outside}, 0)",
                using_metrics={"predicted": count(PREDICTED), "scores": count(SCORES)},
                label=f"1 where the mean is not {band.minimum_mean_score} to {band.maximum_mean_score}",
                period=period,
            ),
            threshold=1,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            evaluation_periods=settings.evaluation_periods,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
