"""Each check of a request finds the fault it is there for, in a definition that is otherwise sound."""

import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from local.runner import DefinitionError, UnsupportedError, check
from local.runner.definition import parse
from local.runner.shapes import python_pattern, violations
from tests.local.runner.written import (
    BUCKET,
    IMAGE,
    Json,
    compare,
    condition,
    fail,
    get,
    join,
    json_get,
    model,
    output,
    pipeline,
    processing,
    register,
    training,
)


def sound() -> Json:
    return pipeline(
        processing("Prepare", "true", outputs=("train",), files={"Report": "report.json"}),
        training(
            "Train", "true", channels={"train": output("Prepare", "train")}, hyperparameters={"depth": "6"}
        ),
        condition(
            "Check",
            compare("GreaterThan", json_get("Prepare", "Report", "auc"), 0.5),
            then=[model("Create", "Train"), register("Register", "Train")],
            otherwise=[fail("Stop", join("job ", get("Steps.Train.TrainingJobName")))],
        ),
    )


def findings(raw: Json, service: Any) -> list[str]:
    return check.findings(parse(raw), service, {})


def test_a_sound_definition_has_no_findings(service: Any) -> None:
    assert findings(sound(), service) == []


def at(raw: Json, path: str) -> tuple[Any, Any]:
    """The container and the last key of a dotted path, numbers being indices."""
    *way, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    for part in way:
        raw = raw[part]
    return raw, last


def put(path: str, value: Any) -> Callable[[Json], None]:
    def change(raw: Json) -> None:
        inside, key = at(raw, path)
        inside[key] = value

    return change


def drop(path: str) -> Callable[[Json], None]:
    def change(raw: Json) -> None:
        inside, key = at(raw, path)
        del inside[key]

    return change


PREPARE, TRAIN = "Steps.0.Arguments", "Steps.1.Arguments"
CREATE, REGISTER = "Steps.2.Arguments.IfSteps.0.Arguments", "Steps.2.Arguments.IfSteps.1.Arguments"
CLUSTER = f"{PREPARE}.ProcessingResources.ClusterConfig"
FAULTS: dict[str, tuple[Callable[[Json], None], str]] = {
    "missing member": (drop(f"{PREPARE}.RoleArn"), "step Prepare.RoleArn: Member must not be null."),
    "missing nested member": (
        drop(f"{CLUSTER}.VolumeSizeInGB"),
        "ClusterConfig.VolumeSizeInGB: Member must not be null.",
    ),
    "unknown member": (put(f"{TRAIN}.Rolearn", "x"), "step Train.Rolearn = 'x': Member is unknown."),
    "type": (
        put(f"{CLUSTER}.VolumeSizeInGB", "10"),
        "VolumeSizeInGB = '10': Member must be of type integer.",
    ),
    "boolean for a number": (
        put(f"{CLUSTER}.InstanceCount", True),
        "InstanceCount = True: Member must be of type integer.",
    ),
    "number for a text": (
        put(f"{TRAIN}.HyperParameters.depth", 6),
        "HyperParameters.depth = 6: Member must be of type string.",
    ),
    "enumeration": (
        put(f"{CLUSTER}.InstanceType", "ml.m5.huge"),
        "InstanceType = 'ml.m5.huge': Member must satisfy enum value set: [ml.",
    ),
    "pattern": (put(f"{TRAIN}.RoleArn", "role"), "step Train.RoleArn = 'role': "),
    "above the maximum": (
        put(f"{CLUSTER}.VolumeSizeInGB", 20_000),
        "VolumeSizeInGB = 20000: Member must have value less than or equal to 16384.",
    ),
    "below the minimum": (
        put(f"{CLUSTER}.VolumeSizeInGB", 0),
        "VolumeSizeInGB = 0: Member must have value greater than or equal to 1.",
    ),
    "too long": (
        put(f"{PREPARE}.AppSpecification.ContainerEntrypoint.2", "x" * 257),
        "Member must have length less than or equal to 256.",
    ),
    "too few": (
        put(f"{PREPARE}.AppSpecification.ContainerEntrypoint", []),
        "Member must have length greater than or equal to 1.",
    ),
    "map key": (
        put(f"{PREPARE}.Environment", {"a-b": "x"}),
        "step Prepare.Environment.a-b = 'a-b': Member must satisfy regular expression pattern: ",
    ),
    "unicode category": (
        put(f"{REGISTER}.CustomerMetadataProperties", {"note": "a;b"}),
        "CustomerMetadataProperties.note = 'a;b'",
    ),
    "approval status": (
        put(f"{REGISTER}.ModelApprovalStatus", "Maybe"),
        "ModelApprovalStatus = 'Maybe': Member must satisfy enum value set: [",
    ),
    "model image": (
        put(f"{CREATE}.PrimaryContainer.Image", "an image"),
        "step Create.PrimaryContainer.Image = 'an image'",
    ),
    "containers": (
        drop(f"{REGISTER}.InferenceSpecification.Containers"),
        "InferenceSpecification.Containers: Member must not be null.",
    ),
    "property that no step has": (
        put(f"{TRAIN}.RoleArn", get("Steps.Prepare.ModelArtifacts.S3ModelArtifacts")),
        "step Train: step Prepare (Processing) has no property ModelArtifacts.S3ModelArtifacts.",
    ),
    "output that the step has not": (
        put(f"{TRAIN}.InputDataConfig.0.DataSource.S3DataSource.S3Uri", output("Prepare", "test")),
        "step Train: Prepare has no ['test'].",
    ),
    "property of a Fail step": (
        put("Steps.2.Arguments.ElseSteps.0.Arguments.ErrorMessage", get("Steps.Stop.Message")),
        "wait for each other",
    ),
    "property file without its output": (
        put("Steps.0.PropertyFiles.0.OutputName", "report"),
        "step Prepare: property file Report lies in no output named report.",
    ),
    "path in a property file": (
        put("Steps.2.Arguments.Conditions.0.LeftValue", json_get("Prepare", "Report", "a[*]")),
        "step Check: path 'a[*]': not understood at '[*]'.",
    ),
    "property file outside of its function": (
        put(f"{TRAIN}.RoleArn", get("Steps.Prepare.PropertyFiles.Report")),
        "Get = 'Steps.Prepare.PropertyFiles.Report': a property file is read by Std:JsonGet only.",
    ),
    "property of a condition": (
        put("Steps.2.Arguments.ElseSteps.0.Arguments.ErrorMessage", get("Steps.Check.Conditions")),
        "step Stop: step Check (Condition) has no property Conditions.",
    ),
    "execution variable": (
        put(f"{TRAIN}.RoleArn", get("Execution.TrainingJobName")),
        "step Train: execution variable TrainingJobName: not interpreted here. Known: CurrentDateTime",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault: str, service: Any) -> None:
    change, message = FAULTS[fault]
    raw = copy.deepcopy(sound())
    change(raw)
    try:
        found = findings(raw, service)
    except ValueError as refused:  # some faults are found while parsing
        found = [str(refused)]
    assert [text for text in found if message in text], found


def test_every_pattern_of_the_service_is_understood(service: Any) -> None:
    patterns = {service.shape_for(name).metadata.get("pattern") for name in service.shape_names} - {None}
    assert len(patterns) > 100
    for pattern in patterns:
        assert isinstance(python_pattern(pattern), re.Pattern)


def test_a_metadata_value_may_hold_letters_of_any_language(service: Any) -> None:
    shape = service.shape_for("CustomerMetadataValue")
    assert list(violations(shape, "été s3://b/k")) == []


# What one local process with files cannot do.

UNINTERPRETED: dict[str, tuple[Callable[[Json], None], str]] = {
    "two machines": (put(f"{CLUSTER}.InstanceCount", 2), "InstanceCount = 2: only 1 is interpreted here."),
    "a manifest": (
        put(f"{TRAIN}.InputDataConfig.0.DataSource.S3DataSource.S3DataType", "ManifestFile"),
        "S3DataType = 'ManifestFile': only 'S3Prefix' is interpreted here.",
    ),
    "pipe mode": (
        put(f"{TRAIN}.AlgorithmSpecification.TrainingInputMode", "Pipe"),
        "TrainingInputMode = 'Pipe'",
    ),
    "a continuous upload": (
        put(f"{PREPARE}.ProcessingOutputConfig.Outputs.0.S3Output.S3UploadMode", "Continuous"),
        "S3UploadMode = 'Continuous': only 'EndOfJob' is interpreted here.",
    ),
    "a file system": (
        put(
            f"{TRAIN}.InputDataConfig.0.DataSource.FileSystemDataSource",
            {
                "FileSystemId": "fs-12345678901",
                "FileSystemAccessMode": "ro",
                "FileSystemType": "EFS",
                "DirectoryPath": "/a",
            },
        ),
        "nothing is interpreted here.",
    ),
    "the image's own processing": (
        drop(f"{PREPARE}.AppSpecification.ContainerEntrypoint"),
        "step Prepare: no ContainerEntrypoint, and the image's own is not known here. State it.",
    ),
    "the image's own algorithm": (
        drop(f"{TRAIN}.AlgorithmSpecification.ContainerEntrypoint"),
        "step Train: runs the image's own algorithm, which only the image has.",
    ),
    "a path outside of /opt/ml": (
        put(f"{PREPARE}.ProcessingOutputConfig.Outputs.0.S3Output.LocalPath", "/data"),
        "step Prepare: LocalPath = '/data': must start with /opt/ml/.",
    ),
}


@pytest.mark.parametrize("request_for", UNINTERPRETED)
def test_what_is_not_interpreted_is_refused(request_for: str, service: Any) -> None:
    change, message = UNINTERPRETED[request_for]
    raw = copy.deepcopy(sound())
    change(raw)
    assert findings(raw, service) == []  # AWS would take it
    with pytest.raises(UnsupportedError, match=re.escape(message)):
        check.refuse_uninterpreted(parse(raw), service, {}, images=[IMAGE])


def test_script_mode_and_an_entrypoint_are_interpreted(service: Any) -> None:
    own = {"sagemaker_program": "train.py", "sagemaker_submit_directory": f"s3://{BUCKET}/code.tar.gz"}
    for step in (training("Train", "true"), training("Train", hyperparameters=own)):
        check.refuse_uninterpreted(parse(pipeline(step)), service, {}, images=[IMAGE])


def places(value: Any, way: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The path of every value inside a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inside:
        yield (*way, key)
        yield from places(item, (*way, key))


JUNK = (None, 7, "x", [], {}, ["x"], {"x": 1}, {"Get": 7}, {"Std:Join": 3})


def test_a_damaged_definition_is_refused_in_words_wherever_the_damage_is(service: Any) -> None:
    """Every value replaced by every kind of junk: a sentence or nothing, never another exception."""
    refused: list[str] = []
    for way in places(sound()):
        for junk in JUNK:
            raw = sound()
            put(".".join(map(str, way)), junk)(raw)
            try:
                if not findings(raw, service):
                    check.refuse_uninterpreted(parse(raw), service, {}, images=[IMAGE])
            except DefinitionError as error:
                refused.append(str(error))
    assert len(refused) > 100
    assert all(refused)
