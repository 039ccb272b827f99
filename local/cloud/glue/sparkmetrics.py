"""What a Spark job tells CloudWatch with `--enable-metrics`, counted from Spark's own event log after its end.

Source: "Monitoring AWS Glue using Amazon CloudWatch metrics", AWS Glue User Guide: the four that the dashboard shows.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NAMES = ("elapsedTime", "numCompletedTasks", "numFailedTasks", "recordsRead")


def settings(folder: Path) -> dict[str, str]:
    """The variables that make Spark write its event log into `folder`."""
    (folder / "events").mkdir()
    (folder / "spark-defaults.conf").write_text(
        f"spark.eventLog.enabled true\nspark.eventLog.dir file:{folder}/events\n"
    )
    return {"SPARK_CONF_DIR": str(folder)}


def publish(cloudwatch: Any, folder: Path, job: str, run_id: str) -> None:
    """Put the counts of a run, and add them to all runs'; a script without Spark has none."""
    counts = count(folder)
    if not counts:
        return
    for run in (run_id, "ALL"):
        names = {"JobName": job, "JobRunId": run, "Type": "count"}
        dimensions = [{"Name": name, "Value": value} for name, value in names.items()]
        cloudwatch.put_metric_data(
            Namespace="Glue",
            MetricData=[
                {"MetricName": f"glue.driver.aggregate.{name}", "Dimensions": dimensions, "Value": value}
                for name, value in counts.items()
            ],
        )


def count(folder: Path) -> dict[str, int]:
    """The metrics of the application that wrote an event log; nothing if none did.

    The time is up to the end of its last job: Java may be gone before it could note its own end.
    """
    counts: dict[str, int] = {}
    began = 0
    for event in _events(folder / "events"):
        kind = event["Event"]
        if kind == "SparkListenerApplicationStart":
            counts, began = dict.fromkeys(NAMES, 0), event["Timestamp"]
        elif kind == "SparkListenerJobEnd":
            counts["elapsedTime"] = event["Completion Time"] - began
        elif kind == "SparkListenerTaskEnd":
            failed = event["Task Info"]["Failed"]
            counts["numFailedTasks" if failed else "numCompletedTasks"] += 1
            if "Task Metrics" in event:  # a task that was killed has none
                counts["recordsRead"] += event["Task Metrics"]["Input Metrics"]["Records Read"]
    return counts


def _events(folder: Path) -> Iterator[dict[str, Any]]:
    """The events of every log, up to a line that was torn."""
    for path in sorted(folder.iterdir()):
        with path.open() as lines, contextlib.suppress(json.JSONDecodeError):
            yield from (json.loads(line) for line in lines)
