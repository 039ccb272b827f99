"""Batch transform: Scheduler itself calls CreateTransformJob, with arguments that the API takes."""

import json
import re
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from stacks.config import Config, load
from tests.support.intrinsics import Resolver
from tools.assembly import Assembly, Template, context


@pytest.fixture
def batch(each_complete: Assembly) -> Template:
    return each_complete.template("Batch")


@pytest.fixture
def stage(each_complete: Assembly) -> Config:
    return load(context(each_complete.stage))


@pytest.fixture
def request_(each_complete: Assembly, batch: Template) -> dict[str, Any]:
    (text,) = Resolver(each_complete, batch).strings(
        batch.only("AWS::Scheduler::Schedule")["Properties"]["Target"]["Input"]
    )
    found: dict[str, Any] = json.loads(text)
    return found


def test_the_schedule_calls_the_api_and_is_off(batch: Template, stage: Config) -> None:
    schedule = batch.only("AWS::Scheduler::Schedule")["Properties"]
    assert "scheduler:::aws-sdk:sagemaker:createTransformJob" in json.dumps(schedule["Target"]["Arn"])
    assert (schedule["State"], schedule["ScheduleExpression"]) == ("DISABLED", stage.batch.schedule)


def test_the_api_takes_the_request(request_: dict[str, Any]) -> None:
    model = botocore.session.get_session().get_service_model("sagemaker")
    shape = model.operation_model("CreateTransformJob").input_shape
    report = ParamValidator().validate(request_, shape)
    assert not report.has_errors(), report.generate_report()


def test_each_run_has_a_name_of_its_own_that_sagemaker_takes(request_: dict[str, Any], stage: Config) -> None:
    name = request_["TransformJobName"].replace("<aws.scheduler.execution-id>", "d32c5kddcf5bb8c3")
    assert name.startswith(f"{stage.prefix}-")
    assert re.fullmatch(r"[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}", name)


def test_it_predicts_with_the_model_of_the_stack(batch: Template) -> None:
    (model,) = batch.resources("AWS::SageMaker::Model")
    text = json.dumps(batch.only("AWS::Scheduler::Schedule")["Properties"]["Target"]["Input"])
    assert f'"{model}", "ModelName"' in text
    assert batch.outputs["ModelName"]["Value"] == {"Fn::GetAtt": [model, "ModelName"]}


def test_lines_in_are_lines_out_with_their_predictions_under_the_prefixes(
    request_: dict[str, Any], stage: Config
) -> None:
    given, made = request_["TransformInput"], request_["TransformOutput"]
    settings = stage.batch
    assert re.fullmatch(rf"s3://[^/]+/{settings.input_prefix}", given["DataSource"]["S3DataSource"]["S3Uri"])
    assert re.fullmatch(rf"s3://[^/]+/{settings.output_prefix}", made["S3OutputPath"])
    assert (given["ContentType"], given["SplitType"]) == ("text/csv", "Line")
    assert (made["Accept"], made["AssembleWith"]) == ("text/csv", "Line")
    assert request_["DataProcessing"] == {
        "InputFilter": settings.input_filter,
        "JoinSource": settings.join_source,
        "OutputFilter": settings.output_filter,
    }


def test_results_and_volumes_are_encrypted_and_the_job_carries_the_tags(
    request_: dict[str, Any], stage: Config
) -> None:
    assert "KmsKeyId" in request_["TransformOutput"]
    assert "VolumeKmsKeyId" in request_["TransformResources"]
    tags = {tag["Key"]: tag["Value"] for tag in request_["Tags"]}
    assert tags == {**stage.tags, "deployment": stage.prefix}


def test_the_model_takes_as_many_records_as_a_payload_can_hold(
    request_: dict[str, Any], stage: Config
) -> None:
    assert int(request_["Environment"]["MAX_RECORDS"]) == stage.batch.max_payload_mb * 1024**2


def test_a_start_that_failed_waits_where_monitoring_looks(each_complete: Assembly, batch: Template) -> None:
    (queue,) = batch.resources("AWS::SQS::Queue")
    target = batch.only("AWS::Scheduler::Schedule")["Properties"]["Target"]
    assert target["DeadLetterConfig"]["Arn"] == {"Fn::GetAtt": [queue, "Arn"]}
    resolver = Resolver(each_complete, batch)
    (role,) = resolver.strings(target["RoleArn"])
    statements = batch.only("AWS::SQS::QueuePolicy")["Properties"]["PolicyDocument"]["Statement"]
    allowed = [found for found in statements if found["Effect"] == "Allow"]
    assert [resolver.strings(found["Principal"]["AWS"]) for found in allowed] == [[role]]
    monitoring = json.dumps(each_complete.template("Monitoring").resources("AWS::CloudWatch::Alarm"))
    assert f"flights-{each_complete.stage}-batch:" in monitoring
