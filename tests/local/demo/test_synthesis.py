"""Out of the templates comes what a deployment would hand to SageMaker and Glue, or one message why not."""

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from local.demo import synthesis
from local.demo.account import account
from local.demo.synthesis import SynthesisError
from tools.assembly import Assembly


@pytest.fixture
def sandbox(assembly: Callable[[str], Assembly]) -> Assembly:
    return assembly("sandbox")


def test_the_definition_of_each_stage_is_filled_to_the_last_placeholder(each_assembly: Assembly) -> None:
    definition, values = synthesis.pipeline_definition(each_assembly)
    assert "${" not in json.dumps(definition)
    assert values["ImageUri"] == "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:3.2-0"
    assert values["ModelPackageGroupName"] == f"flights-{each_assembly.stage}"
    assert values["CuratedUri"].endswith("/flights")


def test_the_glue_job_is_the_one_that_runs_the_script(sandbox: Assembly) -> None:
    uri, arguments = synthesis.glue_job(sandbox, "spark/curate.py")
    assert uri.startswith("s3://cdk-hnb659fds-assets-123456789012-us-east-1/")
    assert arguments["--schema"] == "flights"
    assert arguments["--batch"].startswith("s3://raw")
    with pytest.raises(SynthesisError, match=r"no Glue job runs pipeline/spark/records\.py"):
        synthesis.glue_job(sandbox, "spark/records.py")


def test_what_the_templates_name_is_where_publishing_puts_it(sandbox: Assembly) -> None:
    _, values = synthesis.pipeline_definition(sandbox)
    bucket, _, key = values["CodeUri"].removeprefix("s3://").partition("/")
    with account() as cloud:
        synthesis.publish_assets(sandbox, "Training", cloud.s3)
        synthesis.publish_assets(sandbox, "Processing", cloud.s3)
        assert cloud.s3.head_object(Bucket=bucket, Key=key)["ContentLength"] > 1000


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("plain", "plain"),
        ({"Ref": "AWS::Region"}, "us-east-1"),
        ({"Ref": "Data"}, "data"),
        ({"Fn::GetAtt": ["Job", "Arn"]}, "arn:aws:iam::123456789012:role/job"),
        ({"Fn::Sub": "${AWS::Partition} ${!Literal}"}, "aws ${Literal}"),
        ({"Fn::Join": ["-", ["a", {"Ref": "AWS::AccountId"}]]}, "a-123456789012"),
        ({"Fn::FindInMap": ["Map", {"Ref": "AWS::Region"}, "Key"]}, "found"),
        ({"Fn::ImportValue": "other:Data"}, "data"),
    ],
)
def test_a_value_is_what_cloudformation_would_make_of_it(tmp_path: Path, value: Any, text: str) -> None:
    stacks = _assembly(tmp_path)
    assert synthesis.resolve(stacks, stacks.template("One"), value) == text


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"Ref": "Queue"}, "Ref of AWS::SQS::Queue has no local value"),
        ({"Fn::Split": [",", "a,b"]}, "has no local value"),
        ({"Fn::Sub": "${Unknown}"}, "has no local value"),
        ({"Fn::ImportValue": "nobody:Exports"}, "no stack exports nobody:Exports"),
    ],
)
def test_a_value_that_only_aws_knows_is_an_error(tmp_path: Path, value: Any, message: str) -> None:
    stacks = _assembly(tmp_path)
    with pytest.raises(SynthesisError, match=message):
        synthesis.resolve(stacks, stacks.template("One"), value)


def _assembly(folder: Path) -> Assembly:
    template = {
        "Mappings": {"Map": {"us-east-1": {"Key": "found"}}},
        "Resources": {
            "Data": {"Type": "AWS::S3::Bucket"},
            "Job": {"Type": "AWS::IAM::Role"},
            "Queue": {"Type": "AWS::SQS::Queue"},
        },
        "Outputs": {"Out": {"Value": {"Ref": "Data"}, "Export": {"Name": "other:Data"}}},
    }
    artifact = {"type": "aws:cloudformation:stack", "properties": {"templateFile": "One.template.json"}}
    (folder / "One.template.json").write_text(json.dumps(template))
    (folder / "manifest.json").write_text(json.dumps({"artifacts": {"One": artifact}}))
    return Assembly("sandbox", folder)


def test_a_synth_is_the_project_s_own_cli_without_an_account(monkeypatch, tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    def run(command: Sequence[str], *, cwd: Path, environment: dict[str, str]) -> Any:
        seen.update(command=command, environment=environment)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(synthesis.processes, "run", run)
    assert synthesis.synthesize("production", tmp_path).path == tmp_path
    assert seen["command"][0].endswith("node_modules/.bin/cdk")
    assert "stage=production" in seen["command"]
    assert "--no-validation" not in seen["command"]
    assert not [name for name in seen["environment"] if name.startswith("AWS_") and "KEY" in name]


def test_a_synth_that_fails_gives_its_own_message(monkeypatch, tmp_path: Path) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "cdk.json: context.stages.sandbox.name: missing.\n")
    monkeypatch.setattr(synthesis.processes, "run", lambda *_, **__: failed)
    with pytest.raises(SynthesisError, match=r"stage sandbox:\ncdk\.json: context\.stages\.sandbox\.name"):
        synthesis.synthesize("sandbox", tmp_path)


def test_a_missing_cli_names_the_command_that_installs_it(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(synthesis, "ROOT", tmp_path)
    with pytest.raises(SynthesisError, match=r"\.bin/cdk is missing\. `make demo` installs it"):
        synthesis.synthesize("sandbox", tmp_path / "out")
