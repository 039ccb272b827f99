"""One table: which metrics, beyond which value, need a person."""

from collections.abc import Sequence
from dataclasses import dataclass

import aws_cdk as cdk
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_sns as sns
from constructs import Construct

from stacks.config import Config
from stacks.monitoring.metrics import Metrics

_ABOVE = cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD
_BELOW = cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD


@dataclass(frozen=True, kw_only=True)
class Watch:
    """`metric` beyond `threshold` for `periods` of five minutes: `meaning` is what a person reads."""

    id: str
    meaning: str
    metric: cloudwatch.IMetric
    threshold: float
    periods: int = 1
    comparison: cloudwatch.ComparisonOperator = _ABOVE


def watches(config: Config, *, metrics: Metrics, dead_letters: Sequence[cloudwatch.IMetric]) -> list[Watch]:
    """The table; every threshold follows from the configuration, or is "any at all"."""
    settings = config.ingestion
    quarantined = cloudwatch.MathExpression(
        expression="IF(received > 0, 100 * quarantined / received, 0)",
        using_metrics={
            "received": metrics.records("RecordsReceived"),
            "quarantined": metrics.records("RecordsQuarantined"),
        },
        label="Records refused, in percent",
        period=cdk.Duration.minutes(15),
    )
    return [
        Watch(
            id="StreamThrottled",
            meaning="Producers are refused: the stream has too few shards.",
            metric=metrics.stream("WriteProvisionedThroughputExceeded"),
            threshold=0,
            periods=3,
        ),
        Watch(
            id="ArchiveLate",
            meaning="Firehose holds records far longer than its buffer: see its log group.",
            metric=metrics.archive("DeliveryToS3.DataFreshness", "Maximum"),
            # Seconds. Firehose itself may buffer up to 900 s longer when S3 is slow.
            threshold=settings.firehose_buffer_seconds + 900,
        ),
        Watch(
            id="ArchiveFails",
            meaning="Firehose cannot write to S3: records are lost once the stream forgets them.",
            metric=metrics.archive("DeliveryToS3.Success", "Average"),
            threshold=1,
            comparison=_BELOW,
        ),
        Watch(
            id="ConsumerFails",
            meaning="The consumer fails: see its log group. Its records are retried, then kept under aws/lambda/.",
            metric=metrics.consumer("Errors"),
            threshold=0,
            periods=2,
        ),
        Watch(
            id="ConsumerLate",
            meaning="The consumer is half way to giving records up: raise shards or the parallelization factor.",
            metric=metrics.consumer("IteratorAge", "Maximum"),
            # Milliseconds.
            threshold=settings.consumer_max_record_age_seconds * 1000 / 2,
        ),
        Watch(
            id="RecordsRefused",
            meaning="The consumer refuses more records than the quality gate would: a producer has changed.",
            metric=quarantined,
            threshold=config.processing.maximum_quarantined_percent,
        ),
        *(
            Watch(
                id=f"DeadLetters{number}",
                meaning="An event could not be delivered: something that should have started did not.",
                metric=metric,
                threshold=0,
            )
            for number, metric in enumerate(dead_letters, start=1)
        ),
    ]


class Alarms(Construct):
    """The table as alarms that tell the topic (Task 4.2).

    Missing data is no breach: none of these metrics exists while nothing flows, and nothing flowing is no fault of a
    pipeline that waits for flights. What must not stay silent, a failed run, is an event (failures.py).
    """

    def __init__(self, scope: Construct, id: str, *, table: Sequence[Watch], topic: sns.ITopic) -> None:
        super().__init__(scope, id)
        for watch in table:
            alarm = cloudwatch.Alarm(
                self,
                watch.id,
                alarm_description=watch.meaning,
                metric=watch.metric,
                threshold=watch.threshold,
                comparison_operator=watch.comparison,
                evaluation_periods=watch.periods,
                treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
            )
            alarm.add_alarm_action(actions.SnsAction(topic))
