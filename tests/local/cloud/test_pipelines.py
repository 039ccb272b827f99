"""Pipelines by the API: each step is a process with its own role, and each call is one that a role may make."""

import contextlib
import json
import os
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from local.cloud.place import Place
from tests.local.runner import written
from tests.local.runner.written import (
    Json,
    compare,
    condition,
    fail,
    get,
    json_get,
    parameter,
    pipeline,
)

ENDED = {"Succeeded", "Failed", "Stopped"}
ACCOUNT = "000000000000"


def role(iam: Any, *statements: tuple[list[str], list[str]], service: str = "sagemaker.amazonaws.com") -> str:
    """A role that a service may assume, and that may do only this."""
    name = f"role-{secrets.token_hex(4)}"
    trust = {
        "Effect": "Allow",
        "Principal": {"Service": service},
        "Action": "sts:AssumeRole",
    }
    allowed = [{"Effect": "Allow", "Action": actions, "Resource": on} for actions, on in statements]
    made = iam.create_role(
        RoleName=name, AssumeRolePolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    )
    iam.put_role_policy(
        RoleName=name,
        PolicyName="own",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": allowed}),
    )
    return str(made["Role"]["Arn"])


class Account:
    """A bucket, a model package group, and the roles of a pipeline and of its jobs: each may do what it needs."""

    def __init__(self, client: Callable[[str], Any]) -> None:
        self.client, self.sagemaker, self.s3 = client, client("sagemaker"), client("s3")
        name = f"pipe-{secrets.token_hex(4)}"
        self.bucket = self.group = self.name = name
        self.s3.create_bucket(Bucket=name)
        self.sagemaker.create_model_package_group(ModelPackageGroupName=name)
        iam = client("iam")
        log = f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:/aws/sagemaker/*"
        self.job_role = role(
            iam,
            (["s3:ListBucket"], [f"arn:aws:s3:::{name}"]),
            (["s3:GetObject", "s3:PutObject"], [f"arn:aws:s3:::{name}/*"]),
            (["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"], [log]),
        )
        own = [
            f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:{kind}/pipelines-*"
            for kind in ("processing-job", "training-job")
        ]
        verbs = [
            f"sagemaker:{verb}{kind}Job"
            for verb in ("Create", "Describe", "Stop")
            for kind in ("Processing", "Training")
        ]
        packages = [
            f"arn:aws:sagemaker:us-east-1:{ACCOUNT}:model-package{kind}/{name}{end}"
            for kind, end in (("-group", ""), ("", "/*"))
        ]
        self.pipeline_role = role(
            iam,
            (verbs, own),
            (["sagemaker:CreateModelPackage", "sagemaker:DescribeModelPackage"], packages),
            (["iam:PassRole"], [self.job_role]),
            (["s3:GetObject"], [f"arn:aws:s3:::{name}/*"]),
        )

    def fill(self, value: Any) -> Any:
        """A definition written by hand, with this account's names."""
        text = json.dumps(value)
        names = {written.ROLE: self.job_role, f"s3://{written.BUCKET}": f"s3://{self.bucket}"}
        names[f'"ModelPackageGroupName": "{written.GROUP}"'] = f'"ModelPackageGroupName": "{self.group}"'
        for theirs, ours in names.items():
            text = text.replace(theirs, ours)
        return json.loads(text)

    def create(self, definition: Json) -> str:
        body = json.dumps(self.fill(definition))
        arn = self.sagemaker.create_pipeline(
            PipelineName=self.name, PipelineDefinition=body, RoleArn=self.pipeline_role
        )["PipelineArn"]
        return str(arn)

    def start(self, **parameters: str) -> str:
        given = [{"Name": name, "Value": value} for name, value in parameters.items()]
        answer = self.sagemaker.start_pipeline_execution(PipelineName=self.name, PipelineParameters=given)
        return str(answer["PipelineExecutionArn"])

    def run(self, definition: Json, **parameters: str) -> Any:
        self.create(definition)
        return self.ended(self.start(**parameters))

    def ended(self, execution: str) -> Any:
        return until(
            lambda: self.sagemaker.describe_pipeline_execution(PipelineExecutionArn=execution),
            lambda it: it["PipelineExecutionStatus"] in ENDED,
        )

    def steps(self, execution: str) -> dict[str, Any]:
        found = self.sagemaker.list_pipeline_execution_steps(
            PipelineExecutionArn=execution, SortOrder="Ascending"
        )
        return {step["StepName"]: step for step in found["PipelineExecutionSteps"]}

    def packages(self) -> list[Any]:
        found = self.sagemaker.list_model_packages(ModelPackageGroupName=self.group)
        return list(found["ModelPackageSummaryList"])

    def log(self, group: str, job: str) -> list[str]:
        logs = self.client("logs")
        [stream] = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{job}/")["logStreams"]
        assert stream["logStreamName"].startswith(f"{job}/algo-1-")
        found = logs.get_log_events(logGroupName=group, logStreamName=stream["logStreamName"])
        return [event["message"] for event in found["events"]]


def until(ask: Callable[[], Any], done: Callable[[Any], bool], seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not done(answer := ask()):
        assert time.monotonic() < deadline, answer
        time.sleep(0.05)
    return answer


@pytest.fixture
def account(client: Callable[[str], Any]) -> Iterator[Account]:
    account = Account(client)
    yield account
    running = account.sagemaker.list_pipeline_executions
    with contextlib.suppress(ClientError):
        for it in running(PipelineName=account.name)["PipelineExecutionSummaries"]:
            if it["PipelineExecutionStatus"] not in ENDED:
                account.sagemaker.stop_pipeline_execution(PipelineExecutionArn=it["PipelineExecutionArn"])


def trained(report: str = "0.8", **more: Any) -> Json:
    """Train → evaluate → register above a threshold, else fail."""
    value = json_get("Evaluate", "Evaluation", "auc")
    return pipeline(
        written.training(
            "Train",
            "echo train-auc:0.75; cp /opt/ml/input/data/train/* /opt/ml/model/",
            metrics={"train:auc": "train-auc:([0-9.]+)"},
            channels={"train": get("Parameters.Raw")},
            **more,
        ),
        written.processing(
            "Evaluate",
            f"echo '{{\"auc\": {report}}}' > {written.PROCESSING}/output/report/report.json",
            inputs={"model": get("Steps.Train.ModelArtifacts.S3ModelArtifacts")},
            outputs=("report",),
            files={"Evaluation": "report.json"},
        ),
        condition(
            "Gate",
            compare("GreaterThan", value, get("Parameters.Threshold")),
            then=[written.register("Register", "Train")],
            otherwise=[fail("TooLow", written.join("auc ", value, " is too low"))],
        ),
        parameters=[parameter("Raw", f"s3://{written.BUCKET}/raw/"), parameter("Threshold", 0.7, "Float")],
    )


@pytest.fixture
def data(account: Account) -> Account:
    account.s3.put_object(Bucket=account.bucket, Key="raw/rows.csv", Body=b"1,2\n")
    return account


def test_a_good_model_is_registered_by_roles_that_may_do_no_more_than_they_need(data: Account) -> None:
    execution = data.run(trained())
    arn = execution["PipelineExecutionArn"]
    steps = data.steps(arn)
    assert execution["PipelineExecutionStatus"] == "Succeeded", steps
    assert list(steps) == ["Train", "Evaluate", "Gate", "Register"]
    assert {step["StepStatus"] for step in steps.values()} == {"Succeeded"}
    [package] = data.packages()
    assert package["ModelApprovalStatus"] == "PendingManualApproval"
    assert steps["Register"]["Metadata"] == {"RegisterModel": {"Arn": package["ModelPackageArn"]}}
    assert steps["Gate"]["Metadata"] == {"Condition": {"Outcome": "True"}}
    job = steps["Train"]["Metadata"]["TrainingJob"]["Arn"].rpartition("/")[2]
    described = data.sagemaker.describe_training_job(TrainingJobName=job)
    assert described["TrainingJobStatus"] == described["SecondaryStatus"] == "Completed"
    assert [(it["MetricName"], round(it["Value"], 4)) for it in described["FinalMetricDataList"]] == [
        ("train:auc", 0.75)
    ]
    assert described["RoleArn"] == data.job_role
    assert data.log("/aws/sagemaker/TrainingJobs", described["TrainingJobName"]) == ["train-auc:0.75"]


def test_a_model_below_the_threshold_is_refused_with_the_reason(data: Account) -> None:
    execution = data.run(trained(), Threshold="0.9")
    steps = data.steps(execution["PipelineExecutionArn"])
    assert execution["PipelineExecutionStatus"] == "Failed"
    assert execution["FailureReason"] == "Step failure: One or multiple steps failed."
    assert steps["Gate"]["Metadata"] == {"Condition": {"Outcome": "False"}}
    assert steps["TooLow"]["FailureReason"] == "auc 0.8 is too low"
    assert steps["TooLow"]["Metadata"] == {"Fail": {"ErrorMessage": "auc 0.8 is too low"}}
    assert data.packages() == []


def test_steps_are_listed_page_by_page_the_newest_first_if_asked(data: Account) -> None:
    execution = data.run(trained())["PipelineExecutionArn"]
    pages = data.sagemaker.get_paginator("list_pipeline_execution_steps").paginate(
        PipelineExecutionArn=execution, SortOrder="Descending", PaginationConfig={"PageSize": 3}
    )
    names = [[step["StepName"] for step in page["PipelineExecutionSteps"]] for page in pages]
    assert names == [["Register", "Gate", "Evaluate"], ["Train"]]


def test_parameters_and_definition_of_an_execution_are_kept(data: Account) -> None:
    definition = data.fill(trained())
    execution = data.run(trained(), Threshold="0.1")["PipelineExecutionArn"]
    later = json.dumps(data.fill(pipeline(written.processing("A", "true"))))
    data.sagemaker.update_pipeline(PipelineName=data.name, PipelineDefinition=later)
    kept = data.sagemaker.describe_pipeline_definition_for_execution(PipelineExecutionArn=execution)
    assert json.loads(kept["PipelineDefinition"]) == definition
    values = data.sagemaker.list_pipeline_parameters_for_execution(PipelineExecutionArn=execution)
    assert {"Name": "Threshold", "Value": "0.1"} in values["PipelineParameters"]
    assert data.sagemaker.describe_pipeline(PipelineName=data.name)["PipelineDefinition"] == later


# What a running execution shows, and how it ends early.


def test_a_running_execution_shows_its_job_and_stops_on_request(data: Account) -> None:
    data.create(
        pipeline(
            written.processing("Long", "echo here; exec sleep 60"),
            written.processing("Next", "true", DependsOn=["Long"]),
        )
    )
    arn = data.start()
    steps = until(lambda: data.steps(arn), lambda it: "Metadata" in it.get("Long", {}))
    assert steps["Long"]["StepStatus"] == "Executing"
    job = {"ProcessingJobName": steps["Long"]["Metadata"]["ProcessingJob"]["Arn"].rpartition("/")[2]}
    assert data.sagemaker.describe_processing_job(**job)["ProcessingJobStatus"] == "InProgress"
    data.sagemaker.stop_pipeline_execution(PipelineExecutionArn=arn)
    assert data.ended(arn)["PipelineExecutionStatus"] == "Stopped"
    assert {name: step["StepStatus"] for name, step in data.steps(arn).items()} == {"Long": "Stopped"}
    assert data.sagemaker.describe_processing_job(**job)["ProcessingJobStatus"] == "Stopped"


def test_a_crash_fails_its_step_with_the_reason_and_nothing_is_registered(data: Account) -> None:
    definition = trained()
    definition["Steps"][1]["Arguments"]["AppSpecification"]["ContainerEntrypoint"] = [
        "/bin/sh",
        "-c",
        "echo no column; exit 3",
    ]
    execution = data.run(definition)
    steps = data.steps(execution["PipelineExecutionArn"])
    assert execution["PipelineExecutionStatus"] == "Failed"
    assert steps["Evaluate"]["FailureReason"] == "AlgorithmError: no column, exit code: 3"
    assert list(steps) == ["Train", "Evaluate"]
    assert data.packages() == []


def test_a_job_past_its_time_limit_fails_its_step(data: Account) -> None:
    execution = data.run(pipeline(written.processing("Slow", "exec sleep 60", seconds=1)))
    [step] = data.steps(execution["PipelineExecutionArn"]).values()
    assert (step["StepStatus"], step["FailureReason"]) == (
        "Failed",
        "MaxRuntimeExceeded: the job was stopped after 1 seconds.",
    )


def killed(job: str, cloud: Place) -> None:
    """Kill what runs in the job's folder, once it runs; an ARN has the name in small letters."""
    folder = str(cloud.folder / "work" / "processing-job" / job)
    found = until(
        lambda: [it for it in Path("/proc").glob("[0-9]*") if _folder(it).lower().startswith(folder.lower())],
        bool,
    )
    for it in found:
        os.kill(int(it.name), signal.SIGKILL)


def _folder(process: Path) -> str:
    with contextlib.suppress(OSError):
        return str((process / "cwd").readlink())
    return ""


def test_a_killed_job_is_tried_again_and_then_fails_its_step(data: Account, cloud: Place) -> None:
    policy = {"ExceptionType": ["SageMaker.JOB_INTERNAL_ERROR"], "IntervalSeconds": 6, "MaxAttempts": 1}
    step = written.processing("Long", "echo here; exec sleep 60", outputs=("kept",), RetryPolicies=[policy])
    data.create(pipeline(step))
    arn = data.start()
    jobs: list[str] = []
    for _ in range(2):
        listed = until(lambda: data.steps(arn), lambda it: _job(it) not in ["", *jobs])
        jobs.append(_job(listed))
        killed(jobs[-1], cloud)
    assert data.ended(arn)["PipelineExecutionStatus"] == "Failed"
    [step] = data.steps(arn).values()
    assert step["FailureReason"] == "InternalServerError: the job's process was killed."
    assert step["AttemptCount"] == 2
    assert "Contents" not in data.s3.list_objects_v2(Bucket=data.bucket, Prefix=arn.rpartition("/")[2])


def _job(steps: dict[str, Any]) -> str:
    return str(steps.get("Long", {}).get("Metadata", {}).get("ProcessingJob", {}).get("Arn", "")).rpartition(
        "/"
    )[2]


def test_a_cached_step_is_not_run_again(data: Account) -> None:
    first = data.run(trained(CacheConfig={"Enabled": True, "ExpireAfter": "P30D"}))["PipelineExecutionArn"]
    second = data.start(Threshold="0.6")
    assert data.ended(second)["PipelineExecutionStatus"] == "Succeeded"
    steps = data.steps(second)
    assert steps["Train"]["CacheHitResult"] == {"SourcePipelineExecutionArn": first}
    assert steps["Train"]["Metadata"] == data.steps(first)["Train"]["Metadata"]
    assert "CacheHitResult" not in steps["Evaluate"]
    assert len(data.packages()) == 2


def test_what_is_cached_is_what_was_run_until_it_is_too_old(account: Account) -> None:
    def cached(after: str) -> Json:
        return pipeline(
            written.processing("Once", "true", CacheConfig={"Enabled": True, "ExpireAfter": after})
        )

    def source() -> Any:
        execution = account.start()
        assert account.ended(execution)["PipelineExecutionStatus"] == "Succeeded"
        return account.steps(execution)["Once"].get("CacheHitResult")

    ran = account.run(cached("P30D"))["PipelineExecutionArn"]
    assert [source(), source()] == [{"SourcePipelineExecutionArn": ran}] * 2
    shorter = json.dumps(account.fill(cached("PT1S")))
    account.sagemaker.update_pipeline(PipelineName=account.name, PipelineDefinition=shorter)
    time.sleep(1)
    assert source() is None


def test_a_failed_execution_is_retried_from_the_step_that_failed(data: Account) -> None:
    flag = f"s3://{data.bucket}/flag/"
    data.create(
        pipeline(
            written.processing("First", "true"),
            written.processing("Second", "true", inputs={"flag": flag}, DependsOn=["First"]),
        )
    )
    arn = data.start()
    assert data.ended(arn)["PipelineExecutionStatus"] == "Failed"
    first = data.steps(arn)
    assert "No S3 objects found" in first["Second"]["FailureReason"]
    data.s3.put_object(Bucket=data.bucket, Key="flag/x", Body=b"x")
    data.sagemaker.retry_pipeline_execution(PipelineExecutionArn=arn)
    assert data.ended(arn)["PipelineExecutionStatus"] == "Succeeded"
    assert data.steps(arn)["First"] == first["First"]


# Errors at the API's own moment.


def refused(call: Callable[..., Any], code: str, **arguments: Any) -> str:
    with pytest.raises(ClientError) as error:
        call(**arguments)
    assert error.value.response["Error"]["Code"] == code
    return str(error.value)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("{", "Unable to parse pipeline definition"),
        (json.dumps(pipeline()), "at least one step"),
        (
            json.dumps(pipeline(written.processing("A", "true", DependsOn=["B"]))),
            "depends on step B, which does not exist",
        ),
    ],
)
def test_a_malformed_definition_is_refused_when_it_is_created(
    account: Account, body: str, reason: str
) -> None:
    asked = {"PipelineName": account.name, "PipelineDefinition": body, "RoleArn": account.pipeline_role}
    assert reason in refused(account.sagemaker.create_pipeline, "ValidationException", **asked)


def test_an_unknown_instance_type_fails_the_step_that_asks_for_it(data: Account) -> None:
    definition = pipeline(written.processing("A", "true"), parameters=[parameter("Type", "ml.m5.large")])
    cluster = definition["Steps"][0]["Arguments"]["ProcessingResources"]["ClusterConfig"]
    cluster["InstanceType"] = get("Parameters.Type")
    execution = data.run(definition, Type="ml.m5.tiny")
    [step] = data.steps(execution["PipelineExecutionArn"]).values()
    assert step["StepStatus"] == "Failed"
    assert step["FailureReason"].startswith(
        "ValidationException: 1 validation error detected: Value 'ml.m5.tiny' at "
        "'processingResources.clusterConfig.instanceType' failed to satisfy constraint: "
        "Member must satisfy enum value set: [ml."
    )


def test_an_unknown_parameter_and_a_wrong_value_are_refused_at_the_start(data: Account) -> None:
    data.create(trained())
    start = data.sagemaker.start_pipeline_execution
    for name, value in (("Nope", "1"), ("Threshold", "high")):
        asked = {"PipelineName": data.name, "PipelineParameters": [{"Name": name, "Value": value}]}
        assert name in refused(start, "ValidationException", **asked)
    refused(start, "ResourceNotFound", PipelineName="none-of-that-name")


def test_the_same_request_token_starts_one_execution(data: Account) -> None:
    data.create(pipeline(written.processing("A", "true")))
    token = "t" * 32
    starts = [
        data.sagemaker.start_pipeline_execution(PipelineName=data.name, ClientRequestToken=token)
        for _ in range(2)
    ]
    assert starts[0]["PipelineExecutionArn"] == starts[1]["PipelineExecutionArn"]
    listed = data.sagemaker.list_pipeline_executions(PipelineName=data.name)["PipelineExecutionSummaries"]
    assert len(listed) == 1


def test_a_pipeline_with_a_running_execution_is_not_deleted(data: Account) -> None:
    data.create(pipeline(written.processing("Long", "exec sleep 60")))
    arn = data.start()
    refused(data.sagemaker.delete_pipeline, "ConflictException", PipelineName=data.name)
    data.sagemaker.stop_pipeline_execution(PipelineExecutionArn=arn)
    data.ended(arn)
    data.sagemaker.delete_pipeline(PipelineName=data.name)
    refused(data.sagemaker.describe_pipeline, "ResourceNotFound", PipelineName=data.name)


# Roles.


def test_a_pipeline_whose_role_may_not_pass_the_jobs_role_fails_its_step(data: Account) -> None:
    data.client("iam").put_role_policy(
        RoleName=data.pipeline_role.rpartition("/")[2],
        PolicyName="no-pass",
        PolicyDocument=json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [{"Effect": "Deny", "Action": "iam:PassRole", "Resource": "*"}],
            }
        ),
    )
    execution = data.run(trained())
    [step] = data.steps(execution["PipelineExecutionArn"]).values()
    assert "AccessDenied" in step["FailureReason"]
    assert "iam:PassRole" in step["FailureReason"]


def test_a_role_that_does_not_trust_the_service_runs_no_job(account: Account) -> None:
    theirs = role(account.client("iam"), (["s3:*", "logs:*"], ["*"]), service="lambda.amazonaws.com")
    asked = account.fill(written.processing("A", "true")["Arguments"]) | {"RoleArn": theirs}
    told = refused(
        account.sagemaker.create_processing_job,
        "ValidationException",
        ProcessingJobName=account.name,
        **asked,
    )
    assert theirs in told


def test_a_job_reads_with_its_own_role_only(data: Account, client: Callable[[str], Any]) -> None:
    other = f"{data.bucket}-other"
    client("s3").create_bucket(Bucket=other)
    client("s3").put_object(Bucket=other, Key="raw/rows.csv", Body=b"1,2\n")
    execution = data.run(trained(), Raw=f"s3://{other}/raw/")
    [step] = data.steps(execution["PipelineExecutionArn"]).values()
    assert step["FailureReason"].startswith("ClientError: An error occurred (AccessDenied)")


def test_a_job_has_its_roles_keys_unless_it_is_isolated(data: Account) -> None:
    whoami = 'test "$AWS_ACCESS_KEY_ID" != test; echo "key: $AWS_ACCESS_KEY_ID $AWS_ENDPOINT_URL"'
    isolated = {"NetworkConfig": {"EnableNetworkIsolation": True}}
    execution = data.run(
        pipeline(
            written.processing("Open", whoami), written.processing("Isolated", whoami, arguments=isolated)
        )
    )
    said = {}
    for name, step in data.steps(execution["PipelineExecutionArn"]).items():
        job = step["Metadata"]["ProcessingJob"]["Arn"].rpartition("/")[2]
        described = data.sagemaker.describe_processing_job(ProcessingJobName=job)
        [said[name]] = data.log("/aws/sagemaker/ProcessingJobs", described["ProcessingJobName"])
    assert said["Open"].startswith("key: ASIA")
    assert "https://127.0.0.1" in said["Open"]
    assert said["Isolated"] == "key:  "


# CloudFormation.


def deploy(account: Account, definition: Any, **properties: Any) -> str:
    """Create or update a stack of one pipeline; the status in which it ends."""
    stack = f"stack-{account.name}"
    resource = {
        "Type": "AWS::SageMaker::Pipeline",
        "Properties": {
            "PipelineName": account.name,
            "PipelineDefinition": {"PipelineDefinitionBody": json.dumps(account.fill(definition))},
            "RoleArn": account.pipeline_role,
            **properties,
        },
    }
    template = {"Resources": {"Pipeline": resource}, "Outputs": {"Name": {"Value": {"Ref": "Pipeline"}}}}
    formation = account.client("cloudformation")
    known = {it["StackName"] for it in formation.list_stacks()["StackSummaries"]}
    call = formation.update_stack if stack in known else formation.create_stack
    call(StackName=stack, TemplateBody=json.dumps(template))
    found = until(
        lambda: formation.describe_stacks(StackName=stack)["Stacks"][0],
        lambda it: not it["StackStatus"].endswith("_IN_PROGRESS"),
    )
    if found["StackStatus"].endswith("COMPLETE") and "ROLLBACK" not in found["StackStatus"]:
        assert found["Outputs"][0]["OutputValue"] == account.name
    return str(found["StackStatus"])


def tags(**values: str) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in values.items()]


def test_cloudformation_creates_changes_and_deletes_a_pipeline(account: Account) -> None:
    first, second = (pipeline(written.processing(name, "true")) for name in ("A", "B"))
    said = {"PipelineDescription": "one", "PipelineDisplayName": "One", "Tags": tags(a="1", b="1")}
    assert deploy(account, first, **said) == "CREATE_COMPLETE"
    assert deploy(account, second, PipelineDescription="two", Tags=tags(b="2")) == "UPDATE_COMPLETE"
    described = account.sagemaker.describe_pipeline(PipelineName=account.name)
    assert json.loads(described["PipelineDefinition"]) == account.fill(second)
    assert (described["PipelineDescription"], described["PipelineDisplayName"]) == ("two", account.name)
    told = account.sagemaker.list_tags(ResourceArn=described["PipelineArn"])["Tags"]
    assert [tag for tag in told if not tag["Key"].startswith("aws:")] == tags(b="2")
    assert deploy(account, second) == "UPDATE_COMPLETE"
    assert not account.sagemaker.describe_pipeline(PipelineName=account.name).get("PipelineDescription")
    assert account.ended(account.start())["PipelineExecutionStatus"] == "Succeeded"
    account.client("cloudformation").delete_stack(StackName=f"stack-{account.name}")
    until(
        lambda: account.sagemaker.list_pipelines(PipelineNamePrefix=account.name)["PipelineSummaries"],
        lambda it: it == [],
    )


def test_a_malformed_definition_rolls_the_stack_back_and_the_old_one_stays(account: Account) -> None:
    good = pipeline(written.processing("A", "true"))
    assert deploy(account, good) == "CREATE_COMPLETE"
    bad = pipeline(written.processing("A", "true", DependsOn=["Nothing"]))
    assert deploy(account, bad) == "UPDATE_ROLLBACK_COMPLETE"
    described = account.sagemaker.describe_pipeline(PipelineName=account.name)
    assert json.loads(described["PipelineDefinition"]) == account.fill(good)
    told = account.client("cloudformation").describe_stack_events(StackName=f"stack-{account.name}")
    reasons = [it.get("ResourceStatusReason", "") for it in told["StackEvents"]]
    assert any("depends on step Nothing, which does not exist" in reason for reason in reasons)
