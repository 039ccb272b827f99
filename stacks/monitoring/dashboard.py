"""One page that tells the flow, left to right."""

from collections.abc import Mapping, Sequence
from typing import cast

from aws_cdk import aws_cloudwatch as cloudwatch
from constructs import Construct

from stacks.config import Config
from stacks.monitoring.metrics import Metrics
from stacks.release import approvals, rollout_check

_WIDTH, _HEIGHT = 6, 5  # of 24 columns: four phases side by side
Graphs = Mapping[str, Sequence[cloudwatch.IMetric]]


class FlowDashboard(cloudwatch.Dashboard):
    """Ingestion, processing, training, serving: who looks for a fault walks from left to right (Task 4.2)."""

    def __init__(self, scope: Construct, id: str, *, config: Config, metrics: Metrics) -> None:
        super().__init__(scope, id, dashboard_name=config.prefix)
        columns: list[cloudwatch.Column] = []
        for title, sentence, graphs in _phases(metrics):
            widgets: list[cloudwatch.IWidget] = [
                cloudwatch.TextWidget(markdown=f"# {title}\n{sentence}", width=_WIDTH, height=2),
                *(
                    cloudwatch.GraphWidget(title=name, left=list(left), width=_WIDTH, height=_HEIGHT)
                    for name, left in graphs.items()
                ),
            ]
            columns.append(cloudwatch.Column(*widgets))
        # Column is an IWidget to CDK; its Python type lacks two optional members.
        self.add_widgets(*cast("list[cloudwatch.IWidget]", columns))


def _phases(metrics: Metrics) -> Sequence[tuple[str, str, Graphs]]:
    return (
        (
            "Ingestion",
            "Records in, predicted, refused.",
            {
                "Records": [
                    metrics.stream("IncomingRecords"),
                    *map(metrics.records, ("RecordsPredicted", "RecordsQuarantined", "NoModelYet")),
                ],
                "Age of the oldest unread record (ms)": [metrics.consumer("IteratorAge", "Maximum")],
                "Consumer": [metrics.consumer("Invocations"), metrics.consumer("Errors")],
                "Age of data not yet in S3 (s)": [metrics.archive("DeliveryToS3.DataFreshness", "Maximum")],
            },
        ),
        (
            "Processing",
            "Raw records to a clean table.",
            {
                "Records read": [metrics.job("recordsRead")],
                "Tasks": [metrics.job("numCompletedTasks"), metrics.job("numFailedTasks")],
                "Spark time (ms)": [metrics.job("elapsedTime")],
            },
        ),
        (
            "Training",
            "Clean table to registered model.",
            {
                "Executions": [
                    metrics.pipeline(f"Execution{state}") for state in ("Started", "Succeeded", "Failed")
                ],
                "Duration (ms)": [metrics.pipeline("ExecutionDuration")],
            },
        ),
        (
            "Serving",
            "The endpoint and its rollouts.",
            {
                "Requests": [
                    metrics.endpoint(name, "Sum")
                    for name in ("Invocations", "Invocation4XXErrors", "Invocation5XXErrors")
                ],
                "Model latency (µs)": [metrics.endpoint("ModelLatency", p) for p in ("p50", "p99")],
                "Overhead latency (µs)": [metrics.endpoint("OverheadLatency", "p99")],
                "Rollouts": [
                    metrics.function(approvals.SERVICE, approvals.METRIC),
                    metrics.function(rollout_check.SERVICE, rollout_check.METRIC),
                ],
            },
        ),
    )
