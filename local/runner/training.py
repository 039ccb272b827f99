"""A Training job: channels from S3, script mode or the request's own entrypoint, model.tar.gz to S3.

Source: "How Amazon SageMaker AI provides training information" (SageMaker AI Developer Guide).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from local.runner import script_mode, storage
from local.runner.container import OPT_ML, Container, resource_config
from local.runner.jobs import TIME_LIMIT, Job, execute, now, perform


def training(job: Job) -> dict[str, Any]:
    """Run a CreateTrainingJob request; returns what DescribeTrainingJob would answer."""
    request = job.arguments
    target = f"{request['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{job.name}/output"
    started = now()

    def work(inside: Container) -> None:
        _work(job, inside, target)

    outcome = perform(job, work)
    artifacts = {"ModelArtifacts": {"S3ModelArtifacts": f"{target}/model.tar.gz"}}
    metrics = request["AlgorithmSpecification"].get("MetricDefinitions", [])
    return {
        **request,
        "TrainingJobName": job.name,
        "TrainingJobArn": job.setting.arn(f"training-job/{job.name.lower()}"),
        "CreationTime": started,
        "TrainingEndTime": now(),
        "TrainingTimeInSeconds": int((now() - started).total_seconds()),
        "TrainingJobStatus": outcome.status,
        "SecondaryStatus": TIME_LIMIT if outcome.reason.startswith(TIME_LIMIT) else outcome.status,
        "FinalMetricDataList": list(_final_metrics(metrics, outcome.container.output())),
        **(artifacts if outcome.status == "Completed" else {}),
        **outcome.described,
    }


def _work(job: Job, inside: Container, target: str) -> None:
    request, s3 = job.arguments, job.setting.s3
    channels = {channel["ChannelName"]: channel for channel in request.get("InputDataConfig", [])}
    told = {
        "hyperparameters": request.get("HyperParameters", {}),
        "inputdataconfig": {name: _described(channel) for name, channel in channels.items()},
        "resourceconfig": resource_config(request.get("ResourceConfig", {}).get("InstanceType")),
    }
    for name, content in told.items():
        inside.write_json(f"{OPT_ML}/input/config/{name}.json", content)
    for name, channel in channels.items():
        uri = channel["DataSource"]["S3DataSource"]["S3Uri"]
        storage.download(s3, uri, inside.path(f"{OPT_ML}/input/data/{name}"))
    for folder in ("model", "output/data"):
        inside.path(f"{OPT_ML}/{folder}").mkdir(parents=True, exist_ok=True)

    algorithm = request["AlgorithmSpecification"]
    scripted = "ContainerEntrypoint" not in algorithm
    if scripted:
        script_mode.fetch(s3, told["hyperparameters"], inside.path(script_mode.CODE))
        command = script_mode.command(told["hyperparameters"])
    else:
        command = [*algorithm["ContainerEntrypoint"], *algorithm.get("ContainerArguments", [])]
    execute(
        job,
        inside,
        command,
        image=algorithm["TrainingImage"],
        environment={"TRAINING_JOB_NAME": job.name, **(script_mode.variables(told) if scripted else {})},
        reason_file=f"{OPT_ML}/output/failure",
        folder=script_mode.CODE if scripted else "/",
    )
    for name, source in (("model", "model"), ("output", "output/data")):
        written, archive = inside.path(f"{OPT_ML}/{source}"), inside.folder / f"{name}.tar.gz"
        if name == "model" or any(written.iterdir()):
            storage.pack(written, archive)
            key_id = request["OutputDataConfig"].get("KmsKeyId")
            storage.upload(s3, archive, f"{target}/{archive.name}", key_id)


def _described(channel: Mapping[str, Any]) -> dict[str, str]:
    """A channel as /opt/ml/input/config/inputdataconfig.json describes it."""
    source = channel["DataSource"]["S3DataSource"]
    described = {
        "TrainingInputMode": channel.get("InputMode", "File"),
        "S3DistributionType": source.get("S3DataDistributionType", "FullyReplicated"),
        "RecordWrapperType": channel.get("RecordWrapperType", "None"),
    }
    return described | ({"ContentType": channel["ContentType"]} if "ContentType" in channel else {})


def _final_metrics(definitions: list[Mapping[str, str]], log: str) -> Iterator[dict[str, Any]]:
    """The last value that each metric's regular expression finds in the log (FinalMetricDataList)."""
    for definition in definitions:
        if found := re.findall(definition["Regex"], log):
            yield {"MetricName": definition["Name"], "Value": float(found[-1]), "Timestamp": now()}
