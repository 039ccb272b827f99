"""A Processing job: inputs from S3, any program, outputs to S3 when it has succeeded.

Source: "How Amazon SageMaker AI configures your processing container" (SageMaker AI Developer Guide).
"""

from __future__ import annotations

from typing import Any

from local.runner import storage
from local.runner.container import OPT_ML, Container, resource_config
from local.runner.jobs import Job, execute, now, perform

MESSAGE = f"{OPT_ML}/output/message"


def processing(job: Job) -> dict[str, Any]:
    """Run a CreateProcessingJob request; returns what DescribeProcessingJob would answer."""
    names = {
        "ProcessingJobName": job.name,
        "ProcessingJobArn": job.setting.arn(f"processing-job/{job.name.lower()}"),
    }
    started = now()

    def work(inside: Container) -> None:
        _work(job, inside, names)

    outcome = perform(job, work)
    message = outcome.container.path(MESSAGE)
    return {
        **job.arguments,
        **names,
        "CreationTime": started,
        "ProcessingEndTime": now(),
        "ProcessingJobStatus": outcome.status,
        **outcome.described,
        **({"ExitMessage": outcome.container.reason(MESSAGE)} if message.exists() else {}),
    }


def _work(job: Job, inside: Container, names: dict[str, str]) -> None:
    request, s3 = job.arguments, job.setting.s3
    application, results = request["AppSpecification"], request.get("ProcessingOutputConfig", {})
    machine = resource_config(request["ProcessingResources"]["ClusterConfig"].get("InstanceType"))
    inside.write_json(f"{OPT_ML}/config/processingjobconfig.json", {**names, **request})
    inside.write_json(f"{OPT_ML}/config/resourceconfig.json", machine)
    for item in request.get("ProcessingInputs", []):
        source = item["S3Input"]
        storage.download(s3, source["S3Uri"], inside.path(source["LocalPath"]))
    outputs = [item["S3Output"] for item in results.get("Outputs", [])]
    for output in outputs:
        inside.path(output["LocalPath"]).mkdir(parents=True, exist_ok=True)
    execute(
        job,
        inside,
        [*application["ContainerEntrypoint"], *application.get("ContainerArguments", [])],
        image=application["ImageUri"],
        environment={
            "PROCESSING_JOB_NAME": names["ProcessingJobName"],
            "PROCESSING_JOB_ARN": names["ProcessingJobArn"],
        },
        reason_file=MESSAGE,
    )
    for output in outputs:
        storage.upload(s3, inside.path(output["LocalPath"]), output["S3Uri"], results.get("KmsKeyId"))
