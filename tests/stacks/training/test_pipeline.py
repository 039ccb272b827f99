"""The pipeline as CloudFormation will create it: filled, complete, with roles that can do their work and no more."""

import functools
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest

from stacks import pipeline_code
from stacks.config import ConfigError, load
from stacks.training import stack
from stacks.training.definition import definition
from tests.support import grants, inprocess
from tests.support.intrinsics import Resolver
from tools.assembly import ROOT, Assembly, context

STEPS = ("Prepare", "Train", "TrainBaseline", "Evaluate")
JOB_ROLES = tuple(f"{step}Role" for step in STEPS)


@functools.cache
def _filled(assembly: Assembly) -> dict[str, Any]:
    """The definition as SageMaker receives it, with sample values for what AWS generates."""
    template = assembly.template("Training")
    body = template.only("AWS::SageMaker::Pipeline")["Properties"]["PipelineDefinition"][
        "PipelineDefinitionBody"
    ]
    (text,) = Resolver(assembly, template).strings(body)
    assert "${" not in text
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def _step(assembly: Assembly, name: str) -> dict[str, Any]:
    steps = _filled(assembly)["Steps"]
    every = [*steps, *(inner for step in steps for inner in step["Arguments"].get("IfSteps", []))]
    (arguments,) = [step["Arguments"] for step in every if step["Name"] == name]
    found: dict[str, Any] = arguments
    return found


def test_the_definition_is_json_once_cloudformation_has_filled_it(each_assembly: Assembly) -> None:
    names = [step["Name"] for step in _filled(each_assembly)["Steps"]]
    assert names == ["Prepare", "Train", "TrainBaseline", "Evaluate", "CheckQuality"]


def test_every_job_runs_with_its_own_role(each_assembly: Assembly) -> None:
    roles = {step: _step(each_assembly, step)["RoleArn"] for step in STEPS}
    roles["Model"] = _step(each_assembly, "CreateModel")["ExecutionRoleArn"]
    for step, arn in roles.items():
        assert arn.rsplit("/", 1)[1].startswith(f"{step.lower()}role")
    assert len(set(roles.values())) == 5


def test_the_configuration_decides_the_defaults(each_assembly: Assembly) -> None:
    training = load(context(each_assembly.stage)).training
    defaults = {p["Name"]: p["DefaultValue"] for p in _filled(each_assembly)["Parameters"]}
    assert defaults["TrainingInstanceType"] == training.training_instance_type
    assert defaults["ProcessingInstanceType"] == training.processing_instance_type
    assert defaults["MaxRuntimeInSeconds"] == training.max_runtime_seconds
    assert defaults["MetricThreshold"] == training.metric_threshold
    assert defaults["NumRound"] == str(training.hyperparameters["num_round"])
    assert defaults["InputDataUri"].startswith("s3://curated")
    assert defaults["InputDataUri"].rstrip("/").endswith("/flights")


def test_jobs_stand_in_every_subnet_exactly_where_the_stage_isolates(each_assembly: Assembly) -> None:
    foundation = load(context(each_assembly.stage)).foundation
    vpc = _step(each_assembly, "Train").get("VpcConfig")
    assert _step(each_assembly, "Prepare")["NetworkConfig"].get("VpcConfig") == vpc
    if foundation.isolation:
        assert len(set(vpc["Subnets"])) == foundation.availability_zones
        assert all(name.startswith("subnet-") for name in vpc["Subnets"])
        assert len(vpc["SecurityGroupIds"]) == 1
    else:
        assert vpc is None


def test_the_code_is_an_asset_of_this_assembly(each_assembly: Assembly) -> None:
    uri = _step(each_assembly, "Train")["HyperParameters"]["sagemaker_submit_directory"]
    key = uri.rsplit("/", 1)[1]
    assert (each_assembly.path / f"asset.{key}").read_bytes() == pipeline_code.tar_gz(ROOT)
    (code,) = [
        item["S3Input"]["S3Uri"]
        for item in _step(each_assembly, "Prepare")["ProcessingInputs"]
        if item["InputName"] == "code"
    ]
    assert code == uri


def test_the_entrypoint_unpacks_the_archive_and_runs_the_step(
    each_assembly: Assembly, tmp_path: Path
) -> None:
    """The container's own command line, with the container's input folder elsewhere."""
    uri = _step(each_assembly, "Train")["HyperParameters"]["sagemaker_submit_directory"]
    (tmp_path / uri.rsplit("/", 1)[1]).write_bytes(pipeline_code.tar_gz(ROOT))
    entrypoint = _step(each_assembly, "Prepare")["AppSpecification"]["ContainerEntrypoint"]
    command = [part.replace("/opt/ml/processing/input/code", str(tmp_path)) for part in entrypoint]
    completed = subprocess.run(
        [*command, "--help"],
        cwd=tmp_path,
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "usage: pipeline.prepare" in completed.stdout, completed.stderr


def test_one_byte_of_pipeline_code_is_another_code_uri(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(ROOT / "pipeline", tmp_path / "pipeline")

    def key() -> str:
        return pipeline_code.sourcedir_archive(
            cdk.Stack(cdk.App(outdir=str(tmp_path / "out")), "Stack")
        ).object_key

    before = key()
    monkeypatch.setattr(pipeline_code, "ROOT", tmp_path)
    assert key() == before
    with (tmp_path / "pipeline" / "train.py").open("a") as file:
        file.write("#")
    assert key() != before


def test_the_pipeline_can_pass_its_job_roles_to_sagemaker_and_nothing_else(each_assembly: Assembly) -> None:
    passing = [
        statement
        for role in (*JOB_ROLES, "PipelineRole", "StartsRuleRole", "StartsScheduleRole")
        for statement in grants.statements(each_assembly, "Training", role)
        if any(re.fullmatch(r"iam:.*", action) for action in statement.actions)
    ]
    (statement,) = passing
    assert statement.resource.startswith("PipelineRole")
    assert statement.actions == ("iam:PassRole",)
    assert statement.condition == {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}
    jobs = {_step(each_assembly, name)["RoleArn"] for name in STEPS}
    assert set(statement.resources) == jobs | {_step(each_assembly, "CreateModel")["ExecutionRoleArn"]}


def test_the_pipeline_starts_and_stops_only_what_it_names(each_assembly: Assembly) -> None:
    for statement in grants.statements(each_assembly, "Training", "PipelineRole"):
        for action in statement.actions:
            if action.startswith("sagemaker:") and "ModelPackage" not in action:
                assert all(name.endswith("/pipelines-*") for name in statement.resources), action


def test_a_job_writes_under_its_own_steps_prefix_only(each_assembly: Assembly) -> None:
    for step in STEPS:
        arguments = _step(each_assembly, step)
        assert grants.keys(each_assembly, "Training", f"{step}Role", "s3:PutObject") == {f"pipeline/{step}/*"}
        assert grants.keys(each_assembly, "Training", f"{step}Role", "s3:DeleteObject") == set()
        written = arguments.get("OutputDataConfig") or arguments["ProcessingOutputConfig"]["Outputs"]
        assert f"/pipeline/{step}" in json.dumps(written)


def test_a_job_reads_the_code_and_what_the_steps_before_it_wrote(each_assembly: Assembly) -> None:
    code = _step(each_assembly, "Train")["HyperParameters"]["sagemaker_submit_directory"].rsplit("/")[-1]
    read = {
        step: grants.keys(each_assembly, "Training", f"{step}Role", "s3:GetObject") - {code} for step in STEPS
    }
    assert read == {
        "Prepare": {"flights/*"},
        "Train": {"pipeline/Prepare/*"},
        "TrainBaseline": {"pipeline/Prepare/*"},
        "Evaluate": {"pipeline/Prepare/*", "pipeline/Train/*", "pipeline/TrainBaseline/*"},
    }


def test_jobs_make_network_interfaces_only_where_the_stage_isolates(each_assembly: Assembly) -> None:
    isolated = load(context(each_assembly.stage)).foundation.isolation
    for role in JOB_ROLES:
        places = grants.resources(each_assembly, "Training", role, "ec2:CreateNetworkInterface")
        assert bool(places) is isolated
        assert "*" not in places


def test_the_pipeline_waits_for_every_policy_it_needs(each_assembly: Assembly) -> None:
    pipeline = each_assembly.template("Training").only("AWS::SageMaker::Pipeline")
    policies = {name.split("DefaultPolicy")[0] for name in pipeline["DependsOn"] if "DefaultPolicy" in name}
    assert policies == {"PipelineRole", *JOB_ROLES}


def test_registered_models_go_to_the_stages_group(each_assembly: Assembly) -> None:
    group = _step(each_assembly, "RegisterModel")["ModelPackageGroupName"]
    assert group == f"flights-{each_assembly.stage}"
    allowed = grants.resources(each_assembly, "Training", "PipelineRole", "sagemaker:CreateModelPackage")
    assert {name.split(":")[5] for name in allowed} == {
        f"model-package-group/{group}",
        f"model-package/{group}/*",
    }


def test_a_placeholder_that_the_stack_does_not_fill_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    renamed = lambda config: definition(config).replace("${ImageUri}", "${NewName}")  # noqa: E731
    monkeypatch.setattr(stack, "definition", renamed)
    with pytest.raises(ConfigError, match=r"NewName.*Run: make definition"):
        inprocess.training(tmp_path)
