"""Definitions written by hand, small and fast: every script is a line of shell."""

from typing import Any

BUCKET, GROUP, IMAGE = "bucket", "group", "account.dkr.ecr.us-east-1.amazonaws.com/image:1"
ROLE = "arn:aws:iam::123456789012:role/role"
PROCESSING = "/opt/ml/processing"

Json = dict[str, Any]


def pipeline(*steps: Json, parameters: list[Json] | None = None) -> Json:
    return {"Version": "2020-12-01", "Metadata": {}, "Parameters": parameters or [], "Steps": list(steps)}


def parameter(name: object, default: object, kind: str = "String", **more: object) -> Json:
    return {"Name": name, "Type": kind, "DefaultValue": default, **more}


def get(path: str) -> Json:
    return {"Get": path}


def join(*values: object, on: str = "") -> Json:
    return {"Std:Join": {"On": on, "Values": list(values)}}


def json_get(step: str, file: str, path: str) -> Json:
    return {"Std:JsonGet": {"PropertyFile": get(f"Steps.{step}.PropertyFiles.{file}"), "Path": path}}


def processing(
    name: str,
    script: str,
    *,
    inputs: dict[str, object] | None = None,
    outputs: tuple[str, ...] = (),
    files: dict[str, str] | None = None,
    seconds: object = 60,
    **more: Any,
) -> Json:
    """A processing step of a line of shell; `files` are property files (name → path) of the first output."""
    arguments = {
        "ProcessingResources": {
            "ClusterConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1}
        },
        "AppSpecification": {"ImageUri": IMAGE, "ContainerEntrypoint": ["/bin/sh", "-ec", script, "--"]},
        "RoleArn": ROLE,
        "ProcessingInputs": [
            {
                "InputName": key,
                "S3Input": {"S3Uri": uri, "LocalPath": f"{PROCESSING}/input/{key}", "S3DataType": "S3Prefix"},
            }
            for key, uri in (inputs or {}).items()
        ],
        "ProcessingOutputConfig": {
            "Outputs": [
                {
                    "OutputName": key,
                    "S3Output": {
                        "S3Uri": join(
                            f"s3://{BUCKET}", get("Execution.PipelineExecutionId"), name, key, on="/"
                        ),
                        "LocalPath": f"{PROCESSING}/output/{key}",
                        "S3UploadMode": "EndOfJob",
                    },
                }
                for key in outputs
            ]
        },
        "StoppingCondition": {"MaxRuntimeInSeconds": seconds},
        **more.pop("arguments", {}),
    }
    property_files = [
        {"PropertyFileName": key, "OutputName": outputs[0], "FilePath": path}
        for key, path in (files or {}).items()
    ]
    return {
        "Name": name,
        "Type": "Processing",
        "Arguments": arguments,
        "PropertyFiles": property_files,
        **more,
    }


def output(step: str, name: str) -> Json:
    return get(f"Steps.{step}.ProcessingOutputConfig.Outputs['{name}'].S3Output.S3Uri")


def training(
    name: str,
    script: str | None = None,
    *,
    channels: dict[str, object] | None = None,
    hyperparameters: dict[str, object] | None = None,
    metrics: dict[str, str] | None = None,
    seconds: int = 60,
    **more: Any,
) -> Json:
    """A training step: a line of shell, or without one script mode by its hyperparameters."""
    algorithm: Json = {"TrainingImage": IMAGE, "TrainingInputMode": "File"}
    if script:
        algorithm["ContainerEntrypoint"] = ["/bin/sh", "-ec", script]
    if metrics:
        algorithm["MetricDefinitions"] = [{"Name": key, "Regex": regex} for key, regex in metrics.items()]
    arguments = {
        "AlgorithmSpecification": algorithm,
        "RoleArn": ROLE,
        "HyperParameters": hyperparameters or {},
        "InputDataConfig": [
            {
                "ChannelName": key,
                "DataSource": {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": uri}},
                "ContentType": "text/csv",
            }
            for key, uri in (channels or {"train": f"s3://{BUCKET}/data"}).items()
        ],
        "OutputDataConfig": {"S3OutputPath": f"s3://{BUCKET}/models"},
        "ResourceConfig": {"InstanceCount": 1, "InstanceType": "ml.m5.large", "VolumeSizeInGB": 1},
        "StoppingCondition": {"MaxRuntimeInSeconds": seconds},
        **more.pop("arguments", {}),
    }
    return {"Name": name, "Type": "Training", "Arguments": arguments, **more}


def condition(
    name: str, *conditions: Json, then: list[Json] | None = None, otherwise: list[Json] | None = None
) -> Json:
    branches = {"IfSteps": then or [], "ElseSteps": otherwise or []}
    return {"Name": name, "Type": "Condition", "Arguments": {"Conditions": list(conditions), **branches}}


def compare(kind: str, left: object, right: object) -> Json:
    return {"Type": kind, "LeftValue": left, "RightValue": right}


def fail(name: str, message: object) -> Json:
    return {"Name": name, "Type": "Fail", "Arguments": {"ErrorMessage": message}}


def model(name: str, train: str) -> Json:
    data = get(f"Steps.{train}.ModelArtifacts.S3ModelArtifacts")
    container = {"Image": IMAGE, "ModelDataUrl": data, "Environment": {"SAGEMAKER_PROGRAM": "inference.py"}}
    return {
        "Name": name,
        "Type": "Model",
        "Arguments": {"ExecutionRoleArn": ROLE, "PrimaryContainer": container},
    }


def register(name: str, train: str, group: str = GROUP) -> Json:
    data = get(f"Steps.{train}.ModelArtifacts.S3ModelArtifacts")
    specification = {
        "Containers": [{"Image": IMAGE, "ModelDataUrl": data}],
        "SupportedContentTypes": ["text/csv"],
        "SupportedResponseMIMETypes": ["text/csv"],
    }
    arguments = {
        "ModelPackageGroupName": group,
        "ModelApprovalStatus": "PendingManualApproval",
        "InferenceSpecification": specification,
    }
    return {"Name": name, "Type": "RegisterModel", "Arguments": arguments}
