"""A Processing or Training job as a local process; the result has the shape of the job's Describe call.

What differs from the service: one machine, no network rules, no volume limits; outputs are stored only when the job
succeeds (SageMaker also keeps what a stopped or failed training left). See docs/decisions/0062.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from local.runner import storage
from local.runner.container import OPT_ML, Container, container, resource_config
from local.runner.process import Exit, Limits

# "ProcessingStoppingCondition" and "StoppingCondition" (API Reference): one day unless stated.
DEFAULT_SECONDS = 86_400
CODE = f"{OPT_ML}/code"


@dataclasses.dataclass(frozen=True)
class Setting:
    """What an execution runs in. Nothing is looked up: the clients, too, are the caller's.

    `images` maps an image URI to the interpreter that stands for it; `environment` is added to every job's own;
    `stop` is asked often, and once it is true everything ends; `grace_seconds` lie between SIGTERM and SIGKILL.
    """

    s3: Any
    sagemaker: Any
    images: Mapping[str, Path]
    work_dir: Path
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)
    account: str = "000000000000"
    stop: Callable[[], bool] = lambda: False
    grace_seconds: float = 10.0

    def arn(self, resource: str) -> str:
        """The ARN of a SageMaker resource of this account and the client's region."""
        return f"arn:aws:sagemaker:{self.sagemaker.meta.region_name}:{self.account}:{resource}"


@dataclasses.dataclass(frozen=True)
class Job:
    """One job to run: its name, its folder, where its output lines go."""

    name: str
    folder: Path
    setting: Setting
    on_line: Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a job ended, in the service's words: Completed, Failed or Stopped, and why."""

    status: str
    reason: str = ""


def processing(arguments: Mapping[str, Any], job: Job) -> dict[str, Any]:
    """Run a CreateProcessingJob request; returns what DescribeProcessingJob would answer."""
    arn = job.setting.arn(f"processing-job/{job.name.lower()}")
    described = {**arguments, "ProcessingJobName": job.name, "ProcessingJobArn": arn, "CreationTime": _now()}

    def run(inside: Container) -> Outcome:
        return _process(arguments, job, inside, arn)

    outcome, inside = _contained(job, run)
    described |= {"ProcessingJobStatus": outcome.status, "ProcessingEndTime": _now()}
    if inside and outcome.status == "Failed" and inside.path(f"{OPT_ML}/output/message").exists():
        described["ExitMessage"] = inside.reason(f"{OPT_ML}/output/message")
    return described | ({"FailureReason": outcome.reason} if outcome.reason else {})


def _process(arguments: Mapping[str, Any], job: Job, inside: Container, arn: str) -> Outcome:
    cluster = arguments["ProcessingResources"]["ClusterConfig"]
    application = arguments["AppSpecification"]
    inside.write_json(
        f"{OPT_ML}/config/processingjobconfig.json",
        {"ProcessingJobArn": arn, "ProcessingJobName": job.name, **arguments},
    )
    inside.write_json(f"{OPT_ML}/config/resourceconfig.json", resource_config(cluster.get("InstanceType")))
    for item in arguments.get("ProcessingInputs", []):
        source = item["S3Input"]
        storage.download(job.setting.s3, source["S3Uri"], inside.path(source["LocalPath"]))
    outputs = [item["S3Output"] for item in arguments.get("ProcessingOutputConfig", {}).get("Outputs", [])]
    for output in outputs:
        inside.path(output["LocalPath"]).mkdir(parents=True, exist_ok=True)
    ended = inside.run(
        [*application["ContainerEntrypoint"], *application.get("ContainerArguments", [])],
        python=job.setting.images[application["ImageUri"]],
        environment={
            "PROCESSING_JOB_NAME": job.name,
            "PROCESSING_JOB_ARN": arn,
            **arguments.get("Environment", {}),
            **job.setting.environment,
        },
        limits=_limits(arguments, job.setting),
        on_line=job.on_line,
    )
    outcome = _outcome(ended, inside, f"{OPT_ML}/output/message", _limits(arguments, job.setting).seconds)
    if outcome.status == "Completed":
        key_id = arguments.get("ProcessingOutputConfig", {}).get("KmsKeyId")
        for output in outputs:
            storage.upload(job.setting.s3, inside.path(output["LocalPath"]), output["S3Uri"], key_id)
    return outcome


def training(arguments: Mapping[str, Any], job: Job) -> dict[str, Any]:
    """Run a CreateTrainingJob request; returns what DescribeTrainingJob would answer."""
    arn = job.setting.arn(f"training-job/{job.name.lower()}")
    started = _now()
    described = {**arguments, "TrainingJobName": job.name, "TrainingJobArn": arn, "CreationTime": started}
    target = f"{arguments['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{job.name}/output"

    def run(inside: Container) -> Outcome:
        return _train(arguments, job, inside, target)

    outcome, inside = _contained(job, run)
    secondary = "MaxRuntimeExceeded" if "MaxRuntimeExceeded" in outcome.reason else outcome.status
    described |= {
        "TrainingJobStatus": outcome.status,
        "SecondaryStatus": secondary,
        "TrainingEndTime": _now(),
        "TrainingTimeInSeconds": int((_now() - started).total_seconds()),
    }
    if inside and inside.log.exists():
        metrics = arguments["AlgorithmSpecification"].get("MetricDefinitions", [])
        described["FinalMetricDataList"] = list(_final_metrics(metrics, inside.log.read_text()))
    if outcome.status == "Completed":
        described["ModelArtifacts"] = {"S3ModelArtifacts": f"{target}/model.tar.gz"}
    return described | ({"FailureReason": outcome.reason} if outcome.reason else {})


def _train(arguments: Mapping[str, Any], job: Job, inside: Container, target: str) -> Outcome:
    channels = {channel["ChannelName"]: channel for channel in arguments.get("InputDataConfig", [])}
    parameters = arguments.get("HyperParameters", {})
    machine = resource_config(arguments.get("ResourceConfig", {}).get("InstanceType"))
    config = f"{OPT_ML}/input/config"
    inside.write_json(f"{config}/hyperparameters.json", parameters)
    inside.write_json(f"{config}/resourceconfig.json", machine)
    described = {name: _channel(channel) for name, channel in channels.items()}
    inside.write_json(f"{config}/inputdataconfig.json", described)
    for name, channel in channels.items():
        uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
        storage.download(job.setting.s3, uri, inside.path(f"{OPT_ML}/input/data/{name}"))
    for folder in ("model", "output/data"):
        inside.path(f"{OPT_ML}/{folder}").mkdir(parents=True, exist_ok=True)

    algorithm = arguments["AlgorithmSpecification"]
    environment = {
        "TRAINING_JOB_NAME": job.name,
        **arguments.get("Environment", {}),
        **job.setting.environment,
    }
    if entrypoint := algorithm.get("ContainerEntrypoint"):
        command, folder = [*entrypoint, *algorithm.get("ContainerArguments", [])], "/"
    else:
        _fetch_script(job, parameters, inside)
        command, folder = _script_command(parameters), CODE
        environment = {**_toolkit_variables(parameters, described, machine), **environment}
    ended = inside.run(
        command,
        python=job.setting.images[algorithm["TrainingImage"]],
        environment=environment,
        limits=_limits(arguments, job.setting),
        on_line=job.on_line,
        folder=folder,
    )
    outcome = _outcome(ended, inside, f"{OPT_ML}/output/failure", _limits(arguments, job.setting).seconds)
    if outcome.status == "Completed":
        for name, packed in (("model", "model"), ("output", "output/data")):
            source, archive = inside.path(f"{OPT_ML}/{packed}"), inside.folder / f"{name}.tar.gz"
            if name == "model" or any(source.iterdir()):
                storage.pack(source, archive)
                key_id = arguments["OutputDataConfig"].get("KmsKeyId")
                storage.upload(job.setting.s3, archive, f"{target}/{archive.name}", key_id)
    return outcome


def _contained(job: Job, run: Callable[[Container], Outcome]) -> tuple[Outcome, Container]:
    """Run in a fresh container; what S3 refuses or lacks is the job's failure, not the runner's."""
    with container(job.folder) as inside:
        try:
            return run(inside), inside
        except (storage.StorageError, job.setting.s3.exceptions.ClientError) as error:
            return Outcome("Failed", f"ClientError: {error}"), inside


def _outcome(ended: Exit, inside: Container, reason_file: str, seconds: float) -> Outcome:
    if ended.ended_by == "stop request":
        return Outcome("Stopped", "Stopped on request.")
    if ended.ended_by == "time limit":
        return Outcome("Stopped", f"MaxRuntimeExceeded: the job was stopped after {seconds:g} seconds.")
    if ended.code:
        return Outcome("Failed", f"AlgorithmError: {inside.reason(reason_file)}, exit code: {ended.code}")
    return Outcome("Completed")


def _limits(arguments: Mapping[str, Any], setting: Setting) -> Limits:
    seconds = arguments.get("StoppingCondition", {}).get("MaxRuntimeInSeconds", DEFAULT_SECONDS)
    return Limits(seconds, setting.stop, setting.grace_seconds)


def _channel(channel: Mapping[str, Any]) -> dict[str, str]:
    """A channel as /opt/ml/input/config/inputdataconfig.json describes it."""
    source = channel["DataSource"]["S3DataSource"]
    described = {
        "TrainingInputMode": channel.get("InputMode", "File"),
        "S3DistributionType": source.get("S3DataDistributionType", "FullyReplicated"),
        "RecordWrapperType": channel.get("RecordWrapperType", "None"),
    }
    return described | ({"ContentType": channel["ContentType"]} if "ContentType" in channel else {})


def _fetch_script(job: Job, parameters: Mapping[str, str], inside: Container) -> None:
    folder = inside.path(CODE)
    storage.download(job.setting.s3, parameters["sagemaker_submit_directory"], folder)
    for archive in sorted(folder.glob("*.tar.gz")):
        storage.unpack(archive, folder)
        archive.unlink()


def _decoded(parameters: Mapping[str, str]) -> dict[str, Any]:
    """The script's own hyperparameters as the toolkit reads them: JSON where it is JSON, else text."""
    decoded = {}
    for name, text in parameters.items():
        if not name.startswith("sagemaker_"):
            try:
                decoded[name] = json.loads(text)
            except ValueError:
                decoded[name] = text
    return decoded


def _script_command(parameters: Mapping[str, str]) -> list[str]:
    """The toolkit's command: `python train.py --flag value …`, or `python -m package.module …` for a dotted name."""
    program = parameters["sagemaker_program"]
    start = ["python3", program] if program.endswith(".py") else ["python3", "-m", program]
    flags = sorted(_decoded(parameters).items())
    return [
        *start,
        *(
            word
            for name, value in flags
            for word in (f"-{name}" if len(name) == 1 else f"--{name}", str(value))
        ),
    ]


def _toolkit_variables(
    parameters: Mapping[str, str], channels: Mapping[str, Any], machine: Mapping[str, Any]
) -> dict[str, str]:
    """SM_* variables of script mode ("SageMaker Training Toolkit", Environment Variables)."""
    own = _decoded(parameters)
    variables: dict[str, Any] = {
        "SM_MODEL_DIR": f"{OPT_ML}/model",
        "SM_INPUT_DIR": f"{OPT_ML}/input",
        "SM_INPUT_CONFIG_DIR": f"{OPT_ML}/input/config",
        "SM_OUTPUT_DIR": f"{OPT_ML}/output",
        "SM_OUTPUT_DATA_DIR": f"{OPT_ML}/output/data",
        "SM_MODULE_DIR": parameters["sagemaker_submit_directory"],
        "SM_MODULE_NAME": parameters["sagemaker_program"].removesuffix(".py"),
        "SM_USER_ENTRY_POINT": parameters["sagemaker_program"],
        "SM_CHANNELS": sorted(channels),
        **{f"SM_CHANNEL_{name.upper()}": f"{OPT_ML}/input/data/{name}" for name in channels},
        "SM_HPS": own,
        **{f"SM_HP_{name.upper()}": value for name, value in own.items()},
        "SM_INPUT_DATA_CONFIG": channels,
        "SM_RESOURCE_CONFIG": machine,
        "SM_CURRENT_HOST": machine["current_host"],
        "SM_HOSTS": machine["hosts"],
        "SM_NUM_CPUS": os.cpu_count(),
        "SM_NUM_GPUS": 0,
    }
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in variables.items()}


def _final_metrics(definitions: list[Mapping[str, str]], log: str) -> Iterator[dict[str, Any]]:
    """The last value that each metric's regular expression finds in the log (FinalMetricDataList)."""
    for definition in definitions:
        if found := re.findall(definition["Regex"], log):
            yield {"MetricName": definition["Name"], "Value": float(found[-1]), "Timestamp": _now()}


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
