"""One permission less, on the deployed sandbox: the service's own error names role, action and resource."""

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from local.cloud import decisions, iam_report
from local.cloud.place import ACCOUNT, REGION
from tests.local.cloud.conftest import Cdk
from tests.local.cloud.test_stream import eventually
from tests.support.deployed import Deployment, Resource
from tools import replay

Client = Callable[[str], Any]


class Sandbox:
    """The deployed sandbox by its APIs, its roles by their ideas, and a few flights to work on."""

    def __init__(self, cdk: Cdk, client: Client) -> None:
        self.client = client
        self.roles = {role.idea: role for role in iam_report.roles(client)}
        self.resources = list(Deployment(cdk.assembly, client("cloudformation")).resources())
        self.flights = replay.events(flights=200)
        self.raw, self.curated, self.artifacts = (
            self.named("AWS::S3::Bucket", name) for name in ("Raw", "Curated", "Artifacts")
        )

    def named(self, kind: str, prefix: str = "") -> str:
        (found,) = self._found(kind, prefix)
        return found.physical_id

    def properties(self, kind: str, prefix: str) -> Mapping[str, Any]:
        (found,) = self._found(kind, prefix)
        return found.properties

    def _found(self, kind: str, prefix: str) -> list[Resource]:
        return [it for it in self.resources if it.type == kind and it.logical_id.startswith(prefix)]

    @contextlib.contextmanager
    def without(self, idea: str, action: str) -> Iterator[Callable[[str], str]]:
        """Take the action from the role as long as the block; gives a search for the denial, and its resource."""
        role, iam = self.roles[idea], self.client("iam")
        less = role.policies
        for permission in reversed(list(decisions.permissions(role.policies))):
            if permission.action == action:
                less = decisions.without(less, permission)
        assert less != role.policies
        said = (
            rf"assumed-role/{role.name}/\S+ is not authorized to perform: {action} on resource: (\S+) because"
        )

        def denied(text: str) -> str:
            found = re.search(said, text)
            return found[1] if found else ""

        self._put(iam, role.name, less)
        try:
            yield denied
        finally:
            self._put(iam, role.name, role.policies)

    @staticmethod
    def _put(iam: Any, role: str, policies: decisions.Policies) -> None:
        for name, document in policies.items():
            iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(document))

    def logged(self, function: str) -> str:
        """What a function has logged."""
        group = self.properties("AWS::Lambda::Function", function)["LoggingConfig"]["LogGroup"]
        pages = self.client("logs").get_paginator("filter_log_events").paginate(logGroupName=group)
        return "\n".join(event["message"] for page in pages for event in page["events"])

    def keys(self, bucket: str, prefix: str) -> list[str]:
        pages = self.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]

    def remove(self, bucket: str, *prefixes: str) -> None:
        for key in [key for prefix in prefixes for key in self.keys(bucket, prefix)]:
            self.client("s3").delete_object(Bucket=bucket, Key=key)


@pytest.fixture(scope="module")
def sandbox(deployed: Cdk, client: Client, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """With flights in the raw bucket; afterwards they are gone, and every role is as it was deployed."""
    found, folder = Sandbox(deployed, client), tmp_path_factory.mktemp("raw")
    replay.write_batch(found.flights, folder)
    replay.write_reference(folder)
    for path in filter(Path.is_file, folder.rglob("*")):
        client("s3").upload_file(str(path), found.raw, path.relative_to(folder).as_posix())
    yield found
    found.remove(found.raw, "batch/", "reference/", "aws/lambda/")
    assert {role.idea: role for role in iam_report.roles(client)} == found.roles


def test_a_crawl_without_create_table_fails_and_says_so(sandbox: Sandbox) -> None:
    glue, name = sandbox.client("glue"), sandbox.named("AWS::Glue::Crawler", "RawCrawler")

    def ended() -> Any:
        crawler = glue.get_crawler(Name=name)["Crawler"]
        return crawler["State"] == "READY" and crawler["LastCrawl"]

    for table in glue.get_tables(DatabaseName="flights_sandbox")["TableList"]:
        if table["Name"].startswith("raw_"):  # one that another test's crawl has made would only be updated
            glue.delete_table(DatabaseName="flights_sandbox", Name=table["Name"])
    with sandbox.without("RawCrawlerRole", "glue:CreateTable") as denied:
        glue.start_crawler(Name=name)
        last = eventually(ended, seconds=60)
    assert last["Status"] == "FAILED"
    arn = f"arn:aws:glue:{REGION}:{ACCOUNT}:table/flights_sandbox/raw_"
    assert denied(last["ErrorMessage"]).startswith(arn)


@pytest.mark.deep
def test_a_job_that_may_not_write_fails_and_publishes_nothing(sandbox: Sandbox) -> None:
    glue, name = sandbox.client("glue"), sandbox.named("AWS::Glue::Job", "Curate")

    def ended() -> Any:
        run = glue.get_job_run(JobName=name, RunId=first)["JobRun"]
        return run["JobRunState"] in {"SUCCEEDED", "FAILED"} and run

    published = sandbox.keys(sandbox.curated, "")
    with sandbox.without("CurateRole", "s3:PutObject") as denied:
        first = glue.start_job_run(JobName=name)["JobRunId"]
        run = eventually(ended, seconds=300)
        retry = {"JobName": name, "JobRunIds": [f"{first}_attempt_1"]}  # it would fail likewise
        assert eventually(lambda: glue.batch_stop_job_run(**retry)["SuccessfulSubmissions"])
        assert eventually(lambda: glue.get_job_runs(JobName=name)["JobRuns"][0]["JobRunState"] == "STOPPED")
    assert run["JobRunState"] == "FAILED"
    assert denied(run["ErrorMessage"]).startswith(f"arn:aws:s3:::{sandbox.curated}/")
    assert sandbox.keys(sandbox.curated, "") == published


def test_a_pipeline_that_may_pass_no_role_starts_no_job(sandbox: Sandbox) -> None:
    sagemaker = sandbox.client("sagemaker")
    with sandbox.without("PipelineRole", "iam:PassRole") as denied:
        started = sagemaker.start_pipeline_execution(PipelineName=sandbox.named("AWS::SageMaker::Pipeline"))
        arn = started["PipelineExecutionArn"]
        assert eventually(
            lambda: (
                sagemaker.describe_pipeline_execution(PipelineExecutionArn=arn)["PipelineExecutionStatus"]
                == "Failed"
            )
        )
    steps = sagemaker.list_pipeline_execution_steps(PipelineExecutionArn=arn)["PipelineExecutionSteps"]
    (failed,) = [step for step in steps if step["StepStatus"] == "Failed"]
    role = sandbox.roles["PrepareRole"].name
    assert denied(failed["FailureReason"]) == f"arn:aws:iam::{ACCOUNT}:role/{role}"


def test_a_release_that_may_not_update_the_stack_leaves_it_as_it_is(sandbox: Sandbox) -> None:
    sagemaker, sqs = sandbox.client("sagemaker"), sandbox.client("sqs")
    cloudformation = sandbox.client("cloudformation")
    key = "pipeline/none/model.tar.gz"
    sandbox.client("s3").put_object(Bucket=sandbox.artifacts, Key=key, Body=b"")
    image = f"683313688378.dkr.ecr.{REGION}.amazonaws.com/sagemaker-xgboost:3.0-5"
    package = sagemaker.create_model_package(
        ModelPackageGroupName="flights-sandbox",
        ModelApprovalStatus="PendingManualApproval",
        InferenceSpecification={
            "Containers": [{"Image": image, "ModelDataUrl": f"s3://{sandbox.artifacts}/{key}"}],
            "SupportedContentTypes": ["application/json"],
            "SupportedResponseMIMETypes": ["application/json"],
        },
    )["ModelPackageArn"]

    def stack() -> Any:
        (found,) = cloudformation.describe_stacks(StackName="flights-sandbox-serving")["Stacks"]
        return found

    before = stack()
    with sandbox.without("ApprovalsReleaseFunctionRole", "cloudformation:UpdateStack") as denied:
        sagemaker.update_model_package(ModelPackageArn=package, ModelApprovalStatus="Approved")
        resource = eventually(lambda: denied(sandbox.logged("ApprovalsReleaseFunction")), seconds=30)
        sqs.purge_queue(QueueUrl=sandbox.named("AWS::SQS::Queue", "ApprovalsEventsQueue"))
    sagemaker.delete_model_package(ModelPackageName=package)
    sandbox.remove(sandbox.artifacts, key)
    assert resource.rpartition("/")[0] == before["StackId"].rpartition("/")[0]
    assert stack() == before


def test_a_consumer_that_may_not_ask_keeps_the_batch_for_later(sandbox: Sandbox) -> None:
    """It is no record's fault: nothing is quarantined, and Lambda gives the batch up into its failure destination."""
    flight = next(event for event in sandbox.flights if event.fault is None).json().encode()
    quarantined = sandbox.keys(sandbox.raw, "quarantine/")
    with sandbox.without("ConsumerPredictRole", "sagemaker:InvokeEndpoint") as denied:
        sandbox.client("kinesis").put_record(
            StreamName=sandbox.named("AWS::Kinesis::Stream"), Data=flight, PartitionKey="k"
        )
        assert eventually(lambda: sandbox.keys(sandbox.raw, "aws/lambda/"), seconds=60)
    logged = sandbox.logged("ConsumerPredictFunction")
    assert denied(logged) == f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:endpoint/flights-sandbox"
    assert sandbox.keys(sandbox.raw, "quarantine/") == quarantined
