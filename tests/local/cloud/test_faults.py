"""What is killed says so, leaves nothing half done, and nothing of it survives."""

import contextlib
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from local.cloud import lifecycle
from local.cloud.place import Place
from tests.local.cloud.test_glue_runs import Here, here
from tests.local.cloud.test_pipelines import Account, account, data, trained
from tests.local.cloud.test_sagemaker_endpoints import Hosting
from tests.local.cloud.test_stream import READER, Flow, eventually
from tests.local.runner import written

__all__ = ["account", "data", "here"]

UDF = """
import time
from pyspark.sql import SparkSession

def forever(_):
    while True:
        pass

SparkSession.builder.getOrCreate().sparkContext.parallelize([1, 2], 2).foreach(forever)
"""


def processes(place: Place, naming: str = "") -> dict[int, str]:
    """The processes of a cloud, by what they were started with or where they run: id and command."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            about = (
                f"{command}{(process / 'environ').read_text(errors='replace')}{(process / 'cwd').readlink()}"
            )
            if str(place.folder) in about and naming in command:
                found[int(process.name)] = command
    found.pop(os.getpid(), None)
    return found


def kill(place: Place, naming: str) -> None:
    """Kill the first process of the cloud whose command has this in it, once there is one."""
    os.kill(min(eventually(lambda: processes(place, naming), seconds=20)), signal.SIGKILL)


def test_a_killed_training_fails_its_step_and_registers_nothing(data: Account, cloud: Place) -> None:
    definition = trained()
    definition["Steps"][0]["Arguments"]["AlgorithmSpecification"]["ContainerEntrypoint"] = [
        "/bin/sh",
        "-c",
        "echo half > /opt/ml/model/model; exec sleep 1234",
    ]
    data.create(definition)
    arn = data.start()
    kill(cloud, "sleep 1234")
    assert data.ended(arn)["PipelineExecutionStatus"] == "Failed"
    [step] = data.steps(arn).values()
    assert step["FailureReason"] == "InternalServerError: the job's process was killed."
    job = step["Metadata"]["TrainingJob"]["Arn"].rpartition("/")[2]
    assert data.sagemaker.describe_training_job(TrainingJobName=job)["TrainingJobStatus"] == "Failed"
    assert data.packages() == []
    assert [it["Key"] for it in data.s3.list_objects_v2(Bucket=data.bucket)["Contents"]] == ["raw/rows.csv"]


def test_a_killed_crawl_fails_with_a_reason_and_writes_no_table(here: Here, cloud: Place) -> None:
    here.put("t/a.csv", "a,b\n1,x\n")
    crawler = here.crawler("t/")
    here.glue.start_crawler(Name=crawler)
    kill(cloud, "local.cloud.glue.infer")
    last = here.crawled(crawler)
    assert (last["Status"], last["ErrorMessage"]) == ("FAILED", "infer: exit code -9")
    assert here.glue.get_tables(DatabaseName=here.database)["TableList"] == []


def test_a_killed_evaluation_fails_with_a_reason_and_has_no_result(here: Here, cloud: Place) -> None:
    table = {
        "Name": "t",
        "Parameters": {"classification": "csv"},
        "PartitionKeys": [],
        "StorageDescriptor": {"Columns": [], "Location": f"s3://{here.bucket}/t/"},
    }
    here.glue.create_table(DatabaseName=here.database, TableInput=table)
    name = f"ruleset{here.bucket}"
    here.glue.create_data_quality_ruleset(Name=name, Ruleset='Rules = [ ColumnExists "a" ]')
    source = {"GlueTable": {"DatabaseName": here.database, "TableName": "t"}}
    run_id = here.glue.start_data_quality_ruleset_evaluation_run(
        DataSource=source, Role=here.role(), RulesetNames=[name]
    )["RunId"]
    kill(cloud, "local.cloud.glue.judge")

    def run() -> Any:
        found = here.glue.get_data_quality_ruleset_evaluation_run(RunId=run_id)
        return found["Status"] not in ("STARTING", "RUNNING") and found

    ended = eventually(run)
    assert (ended["Status"], ended["ErrorString"]) == ("FAILED", "judge: exit code -9")
    assert "ResultIds" not in ended


@pytest.fixture
def busy(tmp_path: Path) -> Any:
    """A cloud in which a Spark job with Python workers, a step, a function and model servers run, one still loading."""
    with lifecycle.running(Place.on_free_port(tmp_path)) as place:
        client: Callable[[str], Any] = place.client
        here, account = Here(client), Account(client)
        here.glue.start_job_run(JobName=here.job(UDF))
        account.create(written.pipeline(written.processing("Long", "sleep 1234 & exec sleep 4321")))
        account.start()
        hosting = Hosting(client)
        hosting.settled(hosting.endpoint(hosting.config(hosting.model(hosting.store()))))
        loading = hosting.model(hosting.store(program="import time\ntime.sleep(1e6)"))
        hosting.endpoint(hosting.config(loading))
        assert eventually(lambda: len(processes(place, "server.py")) == 2)
        flow = Flow(client, READER)
        flow.put("a")
        flow.map(BatchSize=1)
        assert eventually(flow.calls)
        for kind in ("java", "pyspark.daemon", "sleep 1234", "sleep 4321", "server.py", "lambda"):
            assert eventually(lambda kind=kind: processes(place, kind), seconds=30), kind
        yield place


def test_a_killed_cloud_leaves_no_process_whatever_it_ran(busy: Place) -> None:
    os.kill(lifecycle.process(busy) or 0, signal.SIGKILL)
    eventually(lambda: not processes(busy))
    assert processes(busy) == {}
