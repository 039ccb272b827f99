"""A service acts as a role only if the role exists and trusts the service, under the conditions of its trust policy."""

import io
import json
import time
import uuid
import zipfile
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import ClientError

from local.cloud.place import ACCOUNT, REGION, Place
from tests.support.trust import Condition, trust

Client = Callable[[str], Any]
OTHER: Condition = {"StringEquals": {"aws:SourceAccount": "111111111111"}}
OWN: Condition = {"StringEquals": {"aws:SourceAccount": ACCOUNT}}


@pytest.fixture
def role(client: Client) -> Callable[[str], str]:
    """`role(trust("glue"))`: the ARN of a new role that may do everything."""

    def make(trusted: str) -> str:
        name = f"trusted-{uuid.uuid4().hex[:8]}"
        arn: str = client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=trusted)["Role"]["Arn"]
        everything = {"Effect": "Allow", "Action": "*", "Resource": "*"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [everything]})
        client("iam").put_role_policy(RoleName=name, PolicyName="p", PolicyDocument=document)
        return arn

    return make


@pytest.mark.parametrize(("account", "path"), [(ACCOUNT, "elsewhere/"), ("111111111111", "")])
def test_a_role_has_one_arn(client: Client, role, account: str, path: str) -> None:
    trusted = role(trust("sagemaker"))
    with pytest.raises(ClientError, match="Could not assume role"):
        train(client, trusted.replace(ACCOUNT, account).replace("role/", f"role/{path}"))


def train(client: Client, role_arn: str) -> str:
    name = f"train-{uuid.uuid4().hex[:8]}"
    client("sagemaker").create_training_job(
        TrainingJobName=name,
        AlgorithmSpecification={
            "TrainingImage": "image:1",
            "TrainingInputMode": "File",
            "ContainerEntrypoint": ["true"],
        },
        RoleArn=role_arn,
        OutputDataConfig={"S3OutputPath": "s3://nowhere/"},
        ResourceConfig={"InstanceType": "ml.m5.large", "InstanceCount": 1, "VolumeSizeInGB": 1},
        StoppingCondition={"MaxRuntimeInSeconds": 60},
    )
    return name


@pytest.mark.parametrize(
    "trusted", [trust("lambda"), trust("sagemaker", condition=OTHER), "{}", None], ids=str
)
def test_sagemaker_refuses_a_role_that_does_not_trust_it(client: Client, role, trusted: str | None) -> None:
    arn = role(trusted) if trusted else f"arn:aws:iam::{ACCOUNT}:role/nobody"
    with pytest.raises(ClientError) as refused:
        train(client, arn)
    assert refused.value.response["Error"] == {
        "Code": "ValidationException",
        "Message": f"Could not assume role {arn}. Please ensure that the role exists and allows principal "
        "'sagemaker.amazonaws.com' to assume the role.",
    }


@pytest.mark.parametrize("condition", [None, OWN])
def test_sagemaker_takes_a_role_that_trusts_it(client: Client, role, condition: Condition | None) -> None:
    assert train(client, role(trust("lambda", "sagemaker", condition=condition)))


def test_a_pipeline_whose_role_does_not_trust_sagemaker_fails(client: Client, role) -> None:
    name, arn = f"p-{uuid.uuid4().hex[:8]}", role(trust("glue"))
    step = {"Name": "Stop", "Type": "Fail", "Arguments": {"ErrorMessage": "done"}}
    definition = json.dumps({"Version": "2020-12-01", "Steps": [step]})
    sagemaker = client("sagemaker")
    sagemaker.create_pipeline(PipelineName=name, PipelineDefinition=definition, RoleArn=arn)
    started = sagemaker.start_pipeline_execution(PipelineName=name)["PipelineExecutionArn"]
    found = settled(
        lambda: sagemaker.describe_pipeline_execution(PipelineExecutionArn=started),
        "PipelineExecutionStatus",
    )
    assert (found["PipelineExecutionStatus"], found["FailureReason"].split(".")[0]) == (
        "Failed",
        f"Could not assume role {arn}",
    )


def test_a_job_whose_role_does_not_trust_glue_fails(client: Client, role) -> None:
    name, arn, glue = f"j-{uuid.uuid4().hex[:8]}", role(trust("sagemaker")), client("glue")
    glue.create_job(
        Name=name,
        Role=arn,
        Command={"Name": "glueetl", "PythonVersion": "3", "ScriptLocation": "s3://nowhere/x.py"},
    )
    run = glue.start_job_run(JobName=name)["JobRunId"]
    found = settled(lambda: glue.get_job_run(JobName=name, RunId=run)["JobRun"], "JobRunState")
    assert found["JobRunState"] == "FAILED"
    assert arn in found["ErrorMessage"]
    assert "'glue.amazonaws.com'" in found["ErrorMessage"]


def test_cloudformation_refuses_a_role_that_does_not_trust_it(client: Client, role) -> None:
    arn = role(trust("glue"))
    with pytest.raises(ClientError, match=f"Role {arn} is invalid or cannot be assumed"):
        client("cloudformation").create_stack(StackName="refused", TemplateBody="{}", RoleARN=arn)


def test_a_function_whose_role_does_not_trust_lambda_logs_nothing(client: Client, role) -> None:
    name, packed = f"f-{uuid.uuid4().hex[:8]}", io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("f.py", "def handler(event, context):\n    print('it ran')\n")
    client("lambda").create_function(
        FunctionName=name,
        Role=role(trust("glue")),
        Runtime="python3.11",
        Handler="f.handler",
        Code={"ZipFile": packed.getvalue()},
    )
    client("lambda").get_waiter("function_active_v2").wait(FunctionName=name)
    client("lambda").invoke(FunctionName=name)
    logs = client("logs").describe_log_groups(logGroupNamePrefix=f"/aws/lambda/{name}")
    assert logs["logGroups"] == []


@pytest.mark.parametrize("operation", ["list_buckets", "create_bucket"])
def test_nobody_lists_or_creates_buckets_unsigned(cloud: Place, operation: str) -> None:
    s3 = boto3.client(
        "s3",
        region_name=REGION,
        endpoint_url=cloud.url,
        verify=str(cloud.certificate),
        config=Config(signature_version=UNSIGNED),
    )
    given = {"Bucket": "unsigned-bucket"} if operation == "create_bucket" else {}
    with pytest.raises(ClientError, match="AccessDenied"):
        getattr(s3, operation)(**given)


def settled(look: Callable[[], Any], status: str) -> Any:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = look()
        if found[status].upper() in {"FAILED", "SUCCEEDED"}:
            return found
        time.sleep(0.1)
    raise AssertionError(found)
