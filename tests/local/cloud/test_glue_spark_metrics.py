"""The dashboard's figures come from Spark's event log, also from one that Spark could not finish."""

import json
from pathlib import Path

from local.cloud.glue import sparkmetrics


def task(*, failed: bool, read: int) -> dict[str, object]:
    return {
        "Event": "SparkListenerTaskEnd",
        "Task Info": {"Failed": failed},
        "Task Metrics": {"Input Metrics": {"Records Read": read}},
    }


def test_tasks_records_and_time_are_counted_up_to_a_torn_line(tmp_path: Path) -> None:
    sparkmetrics.settings(tmp_path)
    events = [
        {"Event": "SparkListenerApplicationStart", "Timestamp": 1_000},
        task(failed=False, read=5),
        task(failed=True, read=0),
        {"Event": "SparkListenerTaskEnd", "Task Info": {"Failed": True}},
        {"Event": "SparkListenerJobEnd", "Completion Time": 3_500},
    ]
    text = "".join(json.dumps(event) + "\n" for event in events) + '{"Event": "SparkL'
    (tmp_path / "events" / "local-1.inprogress").write_text(text)
    assert sparkmetrics.count(tmp_path) == {
        "elapsedTime": 2_500,
        "numCompletedTasks": 1,
        "numFailedTasks": 2,
        "recordsRead": 5,
    }


def test_a_script_without_spark_has_no_figures(tmp_path: Path) -> None:
    sparkmetrics.settings(tmp_path)
    assert sparkmetrics.count(tmp_path) == {}
