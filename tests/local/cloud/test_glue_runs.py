"""Crawlers, jobs, evaluation runs and workflows of a test's own, by roles of its own."""

import itertools
import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

from local.cloud import lifecycle
from local.cloud.place import ACCOUNT, REGION, ROOT, Place
from tests.local.cloud.test_resources import Stack, stack
from tests.support.trust import trust

__all__ = ["stack"]

NUMBERS = itertools.count()
SECONDS = 20.0
EVERYTHING = {"Effect": "Allow", "Action": "*", "Resource": "*"}
CRAWLER: dict[str, Any] = {
    "RecrawlPolicy": {"RecrawlBehavior": "CRAWL_EVERYTHING"},
    "SchemaChangePolicy": {"UpdateBehavior": "UPDATE_IN_DATABASE", "DeleteBehavior": "LOG"},
    "Configuration": json.dumps(
        {
            "Version": 1.0,
            "CrawlerOutput": {"Tables": {"TableThreshold": 1}},
            "Grouping": {"TableGroupingPolicy": "CombineCompatibleSchemas"},
        }
    ),
}

Client = Callable[[str], Any]


def until(ask: Callable[[], Any]) -> Any:
    """The first true answer."""
    deadline = time.monotonic() + SECONDS
    while not (answer := ask()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return answer


class Here:
    """A database, a bucket, and what the tests make of them."""

    def __init__(self, client: Client) -> None:
        self.client, self.glue, self.s3 = client, client("glue"), client("s3")
        number = next(NUMBERS)
        self.bucket = self.database = f"runs{number}"
        self.s3.create_bucket(Bucket=self.bucket)
        self.glue.create_database(DatabaseInput={"Name": self.database})

    def role(self, *statements: dict[str, Any]) -> str:
        """The ARN of a new role with these statements, or with every right."""
        iam, name = self.client("iam"), f"glue-runs-{next(NUMBERS)}"
        trusted = trust("glue", "events", account=ACCOUNT)
        arn: str = iam.create_role(RoleName=name, AssumeRolePolicyDocument=trusted)["Role"]["Arn"]
        document = json.dumps({"Statement": list(statements or [EVERYTHING])})
        iam.put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=document)
        return arn

    def put(self, key: str, text: str) -> str:
        self.s3.put_object(Bucket=self.bucket, Key=key, Body=text.encode())
        return f"s3://{self.bucket}/{key}"

    def crawler(self, path: str, **more: Any) -> str:
        name = f"crawler{next(NUMBERS)}"
        targets = {"S3Targets": [{"Path": f"s3://{self.bucket}/{path}"}]}
        given = {"Role": self.role(), "DatabaseName": self.database, "Targets": targets, **CRAWLER, **more}
        self.glue.create_crawler(Name=name, **given)
        return name

    def crawled(self, name: str) -> dict[str, Any]:
        """The last crawl, once the crawler is ready again."""

        def ready() -> dict[str, Any] | None:
            crawler = self.glue.get_crawler(Name=name)["Crawler"]
            last: dict[str, Any] = crawler.get("LastCrawl", {})
            return last if crawler["State"] == "READY" else None

        found: dict[str, Any] = until(ready)
        return found

    def job(self, script: str, **more: Any) -> str:
        name = f"job{next(NUMBERS)}"
        command = {"Name": "glueetl", "ScriptLocation": self.put(f"scripts/{name}.py", script)}
        given = {"Role": self.role(), "Timeout": 5, "GlueVersion": "5.1", **more}
        self.glue.create_job(Name=name, Command=command, **given)
        return name

    def ended(self, job: str) -> list[dict[str, Any]]:
        """All runs of a job, the latest first, once none runs."""

        def over() -> Any:
            runs = self.glue.get_job_runs(JobName=job)["JobRuns"]
            return all("CompletedOn" in run for run in runs) and runs

        found: list[dict[str, Any]] = until(over)
        return found

    def workflow(self, *triggers: dict[str, Any], **more: Any) -> str:
        name = f"workflow{next(NUMBERS)}"
        self.glue.create_workflow(Name=name, **more)
        for number, trigger in enumerate(triggers):
            conditional = trigger["Type"] == "CONDITIONAL"
            self.glue.create_trigger(
                Name=f"{name}-{number}", WorkflowName=name, StartOnCreation=conditional, **trigger
            )
        return name

    def over(self, workflow: str) -> dict[str, Any]:
        """The latest run of a workflow, once it is over."""

        def completed() -> Any:
            runs = self.glue.get_workflow_runs(Name=workflow)["Runs"]
            return runs and runs[0]["Status"] != "RUNNING" and "CompletedOn" in runs[0] and runs[0]

        found: dict[str, Any] = until(completed)
        return found


@pytest.fixture
def here(client: Client) -> Here:
    return Here(client)


def on_demand(*jobs: str) -> dict[str, Any]:
    return {"Type": "ON_DEMAND", "Actions": [{"JobName": job} for job in jobs]}


def when(state: str, *after: str, then: str, logical: str = "AND") -> dict[str, Any]:
    conditions = [{"LogicalOperator": "EQUALS", "JobName": job, "State": state} for job in after]
    predicate = {"Logical": logical, "Conditions": conditions}
    return {"Type": "CONDITIONAL", "Predicate": predicate, "Actions": [{"JobName": then}]}


# --- crawlers --------------------------------------------------------------------------------------------------------


def test_a_second_crawl_updates_the_table_and_adds_the_partition(here: Here) -> None:
    here.put("t/day=1/a.csv", "a,b\n1,x\n")
    here.put("t2/a.csv", "c,d\n1,x\n")
    crawler = here.crawler("t", TablePrefix="p_")
    here.glue.start_crawler(Name=crawler)
    assert here.crawled(crawler)["Status"] == "SUCCEEDED"
    here.put("t/day=2/b.csv", "a,b\n1.5,x\n")
    here.glue.start_crawler(Name=crawler)
    here.crawled(crawler)
    table = here.glue.get_table(DatabaseName=here.database, Name="p_t")["Table"]
    assert table["StorageDescriptor"]["Columns"] == [
        {"Name": "a", "Type": "double"},
        {"Name": "b", "Type": "string"},
    ]
    partitions = here.glue.get_partitions(DatabaseName=here.database, TableName="p_t")["Partitions"]
    assert {part["Values"][0]: part["StorageDescriptor"]["Location"] for part in partitions} == {
        day: f"s3://{here.bucket}/t/day={day}/" for day in ("1", "2")
    }
    inherited = [part["StorageDescriptor"]["Columns"] for part in partitions]
    assert inherited == [table["StorageDescriptor"]["Columns"]] * 2


def test_a_folder_that_is_empty_now_keeps_its_table(here: Here) -> None:
    here.put("t/a.csv", "a,b\n1,x\n")
    crawler = here.crawler("t/")
    for _ in range(2):
        here.glue.start_crawler(Name=crawler)
        assert here.crawled(crawler)["Status"] == "SUCCEEDED"
        here.s3.delete_object(Bucket=here.bucket, Key="t/a.csv")
    assert here.glue.get_table(DatabaseName=here.database, Name="t")["Table"]["Name"] == "t"


def test_more_tables_than_the_threshold_commit_nothing(here: Here) -> None:
    for folder in ("t", "u"):
        here.put(f"{folder}/a.csv", "a,b\n1,x\n")
    paths = [{"Path": f"s3://{here.bucket}/{folder}/"} for folder in ("t", "u")]
    crawler = here.crawler("", Targets={"S3Targets": paths})
    here.glue.start_crawler(Name=crawler)
    last = here.crawled(crawler)
    assert last["Status"] == "FAILED"
    assert "2 is greater than the table threshold value provided: 1." in last["ErrorMessage"]
    assert here.glue.get_tables(DatabaseName=here.database)["TableList"] == []


@pytest.mark.parametrize(
    ("denied", "operation"),
    [("s3:GetObject", "GetObject"), ("s3:ListBucket", "ListObjectsV2"), ("glue:CreateTable", "CreateTable")],
)
def test_a_crawl_fails_where_its_role_may_not(here: Here, denied: str, operation: str) -> None:
    here.put("t/a.csv", "a,b\n1,x\n")
    role = here.role(EVERYTHING, {"Effect": "Deny", "Action": denied, "Resource": "*"})
    crawler = here.crawler("t/", Role=role)
    here.glue.start_crawler(Name=crawler)
    last = here.crawled(crawler)
    assert last["Status"] == "FAILED"
    assert f"when calling the {operation} operation" in last["ErrorMessage"]


def test_a_crawler_starts_once_and_can_be_stopped(here: Here) -> None:
    here.put("t/a.csv", "a,b\n1,x\n")
    crawler = here.crawler("t/")
    here.glue.start_crawler(Name=crawler)
    with pytest.raises(ClientError, match="CrawlerRunningException"):
        here.glue.start_crawler(Name=crawler)
    here.glue.stop_crawler(Name=crawler)
    assert here.crawled(crawler)["Status"] == "CANCELLED"
    with pytest.raises(ClientError, match="CrawlerNotRunningException"):
        here.glue.stop_crawler(Name=crawler)


def test_a_crawler_that_asks_for_more_does_not_start(here: Here) -> None:
    policy = {"UpdateBehavior": "LOG", "DeleteBehavior": "LOG"}
    crawler = here.crawler("t/", SchemaChangePolicy=policy)
    with pytest.raises(
        ClientError,
        match="UpdateBehavior: 'LOG' is unsupported in the embedded cloud, set 'UPDATE_IN_DATABASE'",
    ):
        here.glue.start_crawler(Name=crawler)


def test_a_crawler_of_defaults_is_told_all_that_it_must_set(here: Here) -> None:
    crawler = here.crawler("t/", SchemaChangePolicy={}, Configuration="")
    with pytest.raises(ClientError) as refused:
        here.glue.start_crawler(Name=crawler)
    message = str(refused.value)
    assert "SchemaChangePolicy.DeleteBehavior: 'DEPRECATE_IN_DATABASE' is unsupported" in message
    assert "set 'LOG'." in message
    assert "Configuration.Grouping.TableGroupingPolicy: None is unsupported" in message
    assert "set 'CombineCompatibleSchemas'." in message


def test_a_crawler_takes_its_role_by_its_name(here: Here) -> None:
    role = here.role().rpartition("/")[2]
    crawler = here.glue.get_crawler(Name=here.crawler("t", Role=role))["Crawler"]
    assert crawler["Role"].endswith(role)
    with pytest.raises(ClientError, match="cannot be found"):
        here.crawler("t", Role="nobody")


# --- jobs ------------------------------------------------------------------------------------------------------------


def test_a_job_has_its_arguments_its_packages_and_its_roles_credentials(here: Here) -> None:
    here.put("in/a.txt", "text")
    script = """
import sys, boto3, extra
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
open(given["--out"] + "/b.txt", "w").write(open(given["--in"] + "/a.txt").read() + extra.WORD)
print(given["--mode"], boto3.client("sts").get_caller_identity()["Arn"])
"""
    default = {
        "--in": f"s3://{here.bucket}/in",
        "--out": f"s3://{here.bucket}/out",
        "--mode": "default",
        "--extra-py-files": here.put("code/extra.py", "WORD = ' more'"),
    }
    job = here.job(script, DefaultArguments=default)
    here.s3.put_object(Bucket=here.bucket, Key="out/old.txt", Body=b"old")
    run_id = here.glue.start_job_run(JobName=job, Arguments={"--mode": "mine"})["JobRunId"]
    run = here.ended(job)[0]
    assert (run["Id"], run["JobRunState"]) == (run_id, "SUCCEEDED"), run
    assert here.s3.get_object(Bucket=here.bucket, Key="out/b.txt")["Body"].read() == b"text more"
    logs = here.client("logs").get_log_events(logGroupName="/aws-glue/jobs/output", logStreamName=run_id)
    role = here.glue.get_job(JobName=job)["Job"]["Role"].rpartition("/")[2]
    (line,) = [event["message"] for event in logs["events"]]
    assert line == f"mine arn:aws:sts::{ACCOUNT}:assumed-role/{role}/GlueJobRunnerSession"


def test_a_failing_job_is_tried_again_and_says_why(here: Here) -> None:
    job = here.job("import sys; sys.exit('no luck')", MaxRetries=1)
    first = here.glue.start_job_run(JobName=job)["JobRunId"]
    until(lambda: len(here.glue.get_job_runs(JobName=job)["JobRuns"]) == 2)
    second, run = here.ended(job)
    assert (run["Id"], second["Id"], second["PreviousRunId"]) == (first, f"{first}_attempt_1", first)
    assert [run["JobRunState"], second["JobRunState"]] == ["FAILED", "FAILED"]
    assert run["ErrorMessage"].endswith("exit code 1:\nno luck")
    logs = here.client("logs").get_log_events(logGroupName="/aws-glue/jobs/error", logStreamName=first)
    assert logs["events"][0]["message"].endswith("no luck")


def test_a_killed_job_is_tried_again_fails_and_copies_nothing_back(here: Here) -> None:
    script = """
import os, signal, sys
given = dict(zip(sys.argv[1::2], sys.argv[2::2]))
open(given["--out"] + "/half.txt", "w").write("half")
os.kill(os.getpid(), signal.SIGKILL)
"""
    here.put("out/old.txt", "old")
    job = here.job(script, DefaultArguments={"--out": f"s3://{here.bucket}/out"}, MaxRetries=1)
    here.glue.start_job_run(JobName=job)
    until(lambda: len(here.glue.get_job_runs(JobName=job)["JobRuns"]) == 2)
    runs = here.ended(job)
    assert [(run["Attempt"], run["JobRunState"]) for run in runs] == [(1, "FAILED"), (0, "FAILED")]
    assert all("exit code -9" in run["ErrorMessage"] for run in runs)
    objects = here.s3.list_objects_v2(Bucket=here.bucket, Prefix="out/")["Contents"]
    assert [item["Key"] for item in objects] == ["out/old.txt"]


def test_a_wait_in_a_script_runs_at_the_clouds_speed(here: Here) -> None:
    job = here.job("import time; time.sleep(90)")
    here.glue.start_job_run(JobName=job)
    run = here.ended(job)[0]
    assert run["JobRunState"] == "SUCCEEDED"
    assert run["ExecutionTime"] < 15


def test_one_run_at_a_time_and_a_stop_ends_it(here: Here) -> None:
    job = here.job("while True: pass")
    run_id = here.glue.start_job_run(JobName=job)["JobRunId"]
    with pytest.raises(ClientError, match="ConcurrentRunsExceededException"):
        here.glue.start_job_run(JobName=job)
    stopped = here.glue.batch_stop_job_run(JobName=job, JobRunIds=[run_id, "jr_0"])
    assert [run["JobRunId"] for run in stopped["SuccessfulSubmissions"]] == [run_id]
    assert stopped["Errors"][0]["ErrorDetail"]["ErrorCode"] == "EntityNotFoundException"
    assert here.ended(job)[0]["JobRunState"] == "STOPPED"


# What became of two runs of a job whose script is ended in each way: their seconds, their states, and the events.
ENDS = """
import contextlib, json, pathlib, tempfile
from unittest import mock
from local import spark
from local.cloud import events, roles, seams
from local.cloud.glue import jobruns

@contextlib.contextmanager
def folder():
    with tempfile.TemporaryDirectory() as path:
        yield pathlib.Path(path)

def ends(ended_by):
    seconds = []
    def run(*_arguments, limits, **_more):
        seconds.append(limits.seconds)
        raise spark.SparkJobError("ended", ended_by)
    job = {"Name": ended_by, "Role": "r", "Timeout": 7, "MaxRetries": 1}
    seams.glue._jobs[ended_by] = job | {"Command": {"Name": "glueetl", "ScriptLocation": "s3://bucket/s.py"}}
    with mock.patch.object(spark, "run", run), mock.patch.object(events, "emit") as emit:
        jobruns.start(work, {"JobName": ended_by})
        jobruns.start(work, {"JobName": ended_by, "Timeout": 2})
    states = [run["JobRunState"] for run in jobruns.runs(ended_by)]
    return seconds, states, [(call.args[2]["state"], call.args[2]["severity"]) for call in emit.call_args_list]

work = mock.MagicMock(folder=folder, start=lambda _name, target, *arguments: target(*arguments))
work.environment.return_value = {}
work.ending.is_set.return_value = False
roles.assume = mock.MagicMock()
print(json.dumps([ends(ended_by) for ended_by in ("time limit", "stop request", "itself")]))
"""


def test_a_run_ends_at_its_own_time_limit_and_only_a_failed_one_is_tried_again(tmp_path: Path) -> None:
    paths = dict.fromkeys(("HOME", "TMPDIR", "STATE_DIR", "S3_DATA_DIR"), str(tmp_path))
    ran = subprocess.run(
        [lifecycle.PYTHON, "-c", ENDS], cwd=ROOT, env=paths, capture_output=True, text=True, check=True
    )
    assert json.loads(ran.stdout.splitlines()[-1]) == [
        [[420, 120], ["TIMEOUT"] * 2, [["TIMEOUT", "WARN"]] * 2],
        [[420, 120], ["STOPPED"] * 2, [["STOPPED", "INFO"]] * 2],
        [[420, 420, 120, 120], ["FAILED"] * 4, [["FAILED", "ERROR"]] * 4],
    ]


@pytest.mark.deep  # test_faults kills a cloud with everything in it
def test_a_job_ends_with_its_cloud(tmp_path: Path) -> None:
    def scripts() -> list[str]:
        listed = subprocess.run(["ps", "-ewwo", "args"], capture_output=True, text=True, check=True).stdout
        return [line for line in listed.splitlines() if str(tmp_path / "work" / "glue") in line]

    with lifecycle.running(Place.on_free_port(tmp_path)) as place:
        here = Here(place.client)
        here.glue.start_job_run(JobName=here.job("while True: pass"))
        until(scripts)
    assert scripts() == []


def test_a_job_whose_role_may_not_read_the_script_fails(here: Here) -> None:
    job = here.job("print()", Role=here.role({**EVERYTHING, "Action": "logs:*"}))
    here.glue.start_job_run(JobName=job)
    run = here.ended(job)[0]
    assert run["JobRunState"] == "FAILED"
    assert "(403)" in run["ErrorMessage"]


def test_what_a_run_cannot_honour_is_refused(here: Here) -> None:
    job = here.job("print()")
    with pytest.raises(ClientError, match="ExecutionClass: unsupported in the embedded cloud"):
        here.glue.start_job_run(JobName=job, ExecutionClass="FLEX")
    with pytest.raises(ClientError, match="IncludeGraph: unsupported in the embedded cloud"):
        here.glue.get_workflow(Name=here.workflow(), IncludeGraph=True)
    with pytest.raises(ClientError, match="GetCrawlerMetrics is unsupported in the embedded cloud"):
        here.glue.get_crawler_metrics()


# --- data quality ----------------------------------------------------------------------------------------------------


def test_a_ruleset_is_judged_by_the_role_that_is_passed(here: Here, cloud: Place) -> None:
    here.put("t/a.csv", "a,b\n1,x\n,y\n")
    crawler = here.crawler("t/")
    here.glue.start_crawler(Name=crawler)
    here.crawled(crawler)
    name = f"ruleset{here.bucket}"
    here.glue.create_data_quality_ruleset(Name=name, Ruleset='Rules = [ Completeness "a" >= 0.9 ]')
    run_role, other = here.role(), here.role()
    ruleset = f"arn:aws:glue:{REGION}:{ACCOUNT}:dataQualityRuleset/{name}"
    caller = here.role(
        {"Effect": "Allow", "Action": "glue:*DataQuality*", "Resource": ruleset},
        {"Effect": "Allow", "Action": "iam:PassRole", "Resource": run_role},
    )
    keys = here.client("sts").assume_role(RoleArn=caller, RoleSessionName="test")["Credentials"]
    glue = boto3.client(
        "glue",
        region_name=REGION,
        endpoint_url=cloud.url,
        verify=str(cloud.certificate),
        aws_access_key_id=keys["AccessKeyId"],
        aws_secret_access_key=keys["SecretAccessKey"],
        aws_session_token=keys["SessionToken"],
    )
    source = {"GlueTable": {"DatabaseName": here.database, "TableName": "t"}}

    def start(role: str) -> str:
        run: str = glue.start_data_quality_ruleset_evaluation_run(
            DataSource=source, Role=role, RulesetNames=[name]
        )["RunId"]
        return run

    with pytest.raises(ClientError, match=r"AccessDeniedException.*iam:PassRole"):
        start(other)
    run_id = start(run_role)

    def over() -> Any:
        run = glue.get_data_quality_ruleset_evaluation_run(RunId=run_id)
        return run["Status"] not in ("STARTING", "RUNNING") and run

    run = until(over)
    assert run["Status"] == "SUCCEEDED", run
    result = glue.get_data_quality_result(ResultId=run["ResultIds"][0])
    assert (result["Score"], result["RuleResults"][0]["Result"]) == (0.0, "FAIL")


def test_a_ruleset_that_no_run_could_judge_is_refused(here: Here) -> None:
    name, rules = here.database, 'Rules = [ ColumnExists "a" ]'
    with pytest.raises(ClientError, match=r"InvalidInputException.*CreateDataQualityRuleset"):
        here.glue.create_data_quality_ruleset(Name=name, Ruleset="garbage")
    here.glue.create_data_quality_ruleset(Name=name, Ruleset=rules)
    for wrong in ("garbage", 'Rules = [ ColumnValues "a" in [x] with threshold >= 1 ]'):
        with pytest.raises(ClientError, match=r"InvalidInputException.*UpdateDataQualityRuleset"):
            here.glue.update_data_quality_ruleset(Name=name, Ruleset=wrong)
    assert here.glue.get_data_quality_ruleset(Name=name)["Ruleset"] == rules


@pytest.mark.parametrize("operation", ["list_crawlers", "list_jobs"])
def test_what_nobody_answers_is_unsupported(here: Here, operation: str) -> None:
    with pytest.raises(ClientError, match=r"UnsupportedOperation.*unsupported in the embedded cloud"):
        getattr(here.glue, operation)()


def test_cloudformation_creates_changes_and_deletes_a_ruleset(here: Here, stack: Stack) -> None:
    def ruleset(rule: str, **more: Any) -> dict[str, Any]:
        properties = {"Ruleset": f"Rules = [ {rule} ]", **more}
        return {"Ruleset": {"Type": "AWS::Glue::DataQualityRuleset", "Properties": properties}}

    def tags() -> dict[str, str]:
        arn = f"arn:aws:glue:{REGION}:{ACCOUNT}:dataQualityRuleset/{name}"
        told: dict[str, str] = here.glue.get_tags(ResourceArn=arn)["Tags"]
        return told

    first = ruleset('ColumnExists "a"', Description="one", Tags={"a": "b", "c": "d"})
    assert stack.deploy(first) == "CREATE_COMPLETE"
    name = stack.physical_id("Ruleset")
    assert tags().items() >= {"a": "b", "c": "d", "aws:cloudformation:stack-name": stack.name}.items()
    assert here.glue.get_data_quality_ruleset(Name=name)["Description"] == "one"
    assert stack.deploy(ruleset('ColumnExists "b"', Description="two", Tags={"a": "e"})) == "UPDATE_COMPLETE"
    found = here.glue.get_data_quality_ruleset(Name=name)
    assert (found["Ruleset"], found["Description"]) == ('Rules = [ ColumnExists "b" ]', "two")
    assert tags()["a"] == "e"
    assert "c" not in tags()
    assert name in [it["Name"] for it in here.glue.list_data_quality_rulesets()["Rulesets"]]
    assert stack.deploy(ruleset('ColumnExists "b"')) == "UPDATE_COMPLETE"
    assert not here.glue.get_data_quality_ruleset(Name=name).get("Description")
    here.glue.delete_data_quality_ruleset(Name=name)
    assert stack.delete() == "DELETE_COMPLETE"


# --- workflows -------------------------------------------------------------------------------------------------------


def test_triggers_fire_by_their_predicates(here: Here) -> None:
    good, bad = here.job("print(1)"), here.job("raise SystemExit('bad')")
    both, either, never = (here.job(f"print({number})") for number in range(3))
    workflow = here.workflow(
        on_demand(good, bad),
        when("SUCCEEDED", good, bad, then=never),
        when("SUCCEEDED", good, bad, then=either, logical="ANY"),
        when("SUCCEEDED", good, either, then=both),
        DefaultRunProperties={"why": "default", "more": "default"},
    )
    run_id = here.glue.start_workflow_run(Name=workflow, RunProperties={"why": "test"})["RunId"]
    run = here.over(workflow)
    assert run["Status"] == "COMPLETED"
    statistics = run["Statistics"]
    assert (statistics["TotalActions"], statistics["SucceededActions"], statistics["FailedActions"]) == (
        4,
        3,
        1,
    )
    assert here.glue.get_job_runs(JobName=never)["JobRuns"] == []
    arguments = here.glue.get_job_runs(JobName=both)["JobRuns"][0]["Arguments"]
    assert arguments["--WORKFLOW_RUN_ID"] == run_id
    assert run["WorkflowRunProperties"] == {"why": "test", "more": "default"}
    assert workflow in here.glue.list_workflows()["Workflows"]
    last = here.glue.get_workflow(Name=workflow)["Workflow"]["LastRun"]
    assert last["WorkflowRunId"] == run_id


def test_a_stopped_workflow_ends_its_job_and_starts_no_other(here: Here) -> None:
    endless, after = here.job("while True: pass"), here.job("print()")
    workflow = here.workflow(on_demand(endless), when("STOPPED", endless, then=after), MaxConcurrentRuns=1)
    run_id = here.glue.start_workflow_run(Name=workflow)["RunId"]
    with pytest.raises(ClientError, match="ConcurrentRunsExceededException"):
        here.glue.start_workflow_run(Name=workflow)
    here.glue.stop_workflow_run(Name=workflow, RunId=run_id)
    run = here.over(workflow)
    assert (run["Status"], run["Statistics"]["StoppedActions"]) == ("STOPPED", 1)
    assert here.glue.get_job_runs(JobName=after)["JobRuns"] == []


def test_a_stopped_workflow_stops_its_crawler(here: Here) -> None:
    here.put("t/a.csv", "a,b\n1,x\n")
    crawler = here.crawler("t/")
    workflow = here.workflow({"Type": "ON_DEMAND", "Actions": [{"CrawlerName": crawler}]})
    run_id = here.glue.start_workflow_run(Name=workflow)["RunId"]
    here.glue.stop_workflow_run(Name=workflow, RunId=run_id)
    assert here.crawled(crawler)["Status"] == "CANCELLED"
    run = here.over(workflow)
    assert (run["Status"], run["Statistics"]["StoppedActions"]) == ("STOPPED", 1)
    with pytest.raises(ClientError, match="IllegalWorkflowStateException"):
        here.glue.stop_workflow_run(Name=workflow, RunId=run_id)


def test_a_run_of_nothing_known_is_not_stopped(here: Here) -> None:
    for name in ("nothing", here.workflow()):
        with pytest.raises(ClientError, match="EntityNotFoundException"):
            here.glue.stop_workflow_run(Name=name, RunId="wr_0")


@pytest.fixture
def uploads(here: Here, client: Client) -> Iterator[Callable[[str, str], None]]:
    """`uploads(workflow, role)`: objects under batch/ start the workflow, as the upload rule of Processing does it."""
    events, name = client("events"), f"uploads-{here.bucket}"
    here.s3.put_bucket_notification_configuration(
        Bucket=here.bucket, NotificationConfiguration={"EventBridgeConfiguration": {}}
    )
    pattern = {
        "source": ["aws.s3"],
        "detail": {"bucket": {"name": [here.bucket]}, "object": {"key": [{"prefix": "batch/"}]}},
    }
    events.put_rule(Name=name, EventPattern=json.dumps(pattern))

    def listen(workflow: str, role: str) -> None:
        arn = f"arn:aws:glue:{REGION}:{ACCOUNT}:workflow/{workflow}"
        events.put_targets(Rule=name, Targets=[{"Id": "workflow", "Arn": arn, "RoleArn": role}])

    yield listen
    events.remove_targets(Rule=name, Ids=["workflow"])
    events.delete_rule(Name=name)


def test_an_upload_starts_the_workflow(here: Here, uploads: Callable[[str, str], None]) -> None:
    job = here.job("print()")
    workflow = here.workflow({"Type": "EVENT", "Actions": [{"JobName": job}]})
    uploads(workflow, here.role({**EVERYTHING, "Action": "glue:NotifyEvent"}))
    here.put("batch/a.csv", "a,b\n1,2\n")
    run = here.over(workflow)
    assert run["Statistics"]["SucceededActions"] == 1
    assert run["WorkflowRunProperties"].keys() == {"aws:eventIds"}


def test_uploads_wait_for_a_batch_or_for_its_window(
    here: Here, cloud: Place, uploads: Callable[[str, str], None]
) -> None:
    workflow = here.workflow(
        {
            "Type": "EVENT",
            "Actions": [{"JobName": here.job("print()")}],
            "EventBatchingCondition": {"BatchSize": 2, "BatchWindow": 120},
        }
    )
    uploads(workflow, here.role({**EVERYTHING, "Action": "glue:NotifyEvent"}))
    for number in range(2):
        here.put(f"batch/{number}.csv", "a,b\n1,2\n")
    assert here.over(workflow)["StartingEventBatchCondition"]["BatchSize"] == 2
    began = time.monotonic()
    here.put("batch/alone.csv", "a,b\n1,2\n")
    until(lambda: len(here.glue.get_workflow_runs(Name=workflow)["Runs"]) == 2)
    assert time.monotonic() - began >= 120 / cloud.factor
    assert here.over(workflow)["StartingEventBatchCondition"]["BatchSize"] == 1


def test_an_upload_starts_nothing_without_the_right_to_notify(
    here: Here, uploads: Callable[[str, str], None]
) -> None:
    workflow = here.workflow({"Type": "EVENT", "Actions": [{"JobName": here.job("print()")}]})
    uploads(workflow, here.role({**EVERYTHING, "Action": "glue:StartWorkflowRun"}))
    here.put("batch/a.csv", "a,b\n1,2\n")
    time.sleep(1)
    assert here.glue.get_workflow_runs(Name=workflow)["Runs"] == []
