"""What starts a pipeline: the AWS CLI, the SageMaker SDK, a rule, a schedule; and what hears of its execution."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.cloud.place import Place
from tests.local.cloud.conftest import Cdk
from tests.local.cloud.test_events import messages, queue
from tests.local.cloud.test_pipelines import ACCOUNT, ENDED, Account, account, role, until
from tests.local.runner.written import parameter, pipeline, processing
from tests.pipeline.spark.small_curated import write_small_curated
from tests.support.deployed import Deployment

__all__ = ["account"]
SMALL = pipeline(processing("A", "true"), parameters=[parameter("Reason", "none")])


def shell(place: Place, *command: str) -> str:
    """What a command prints in the environment of `make shell`."""
    completed = subprocess.run(
        command, env=place.environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert completed.returncode == 0, completed.stderr
    return completed.stdout


def test_the_aws_cli_starts_a_pipeline_and_lists_its_steps(account: Account, cloud: Place) -> None:
    account.create(SMALL)
    told = shell(
        cloud,
        *("aws", "sagemaker", "start-pipeline-execution", "--pipeline-name", account.name),
        *("--pipeline-parameters", "Name=Reason,Value=typed"),
    )
    arn = json.loads(told)["PipelineExecutionArn"]
    assert account.ended(arn)["PipelineExecutionStatus"] == "Succeeded"
    told = shell(cloud, "aws", "sagemaker", "list-pipeline-execution-steps", "--pipeline-execution-arn", arn)
    [step] = json.loads(told)["PipelineExecutionSteps"]
    assert step["Metadata"]["ProcessingJob"]["Arn"].startswith(
        f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:processing-job/"
    )


SDK = """
import json, sys
from sagemaker.core.resources import Pipeline, PipelineExecution
from sagemaker.mlops.workflow.pipeline import Pipeline as Workflow

name = sys.argv[1]
started = Workflow(name=name).start(parameters={"Reason": "sdk"})
started.wait(delay=1)
execution = PipelineExecution.get(pipeline_execution_arn=started.arn)
execution.wait_for_status("Succeeded", poll=1, timeout=30)
print(json.dumps({
    "pipeline": Pipeline.get(pipeline_name=name).pipeline_status,
    "described": started.describe()["PipelineExecutionStatus"],
    "executions": [it.pipeline_execution_arn == started.arn for it in PipelineExecution.get_all(pipeline_name=name)],
    "steps": [(it.step_name, it.step_status) for it in execution.get_all_steps()],
    "listed": [it["StepName"] for it in started.list_steps()],
    "parameters": [(it.name, it.value) for it in execution.get_all_parameters()],
}))
"""


@pytest.mark.deep  # importing the SDK takes ten seconds
def test_the_classes_of_the_sagemaker_sdk_start_wait_and_describe(account: Account, cloud: Place) -> None:
    account.create(SMALL)
    told = json.loads(shell(cloud, sys.executable, "-c", SDK, account.name).splitlines()[-1])
    assert told == {
        "pipeline": "Active",
        "described": "Succeeded",
        "executions": [True],
        "steps": [["A", "Succeeded"]],
        "listed": ["A"],
        "parameters": [["Reason", "sdk"]],
    }


def starter(account: Account, service: str, pipeline_arn: str) -> dict[str, Any]:
    """A target that starts the pipeline with a role of its own."""
    may = role(account.client("iam"), (["sagemaker:StartPipelineExecution"], [pipeline_arn]), service=service)
    given = {"PipelineParameterList": [{"Name": "Reason", "Value": service}]}
    return {"Arn": pipeline_arn, "RoleArn": may, "SageMakerPipelineParameters": given}


def started(account: Account) -> Any:
    """The one execution that something started; what it was told."""
    listed = until(
        lambda: account.sagemaker.list_pipeline_executions(PipelineName=account.name)[
            "PipelineExecutionSummaries"
        ],
        bool,
    )
    arn = listed[-1]["PipelineExecutionArn"]
    told = account.sagemaker.list_pipeline_parameters_for_execution(PipelineExecutionArn=arn)
    return told["PipelineParameters"]


def test_a_rule_starts_a_pipeline_with_the_targets_role_and_parameters(account: Account) -> None:
    target = starter(account, "events.amazonaws.com", account.create(SMALL))
    events = account.client("events")
    events.put_rule(Name=account.name, EventPattern=json.dumps({"source": [account.name]}))
    events.put_targets(Rule=account.name, Targets=[{"Id": "Pipeline", **target}])
    events.put_events(Entries=[{"Source": account.name, "DetailType": "Test", "Detail": "{}"}])
    assert started(account) == [{"Name": "Reason", "Value": "events.amazonaws.com"}]


def test_a_schedule_starts_a_pipeline(account: Account) -> None:
    target = starter(account, "scheduler.amazonaws.com", account.create(SMALL))
    scheduler = account.client("scheduler")
    scheduler.create_schedule(
        Name=account.name,
        ScheduleExpression="rate(1 minutes)",
        FlexibleTimeWindow={"Mode": "OFF"},
        Target=target,
    )
    assert started(account) == [{"Name": "Reason", "Value": "scheduler.amazonaws.com"}]
    scheduler.delete_schedule(Name=account.name)


def test_an_execution_and_its_steps_tell_eventbridge(account: Account) -> None:
    url, queue_arn = queue(
        account.client, account.name, [f"arn:aws:events:us-east-1:{ACCOUNT}:rule/{account.name}"]
    )
    pipeline_arn = account.create(SMALL)
    pattern = {"source": ["aws.sagemaker"], "detail": {"pipelineArn": [pipeline_arn]}}
    account.client("events").put_rule(Name=account.name, EventPattern=json.dumps(pattern))
    account.client("events").put_targets(Rule=account.name, Targets=[{"Id": "Queue", "Arn": queue_arn}])
    arn = account.start()
    account.ended(arn)
    heard = [json.loads(message["Body"]) for message in messages(account.client, url)]
    about = "SageMaker Model Building Pipeline Execution"
    of_execution = [it["detail"] for it in heard if it["detail-type"] == f"{about} Status Change"]
    of_step = [it["detail"] for it in heard if it["detail-type"] == f"{about} Step Status Change"]
    assert {tuple(it["resources"]) for it in heard} == {(pipeline_arn, arn)}
    assert [it["currentPipelineExecutionStatus"] for it in of_execution] == ["Executing", "Succeeded"]
    assert of_execution[1]["previousPipelineExecutionStatus"] == "Executing"
    assert of_execution[1]["executionStartTime"] <= of_execution[1]["executionEndTime"]
    assert [it["currentStepStatus"] for it in of_step] == ["Starting", "Executing", "Succeeded"]
    [job] = {it["metadata"]["processingJob"]["arn"] for it in of_step[1:]}
    assert (of_step[2]["stepName"], of_step[2]["stepType"]) == ("A", "Processing")
    assert job == account.steps(arn)["A"]["Metadata"]["ProcessingJob"]["Arn"]


# The project's own pipeline.


def test_the_deployed_pipeline_is_the_committed_definition(
    deployed: Cdk, client: Callable[[str], Any]
) -> None:
    [template] = deployed.assembly.template("Training").resources("AWS::SageMaker::Pipeline").values()
    name = template["Properties"]["PipelineName"]
    described = client("sagemaker").describe_pipeline(PipelineName=name)
    definition = json.loads(described["PipelineDefinition"])
    assert definition["Steps"][0]["Name"] == "Prepare"
    assert "${" not in described["PipelineDefinition"]
    assert described["PipelineDescription"] == template["Properties"]["PipelineDescription"]


@pytest.fixture
def crawler(deployed: Cdk, client: Callable[[str], Any]) -> Iterator[str]:
    """The curated data's, while the deployed rule that waits for it is enabled."""
    found = list(Deployment(deployed.assembly, client("cloudformation")).resources())

    def named(kind: str, prefix: str) -> str:
        [name] = [it.physical_id for it in found if it.type == kind and it.logical_id.startswith(prefix)]
        return name

    rule = named("AWS::Events::Rule", "StartsRule")
    client("events").enable_rule(Name=rule)
    yield named("AWS::Glue::Crawler", "CuratedCrawler")
    client("events").disable_rule(Name=rule)


def test_a_crawl_of_the_curated_data_starts_the_pipeline_by_the_templates_rule(
    deployed: Cdk, client: Callable[[str], Any], crawler: str
) -> None:
    sagemaker = client("sagemaker")
    [template] = deployed.assembly.template("Training").resources("AWS::SageMaker::Pipeline").values()

    def executions() -> set[str]:
        listed = sagemaker.list_pipeline_executions(PipelineName=template["Properties"]["PipelineName"])
        return {it["PipelineExecutionArn"] for it in listed["PipelineExecutionSummaries"]}

    before = executions()
    client("glue").start_crawler(Name=crawler)
    [arn] = until(lambda: executions() - before, bool)
    last = client("glue").get_crawler(Name=crawler)["Crawler"]["LastCrawl"]
    assert last["Status"] == "SUCCEEDED", last
    with contextlib.suppress(ClientError):  # over already: there was nothing to prepare
        sagemaker.stop_pipeline_execution(PipelineExecutionArn=arn)
    until(
        lambda: sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn),
        lambda it: it["PipelineExecutionStatus"] in ENDED,
    )


@pytest.mark.deep  # a minute
def test_real_flights_become_a_registered_model_by_the_sandboxs_own_roles(
    deployed: Cdk, client: Callable[[str], Any], tmp_path: Path
) -> None:
    sagemaker, s3 = client("sagemaker"), client("s3")
    [template] = deployed.assembly.template("Training").resources("AWS::SageMaker::Pipeline").values()
    name = template["Properties"]["PipelineName"]
    definition = json.loads(sagemaker.describe_pipeline(PipelineName=name)["PipelineDefinition"])
    curated = next(it["DefaultValue"] for it in definition["Parameters"] if it["Name"] == "InputDataUri")
    bucket, _, prefix = curated.removeprefix("s3://").partition("/")
    folder = write_small_curated(tmp_path / "curated", rows=40_000)
    for path in folder.rglob("*.parquet"):
        s3.upload_file(str(path), bucket, f"{prefix}{path.relative_to(folder).as_posix()}")
    # On so few rows only a cautious booster beats the linear model, which the gate demands.
    given = {"NumRound": "200", "MaxDepth": "5", "Eta": "0.05", "MinChildWeight": "50"}
    arn = sagemaker.start_pipeline_execution(
        PipelineName=name, PipelineParameters=[{"Name": key, "Value": value} for key, value in given.items()]
    )["PipelineExecutionArn"]
    execution = until(
        lambda: sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn),
        lambda it: it["PipelineExecutionStatus"] != "Executing",
        seconds=480,
    )
    steps = sagemaker.list_pipeline_execution_steps(PipelineExecutionArn=arn)["PipelineExecutionSteps"]
    assert execution["PipelineExecutionStatus"] == "Succeeded", steps
    package = next(it for it in steps if it["StepName"] == "RegisterModel")["Metadata"]["RegisterModel"][
        "Arn"
    ]
    described = sagemaker.describe_model_package(ModelPackageName=package)
    assert described["ModelApprovalStatus"] == "PendingManualApproval"
    [container] = described["InferenceSpecification"]["Containers"]
    bucket, _, key = container["ModelDataUrl"].removeprefix("s3://").partition("/")
    assert s3.head_object(Bucket=bucket, Key=key)["ContentLength"] > 0
    for listed in s3.list_objects_v2(Bucket=curated.split("/")[2]).get("Contents", []):
        s3.delete_object(Bucket=curated.split("/")[2], Key=listed["Key"])
