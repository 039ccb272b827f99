"""The deployed workflow runs as a person starts it: crawled, judged, curated, crawled again, by the template's roles."""

import datetime as dt
import io
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from pipeline.rules import dqdl
from pipeline.schema import load
from tools import replay

FLIGHTS, SECONDS = 600, 240

Client = Callable[[str], Any]


class Processing:
    """What the stack deployed, by logical id without the hash."""

    def __init__(self, client: Client) -> None:
        self.glue, self.s3 = client("glue"), client("s3")
        stacks = client("cloudformation")
        found = [
            resource
            for stack in ("foundation", "processing")
            for resource in stacks.describe_stack_resources(StackName=f"flights-sandbox-{stack}")[
                "StackResources"
            ]
        ]
        self._ids = {resource["LogicalResourceId"][:-8]: resource["PhysicalResourceId"] for resource in found}

    def __getitem__(self, logical_id: str) -> str:
        return self._ids[logical_id]

    def json(self, key: str) -> Any:
        return json.loads(self.s3.get_object(Bucket=self["Curated"], Key=key)["Body"].read())

    def bodies(self, prefix: str) -> list[bytes]:
        """The objects that a reader of the folder sees."""
        found = self.s3.list_objects_v2(Bucket=self["Curated"], Prefix=prefix).get("Contents", [])
        keys = [item["Key"] for item in found if not item["Key"].rpartition("/")[2].startswith("_")]
        return [self.s3.get_object(Bucket=self["Curated"], Key=key)["Body"].read() for key in keys]

    def empty(self, bucket: str) -> None:
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self[bucket]):
            for item in page.get("Contents", []):
                self.s3.delete_object(Bucket=self[bucket], Key=item["Key"])

    def folders(self, bucket: str, prefix: str) -> list[str]:
        found = self.s3.list_objects_v2(Bucket=self[bucket], Prefix=prefix)["Contents"]
        return sorted({item["Key"].rpartition("/")[0] for item in found})

    def table(self, name: str) -> dict[str, Any]:
        table: dict[str, Any] = self.glue.get_table(DatabaseName="flights_sandbox", Name=name)["Table"]
        return table

    def partitions(self, table: str) -> list[dict[str, Any]]:
        found = self.glue.get_partitions(DatabaseName="flights_sandbox", TableName=table)["Partitions"]
        return sorted(found, key=lambda partition: str(partition["Values"]))

    def run(self) -> dict[str, Any]:
        """Start the workflow and wait for its end."""
        name = self["WorkflowOnDemand"]
        run_id = self.glue.start_workflow_run(Name=name)["RunId"]
        deadline = time.monotonic() + SECONDS
        while (run := self.glue.get_workflow_run(Name=name, RunId=run_id)["Run"])["Status"] == "RUNNING":
            assert time.monotonic() < deadline, run
            time.sleep(0.2)
        return run


@pytest.fixture(scope="module")
def told(deployed, client: Client) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Every event of Glue that EventBridge delivers, in order."""
    sqs, rules = client("sqs"), client("events")
    queue = sqs.create_queue(QueueName="glue-told")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = {
        "Effect": "Allow",
        "Principal": {"Service": "events.amazonaws.com"},
        "Action": "sqs:SendMessage",
    }
    sqs.set_queue_attributes(
        QueueUrl=queue, Attributes={"Policy": json.dumps({"Statement": [policy | {"Resource": arn}]})}
    )
    rules.put_rule(
        Name="glue-told", EventPattern=json.dumps({"source": ["aws.glue", "aws.glue-dataquality"]})
    )
    rules.put_targets(Rule="glue-told", Targets=[{"Id": "queue", "Arn": arn}])

    def receive() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
            for message in messages:
                found.append(json.loads(message["Body"]))
                sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
        return sorted(found, key=lambda event: str(event["time"]))

    yield receive
    rules.remove_targets(Rule="glue-told", Ids=["queue"])
    rules.delete_rule(Name="glue-told")
    sqs.delete_queue(QueueUrl=queue)


@pytest.fixture(scope="module")
def ran(
    deployed, client: Client, told, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Processing, dict[str, Any], dict[str, Any]]:
    """A run on a few hundred real flights with faults, half uploaded, half streamed, and on nothing else."""
    processing = Processing(client)
    processing.empty("Raw")  # of what other tests have streamed
    sent = replay.events(flights=FLIGHTS)
    folder: Path = tmp_path_factory.mktemp("raw")
    for _ in replay.write(sent, str(folder), batch_share=0.5):
        continue
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        processing.s3.upload_file(str(path), processing["Raw"], path.relative_to(folder).as_posix())
    return processing, replay.manifest(sent, seed=replay.SEED), processing.run()


def test_every_step_succeeds(ran) -> None:
    _, _, run = ran
    assert run["Status"] == "COMPLETED"
    assert run["Statistics"]["SucceededActions"] == run["Statistics"]["TotalActions"] == 4


def test_the_raw_folders_are_tables(ran) -> None:
    processing, _, _ = ran
    batch, stream = processing.table("raw_batch"), processing.table("raw_stream")
    assert batch["Parameters"]["classification"] == "csv"
    assert stream["Parameters"]["classification"] == "json"
    assert stream["Parameters"]["compressionType"] == "gzip"
    types = {column["Name"]: column["Type"] for column in batch["StorageDescriptor"]["Columns"]}
    assert types["year"] == "bigint"
    assert types["sched_dep_time"] == "string", "one of them is 'noon'"
    assert [key["Name"] for key in stream["PartitionKeys"]] == [
        "arrived_year",
        "arrived_month",
        "arrived_day",
        "arrived_hour",
    ]
    locations = [
        partition["StorageDescriptor"]["Location"] for partition in processing.partitions("raw_stream")
    ]
    assert locations == [
        f"s3://{processing['Raw']}/{folder}/" for folder in processing.folders("Raw", "stream/")
    ]


def test_both_ways_in_pass_every_rule(ran) -> None:
    processing, _, _ = ran
    results = processing.glue.list_data_quality_results()["Results"]
    tables = {result["ResultId"]: result["DataSource"]["GlueTable"] for result in results}
    judged = {
        table["TableName"]: result
        for result, table in tables.items()
        if table["DatabaseName"] == "flights_sandbox"
    }
    assert judged.keys() == {"raw_batch", "raw_stream"}
    rules = dqdl(load("flights"), 5).count("\n") - 1
    for result in judged.values():
        outcomes = processing.glue.get_data_quality_result(ResultId=result)["RuleResults"]
        assert [outcome["Result"] for outcome in outcomes] == ["PASS"] * rules


def test_every_record_is_accounted_for(ran) -> None:
    processing, manifest, _ = ran
    report, expected = processing.json("reports/flights/report.json"), manifest["expected"]
    assert {name: report[name] for name in expected} == expected
    assert report["rows_in"] == manifest["records"]
    rows = [pq.read_metadata(io.BytesIO(body)).num_rows for body in processing.bodies("flights/")]
    assert (
        sum(rows)
        == report["rows_out"]
        == report["rows_in"] - sum(expected[name] for name in ("quarantined", "duplicates", "excluded"))
    )
    quarantined = processing.bodies("quarantine/flights/")
    assert sum(text.count(b"\n") for text in quarantined) == expected["quarantined"]


def test_the_curated_table_has_a_partition_a_month(ran) -> None:
    processing, _, _ = ran
    table = processing.table("curated_flights")
    assert table["Parameters"]["classification"] == "parquet"
    assert {"Name": "time_hour", "Type": "timestamp"} in table["StorageDescriptor"]["Columns"]
    months = processing.json("reports/flights/report.json")["months"]
    assert {partition["Values"][0] for partition in processing.partitions("curated_flights")} == set(months)


def test_the_log_of_a_job_is_in_its_encrypted_group(ran, client) -> None:
    processing, _, _ = ran
    run = processing.glue.get_job_runs(JobName=processing["CurateJob"])["JobRuns"][0]
    logs, group = client("logs"), f"{run['LogGroupName']}/output"
    events = logs.get_log_events(logGroupName=group, logStreamName=run["Id"])["events"]
    assert any(event["message"].startswith("curate: ") for event in events)
    key = logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"][0]["kmsKeyId"]
    assert key.endswith(processing["Key"])


def test_the_dashboard_sees_what_spark_did(ran, client) -> None:
    processing, manifest, _ = ran
    dimensions = {"JobName": processing["CurateJob"], "JobRunId": "ALL", "Type": "count"}

    def total(name: str) -> float:
        found = client("cloudwatch").get_metric_statistics(
            Namespace="Glue",
            MetricName=f"glue.driver.aggregate.{name}",
            Dimensions=[{"Name": key, "Value": value} for key, value in dimensions.items()],
            StartTime=dt.datetime.now(dt.UTC) - dt.timedelta(hours=1),
            EndTime=dt.datetime.now(dt.UTC) + dt.timedelta(hours=1),
            Period=3600 * 24,
            Statistics=["Sum"],
        )["Datapoints"]
        return float(found[0]["Sum"])

    assert total("recordsRead") > manifest["records"]
    assert total("numCompletedTasks") > 10
    assert total("numFailedTasks") == 0
    assert 1_000 < total("elapsedTime") < 200_000


def test_events_tell_what_happened(ran, told) -> None:
    processing, _, _ = ran
    names = {
        processing[name]: name for name in ("RawCrawler", "QualityGateJob", "CurateJob", "CuratedCrawler")
    }
    happened = []
    for event in told():
        detail = event["detail"]
        name = detail.get("crawlerName") or detail.get("jobName")
        happened.append((names[name] if name else detail["context"]["tableName"], detail["state"]))
    assert happened == [
        ("RawCrawler", "Started"),
        ("RawCrawler", "Succeeded"),
        ("raw_batch", "SUCCEEDED"),
        ("raw_stream", "SUCCEEDED"),
        ("QualityGateJob", "SUCCEEDED"),
        ("CurateJob", "SUCCEEDED"),
        ("CuratedCrawler", "Started"),
        ("CuratedCrawler", "Succeeded"),
    ]


def test_bad_data_stop_at_the_gate(ran, told) -> None:
    processing, _, _ = ran
    before = processing.json("reports/flights/report.json")
    header = "carrier,flight\n"
    processing.s3.put_object(Bucket=processing["Raw"], Key="batch/bad.csv", Body=header + "ZZ,1\n" * 500)
    run = processing.run()
    processing.s3.delete_object(Bucket=processing["Raw"], Key="batch/bad.csv")
    assert (run["Statistics"]["TotalActions"], run["Statistics"]["FailedActions"]) == (2, 1)
    judged = processing.glue.get_job_runs(JobName=processing["QualityGateJob"])["JobRuns"][0]
    assert judged["JobRunState"] == "FAILED"
    assert 'raw_batch: FAIL: ColumnValues "carrier"' in judged["ErrorMessage"]
    assert processing.json("reports/flights/report.json") == before
    details = [event["detail"] for event in told() if event["source"] == "aws.glue-dataquality"]
    assert {detail["context"]["tableName"]: detail["state"] for detail in details} == {
        "raw_batch": "FAILED",
        "raw_stream": "SUCCEEDED",
    }
