"""The committed pipeline definitions: what the SDK builds, what AWS would take, and what they promise."""

import copy
import importlib
import json
import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, NoReturn

import botocore.session
import pytest

from local.runner import check
from local.runner.definition import parse
from pipeline.hyperparameters import HYPERPARAMETERS
from pipeline.settings import Settings, settings_hash
from tests.local.runner.committed import FILES, FOLDER, PLACEHOLDER, SAMPLES, filled, text

Json = dict[str, Any]
JOBS = ("Processing", "Training")


@pytest.fixture(scope="session")
def service() -> Any:
    return botocore.session.get_session().get_service_model("sagemaker")


@pytest.fixture(scope="module")
def builder() -> Iterator[ModuleType]:
    """`pipeline.definition`, imported and used without a network; the environment it sets up ends with these tests."""

    def refuse(*address: object, **_: object) -> NoReturn:
        raise AssertionError(f"the SDK tried to reach {address!r}")

    before = dict(os.environ)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex"):
            patch.setattr(socket.socket, name, refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        yield importlib.import_module("pipeline.definition")
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="module")
def session(builder: ModuleType) -> Any:
    return builder.OfflineSession()


@pytest.fixture(scope="module")
def built(builder: ModuleType, session: Any) -> dict[str, str]:
    return {settings.file_name: builder.build(settings, session) for settings in builder.all_settings()}


def steps(definition: Json) -> dict[str, Json]:
    """Every step by name, nested ones too."""
    found = {}
    for step in definition["Steps"]:
        nested = step["Arguments"].get("IfSteps", []) + step["Arguments"].get("ElseSteps", [])
        found |= {step["Name"]: step} | {item["Name"]: item for item in nested}
    return found


# The files are what the SDK builds.


@pytest.mark.parametrize("file", FILES)
def test_a_definition_names_no_region(file: str) -> None:
    assert re.findall(r"[a-z]{2}-[a-z]+-\d", text(file)) == []


def test_there_is_a_file_for_every_structure_and_no_other(built: dict[str, str]) -> None:
    assert sorted(built) == FILES
    assert len(FILES) == 8


@pytest.mark.parametrize("file", FILES)
def test_a_committed_file_is_byte_for_byte_what_the_sdk_builds_offline(
    file: str, built: dict[str, str]
) -> None:
    assert text(file) == built[file], "run: make definition"


def test_two_builds_are_equal(builder: ModuleType, session: Any, built: dict[str, str]) -> None:
    settings = Settings("classification", "xgboost", isolated=True)
    assert builder.build(settings, session) == built[settings.file_name]


def test_check_names_the_files_that_differ_and_writes_nothing(
    builder: ModuleType,
    session: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    two = [Settings(problem, "linear", isolated=False) for problem in ("classification", "regression")]
    for settings in two:
        (tmp_path / settings.file_name).write_text(text(settings.file_name))
    changed = tmp_path / "regression-linear.json"
    changed.write_text(changed.read_text().replace("PendingManualApproval", "Approved"))
    before = changed.read_text()
    monkeypatch.setattr(builder, "FOLDER", tmp_path)
    monkeypatch.setattr(builder, "all_settings", lambda: two)
    monkeypatch.setattr(builder, "OfflineSession", lambda: session)
    assert builder.main(["--check"]) == 1
    assert capsys.readouterr().err == (
        f"{tmp_path}: regression-linear.json differ from what the SDK builds. Run: python -m pipeline.definition\n"
    )
    assert changed.read_text() == before
    assert builder.main([]) == 0
    assert changed.read_text() == text("regression-linear.json")


@pytest.mark.parametrize("file", FILES)
def test_the_settings_are_those_of_the_name_and_their_hash_is_right(file: str, builder: ModuleType) -> None:
    content = json.loads(text(file))
    problem_type, estimator, *isolated = file.removesuffix(".json").split("-")
    assert content["settings"] == {
        "problem_type": problem_type,
        "estimator": estimator,
        "isolated": bool(isolated),
        "hyperparameters": sorted(HYPERPARAMETERS[estimator]),  # type: ignore[index]
    }
    assert content["settings_hash"] == settings_hash(content["settings"])


def test_nothing_may_be_uploaded_while_a_definition_is_built(session: Any) -> None:
    with pytest.raises(AssertionError, match="tried to upload"):
        session.upload_data("model.py")


# AWS would take them.


def values(definition: Json) -> Json:
    return parse(definition).values({})


@pytest.mark.parametrize("file", FILES)
def test_every_request_fits_the_services_own_shapes(file: str, service: Any) -> None:
    definition = filled(file)
    assert check.findings(parse(definition), service, values(definition)) == []


@pytest.mark.parametrize("file", FILES)
def test_a_file_has_the_placeholders_that_a_deployment_fills(file: str) -> None:
    expected = set(SAMPLES) - (set() if "isolated" in file else {"SubnetIds", "SecurityGroupId"})
    expected -= {"TrainBaselineRoleArn"} if "linear" in file else set()
    assert set(PLACEHOLDER.findall(text(file))) == expected


@pytest.mark.parametrize("stage", ["sandbox", "production"])
def test_the_instance_types_of_each_stage_fit(stage: str, service: Any) -> None:
    configured = json.loads((FOLDER.parent.parent / "cdk.json").read_text())["context"]["stages"][stage]
    definition = filled("classification-xgboost.json")
    training = configured["training"]
    given = {
        "ProcessingInstanceType": training["processing_instance_type"],
        "TrainingInstanceType": training["training_instance_type"],
        "VolumeSizeInGB": training["volume_size_gib"],
        "MaxRuntimeInSeconds": training["max_runtime_seconds"],
    }
    graph = parse(definition)
    assert check.findings(graph, service, graph.values(given)) == []
    package = steps(definition)["RegisterModel"]["Arguments"]["InferenceSpecification"]
    assert configured["serving"]["instance_type"] in package["SupportedRealtimeInferenceInstanceTypes"]


def wrong_output(definition: Json) -> None:
    source = steps(definition)["Train"]["Arguments"]["InputDataConfig"][0]["DataSource"]["S3DataSource"]
    source["S3Uri"]["Get"] = source["S3Uri"]["Get"].replace("'train'", "'training'")


def wrong_transform_type(definition: Json) -> None:
    package = steps(definition)["RegisterModel"]["Arguments"]["InferenceSpecification"]
    package["SupportedTransformInstanceTypes"][0] = "ml.c5.large"  # exists for endpoints only


def long_entrypoint(definition: Json) -> None:
    steps(definition)["Prepare"]["Arguments"]["AppSpecification"]["ContainerEntrypoint"][2] += " " * 256


def integer_hyperparameter(definition: Json) -> None:
    steps(definition)["Train"]["Arguments"]["HyperParameters"]["num_round"] = {
        "Get": "Parameters.VolumeSizeInGB"
    }


def no_role(definition: Json) -> None:
    del steps(definition)["TrainBaseline"]["Arguments"]["RoleArn"]


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (wrong_output, "step Train: Prepare has no ['training']."),
        (
            wrong_transform_type,
            "SupportedTransformInstanceTypes[0] = 'ml.c5.large': Member must satisfy enum value set: [",
        ),
        (long_entrypoint, "Member must have length less than or equal to 256."),
        (integer_hyperparameter, "step Train.HyperParameters.num_round = 10: Member must be of type string."),
        (no_role, "step TrainBaseline.RoleArn: Member must not be null."),
    ],
)
def test_the_checks_of_a_request_can_fail(change: Callable[[Json], None], finding: str, service: Any) -> None:
    definition = copy.deepcopy(filled("classification-xgboost.json"))
    change(definition)
    [found] = check.findings(parse(definition), service, values(definition))
    assert finding in found


# What they promise.


@pytest.mark.parametrize("file", FILES)
def test_jobs_and_model_lie_in_the_vpc_only_where_the_stage_is_isolated(file: str) -> None:
    for step in steps(filled(file)).values():
        if step["Type"] in (*JOBS, "Model"):
            network = step["Arguments"].get("NetworkConfig", step["Arguments"]).get("VpcConfig")
            isolated = {"Subnets": ["subnet-0a", "subnet-0b"], "SecurityGroupIds": ["sg-0a"]}
            assert network == (isolated if "isolated" in file else None), step["Name"]


@pytest.mark.parametrize("file", FILES)
def test_only_what_must_reach_s3_itself_may_use_the_network(file: str) -> None:
    for name, step in steps(filled(file)).items():
        arguments = step["Arguments"].get("NetworkConfig", step["Arguments"])
        if step["Type"] in (*JOBS, "Model"):  # script mode fetches its archive from S3
            assert arguments["EnableNetworkIsolation"] is (step["Type"] != "Training"), name
        if step["Type"] in JOBS:
            assert arguments["EnableInterContainerTrafficEncryption"] is True, name


@pytest.mark.parametrize("file", FILES)
def test_every_volume_and_every_output_is_encrypted_with_the_stages_key(file: str) -> None:
    key = SAMPLES["KmsKeyArn"]
    for step in steps(filled(file)).values():
        arguments = step["Arguments"]
        if step["Type"] == "Processing":
            assert arguments["ProcessingResources"]["ClusterConfig"]["VolumeKmsKeyId"] == key
            assert arguments["ProcessingOutputConfig"]["KmsKeyId"] == key
        if step["Type"] == "Training":
            assert arguments["ResourceConfig"]["VolumeKmsKeyId"] == key
            assert arguments["OutputDataConfig"]["KmsKeyId"] == key


@pytest.mark.parametrize("file", FILES)
def test_faults_of_the_service_are_retried_and_faults_of_ours_are_not(file: str) -> None:
    for step in steps(filled(file)).values():
        retried = {kind for policy in step.get("RetryPolicies", []) for kind in policy["ExceptionType"]}
        expected = (
            {"Step.SERVICE_FAULT", "Step.THROTTLING"} if step["Type"] not in {"Condition", "Fail"} else set()
        )
        if step["Type"] in JOBS:
            expected |= {"SageMaker.JOB_INTERNAL_ERROR", "SageMaker.CAPACITY_ERROR"}
        assert retried == expected, step["Name"]


@pytest.mark.parametrize("file", FILES)
def test_prepare_is_never_cached_because_its_table_grows_under_one_uri(file: str) -> None:
    cached = {
        name: step["CacheConfig"] for name, step in steps(filled(file)).items() if "CacheConfig" in step
    }
    assert cached.pop("Prepare") == {"Enabled": False}
    assert set(cached) >= {"Train", "Evaluate"}
    assert all(config == {"Enabled": True, "ExpireAfter": "P30D"} for config in cached.values())


@pytest.mark.parametrize("file", FILES)
def test_no_two_outputs_share_a_place_and_every_execution_has_its_own(file: str) -> None:
    places = []
    for step in steps(filled(file)).values():
        if step["Type"] == "Processing":
            places += [o["S3Output"]["S3Uri"] for o in step["Arguments"]["ProcessingOutputConfig"]["Outputs"]]
        if step["Type"] == "Training":
            places.append(step["Arguments"]["OutputDataConfig"]["S3OutputPath"])
    parts = [tuple(map(str, place["Std:Join"]["Values"])) for place in places]
    assert len(set(parts)) == len(parts)
    for folder, execution, *_ in parts:
        assert folder.removeprefix("s3://artifacts/pipeline/") in steps(filled(file))
        assert execution == "{'Get': 'Execution.PipelineExecutionId'}"


@pytest.mark.parametrize("file", FILES)
def test_a_linear_model_has_no_linear_baseline_and_a_booster_has_one(file: str) -> None:
    named = steps(filled(file))
    assert ("TrainBaseline" in named) is ("xgboost" in file)
    assert len(named["CheckQuality"]["Arguments"]["Conditions"]) == (2 if "xgboost" in file else 1)


@pytest.mark.parametrize("file", FILES)
def test_every_scalar_is_a_parameter_and_hyperparameters_are_strings(file: str) -> None:
    definition = filled(file)
    kinds = {parameter["Name"]: parameter["Type"] for parameter in definition["Parameters"]}
    assert {
        name: kinds.pop(name) for name in ("VolumeSizeInGB", "MaxRuntimeInSeconds", "MetricThreshold")
    } == {
        "VolumeSizeInGB": "Integer",
        "MaxRuntimeInSeconds": "Integer",
        "MetricThreshold": "Float",
    }
    assert set(kinds.values()) == {"String"}
    own = steps(definition)["Train"]["Arguments"]["HyperParameters"]
    estimator = own["estimator"]
    for name, flag in HYPERPARAMETERS[estimator].items():
        parameter = own[name]["Get"].removeprefix("Parameters.")
        default = next(p["DefaultValue"] for p in definition["Parameters"] if p["Name"] == parameter)
        assert flag.parse(name, default) == flag.default


@pytest.mark.parametrize("file", FILES)
def test_every_parameter_is_used(file: str) -> None:
    definition = filled(file)
    used = set(re.findall(r'"Parameters\.(\w+)"', json.dumps(definition["Steps"])))
    assert used == {parameter["Name"] for parameter in definition["Parameters"]}


def test_importing_the_sdk_is_left_to_the_builder() -> None:
    """Synth, jobs and functions import `pipeline` too: nothing else in it may need a gigabyte."""
    importers = [
        path.name
        for path in FOLDER.parent.rglob("*.py")
        if re.search(r"^\s*(from|import) sagemaker", path.read_text(), re.MULTILINE)
    ]
    assert importers == ["definition.py"]
