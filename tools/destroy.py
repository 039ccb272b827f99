"""Take a deployment down to nothing: list what a deployment and its runs created, ask, empty, then `cdk destroy`.

CloudFormation deletes only what it created, and refuses a bucket with objects or a model package group with versions.
What a run created beside it (object versions, model packages, catalog tables, models of pipeline runs, what rollouts
replaced) is listed and removed here, in the order in which AWS allows it: first what runs, then the stacks that write,
then what they wrote, then Foundation.
"""

import argparse
import dataclasses
import functools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import botocore.exceptions

from stacks.config import Config
from tools import aws
from tools.assembly import ROOT

Clients = Callable[[str], Any]
RunCdk = Callable[[list[str]], int]

POLLS, POLL_SECONDS = 24, 5
# SageMaker gives a job two minutes to end before it kills it, and then saves what the job wrote.
STOP_POLLS, STOP_SECONDS = 60, 10

PIPELINE = "AWS::SageMaker::Pipeline"

KEPT_BY_STAGE = "the key, the buckets, their objects, the model group with its versions, the database with its tables, logs"
PENDING_KEY = (
    "the KMS key, pending deletion for the days of foundation.key_pending_window_days (no charge meanwhile)"
)
KEPT_BY_AWS = (
    "the role AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint, AWS's own, which scaling in any app uses",
    "shared service log groups (/aws/sagemaker/ProcessingJobs, /aws/sagemaker/TrainingJobs, /aws-glue/*)",
    "the history of SageMaker jobs, which cannot be deleted and costs nothing",
    "the bootstrap stack CDKToolkit and its assets, which other apps of the account share",
)


@dataclasses.dataclass(frozen=True)
class Leftovers:
    """What runs created and CloudFormation does not know."""

    running: list[str]
    buckets: dict[str, int]
    model_packages: list[str]
    run_models: list[str]
    models: list[str]
    endpoint_configs: list[str]
    tables: list[tuple[str, str]]
    log_groups: list[str]

    def lines(self) -> Iterator[str]:
        """What will be removed, in words."""
        for arn in self.running:
            yield f"running pipeline execution {arn.rsplit('/', 1)[-1]}"
        for bucket, count in self.buckets.items():
            yield f"{count} object version(s) in s3://{bucket}"
        for arn in self.model_packages:
            yield f"model package {arn.split('/', 1)[-1]}"
        for model in [*self.run_models, *self.models]:
            yield f"model {model}"
        for name in self.endpoint_configs:
            yield f"endpoint config {name}"
        for database, table in self.tables:
            yield f"catalog table {database}.{table}"
        for group in self.log_groups:
            yield f"log group {group}"


def _versions(s3: Any, bucket: str) -> Iterator[list[dict[str, str]]]:
    """Pages of at most 1,000 object versions and delete markers, the most DeleteObjects takes."""
    for page in s3.get_paginator("list_object_versions").paginate(Bucket=bucket):
        found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        yield [{"Key": item["Key"], "VersionId": item["VersionId"]} for item in found]


def _runs(sagemaker: Any, pipelines: list[str]) -> Iterator[tuple[str, str]]:
    """(ARN, status) of every execution of these pipelines."""
    for pipeline in pipelines:
        pages = sagemaker.get_paginator("list_pipeline_executions")
        for page in pages.paginate(PipelineName=pipeline, SortOrder="Descending"):
            for run in page["PipelineExecutionSummaries"]:
                yield run["PipelineExecutionArn"], run["PipelineExecutionStatus"]


def _running(sagemaker: Any, pipelines: list[str]) -> dict[str, str]:
    """Status by ARN of the executions that have not ended."""
    return {arn: status for arn, status in _runs(sagemaker, pipelines) if status in {"Executing", "Stopping"}}


def _models(sagemaker: Any, pipelines: list[str]) -> Iterator[str]:
    """The models that runs of these pipelines created, oldest run last; those already gone are left out."""
    for run, _ in _runs(sagemaker, pipelines):
        steps = sagemaker.get_paginator("list_pipeline_execution_steps")
        for page in steps.paginate(PipelineExecutionArn=run):
            for step in page["PipelineExecutionSteps"]:
                if arn := step.get("Metadata", {}).get("Model", {}).get("Arn"):
                    yield arn.rsplit("/", 1)[-1]


def _tagged(clients: Clients, config: Config, kind: str) -> list[str]:
    """The names of this deployment's SageMaker resources of `kind`: a rollout leaves what it replaced behind."""
    tag, deployment = config.deployment_tag
    pages = (
        clients("resourcegroupstaggingapi")
        .get_paginator("get_resources")
        .paginate(
            TagFilters=[{"Key": tag, "Values": [deployment]}], ResourceTypeFilters=[f"sagemaker:{kind}"]
        )
    )
    return [
        item["ResourceARN"].rsplit("/", 1)[-1] for page in pages for item in page["ResourceTagMappingList"]
    ]


def _endpoint_logs(clients: Clients, config: Config) -> list[str]:
    """The log groups that SageMaker makes for the endpoints: they are ours alone, and have no retention."""
    names = {f"/aws/sagemaker/Endpoints/{name}" for name in config.endpoint_names.values()}
    prefix = f"/aws/sagemaker/Endpoints/{config.prefix}"
    groups = clients("logs").describe_log_groups(logGroupNamePrefix=prefix)["logGroups"]
    return [group["logGroupName"] for group in groups if group["logGroupName"] in names]


def _packages(sagemaker: Any, group: str) -> list[str]:
    pages = sagemaker.get_paginator("list_model_packages").paginate(ModelPackageGroupName=group)
    return [item["ModelPackageArn"] for page in pages for item in page["ModelPackageSummaryList"]]


def _named(clients: Clients, stacks: list[str]) -> dict[str, list[str]]:
    """The physical ids of what these stacks have, by type."""
    deployed = [item for stack in stacks for item in aws.resources(clients("cloudformation"), stack)]
    return {kind: [name for found, name in deployed if found == kind] for kind, _ in deployed}


def look(clients: Clients, config: Config, stacks: list[str]) -> Leftovers:
    """List what the runs of these deployed stacks left behind; nothing is changed.

    A stage with `retain_data` keeps its data by decision: its objects, versions and tables are not listed.
    """
    named = _named(clients, stacks)
    packages: list[str] = []
    tables: list[tuple[str, str]] = []
    buckets: dict[str, int] = {}
    if not config.foundation.retain_data:
        s3, glue, sagemaker = clients("s3"), clients("glue"), clients("sagemaker")
        buckets = {
            bucket: sum(len(page) for page in _versions(s3, bucket))
            for bucket in named.get("AWS::S3::Bucket", [])
        }
        for group in named.get("AWS::SageMaker::ModelPackageGroup", []):
            packages += _packages(sagemaker, group.rsplit("/", 1)[-1])
        for database in named.get("AWS::Glue::Database", []):
            pages = glue.get_paginator("get_tables").paginate(DatabaseName=database)
            tables += [(database, table["Name"]) for page in pages for table in page["TableList"]]
    pipelines = named.get(PIPELINE, [])
    return Leftovers(
        running=list(_running(clients("sagemaker"), pipelines)),
        buckets=buckets,
        model_packages=packages,
        run_models=list(_models(clients("sagemaker"), pipelines)),
        models=_tagged(clients, config, "model"),
        endpoint_configs=_tagged(clients, config, "endpoint-config"),
        tables=tables,
        log_groups=_endpoint_logs(clients, config),
    )


def stop(sagemaker: Any, pipelines: list[str], *, wait: Callable[[float], None]) -> None:
    """Stop what runs and wait until it has: SageMaker deletes no pipeline that runs, and a run writes."""
    for _ in range(STOP_POLLS):
        running = _running(sagemaker, pipelines)
        if not running:
            return
        for arn in (arn for arn, status in running.items() if status == "Executing"):
            sagemaker.stop_pipeline_execution(PipelineExecutionArn=arn)
        print(f"  waiting for {len(running)} pipeline execution(s) to stop")
        wait(STOP_SECONDS)
    raise SystemExit(
        f"Pipeline executions are still running after {STOP_POLLS * STOP_SECONDS} s: {', '.join(running)}. "
        "Nothing was deleted: run this again."
    )


def remove(clients: Clients, leftovers: Leftovers, *, wait: Callable[[float], None] = time.sleep) -> None:
    """Remove all of it; what is already gone counts as removed, so a second run finishes the first.

    Deleted model packages are listed for some seconds more, and their group cannot go before they have: this waits.
    """
    s3, glue, sagemaker = clients("s3"), clients("glue"), clients("sagemaker")
    for bucket in leftovers.buckets:
        for page in _versions(s3, bucket):
            if page:
                _delete_objects(s3, bucket, page)
        print(f"  emptied s3://{bucket}")
    for arn in leftovers.model_packages:
        _unless_gone(sagemaker.delete_model_package, ModelPackageName=arn)
    for group in sorted({arn.split("/")[1] for arn in leftovers.model_packages}):
        _await_empty(sagemaker, group, wait)
    for model in leftovers.models:
        _unless_gone(sagemaker.delete_model, ModelName=model)
    for name in leftovers.endpoint_configs:
        _unless_gone(sagemaker.delete_endpoint_config, EndpointConfigName=name)
    for database, table in leftovers.tables:
        _unless_gone(glue.delete_table, DatabaseName=database, Name=table)
    for group in leftovers.log_groups:
        _unless_gone(clients("logs").delete_log_group, logGroupName=group)


def _await_empty(sagemaker: Any, group: str, wait: Callable[[float], None]) -> None:
    for _ in range(POLLS):
        if not _packages(sagemaker, group):
            return
        wait(POLL_SECONDS)


def _delete_objects(s3: Any, bucket: str, page: list[dict[str, str]]) -> None:
    errors = s3.delete_objects(Bucket=bucket, Delete={"Objects": page, "Quiet": True}).get("Errors", [])
    if errors:
        first = errors[0]
        raise SystemExit(
            f"s3://{bucket}/{first['Key']}: {first['Message']}. {len(errors)} object(s) are left."
        )


def _unless_gone(call: Callable[..., Any], **arguments: str) -> None:
    try:
        call(**arguments)
    except botocore.exceptions.ClientError as error:
        gone = {"EntityNotFoundException", "ResourceNotFound", "ResourceNotFoundException"}
        missing = "Could not find" in error.response["Error"]["Message"]
        if error.response["Error"]["Code"] not in gone and not missing:
            raise


def run_cdk(arguments: list[str], *, region: str) -> int:
    """Run the pinned CDK CLI in the project's folder, for the region in which this tool looked."""
    command = ["npx", "--no-install", "cdk", *arguments]
    environment = {**os.environ, "AWS_REGION": region}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode


@aws.told()
def main(
    argv: list[str] | None = None,
    *,
    clients: Clients | None = None,
    cdk: RunCdk | None = None,
    ask: Callable[[str], str] = input,
    wait: Callable[[float], None] = time.sleep,
) -> int:
    """Show the list, ask for the deployment's name, and take it down; 0 when nothing is left."""
    parser = argparse.ArgumentParser(prog="make destroy", description=__doc__)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    options, config = aws.parse_stage(parser, argv)
    clients = clients or aws.clients()
    sts, cloudformation = clients("sts"), clients("cloudformation")
    region = sts.meta.region_name
    where = f"in account {sts.get_caller_identity()['Account']}, region {region}"
    found = {stack: aws.stack_status(cloudformation, config.stack_name(stack)) for stack in aws.STACKS}
    present = [stack for stack, description in found.items() if description]
    if not present:
        print(f"Nothing of {config.prefix} is deployed {where}.")
        return 0
    if strangers := [stack for stack in aws.unlisted(config) if stack in present]:
        print(
            f"{', '.join(strangers)} is deployed, and options does not list it, so the CDK CLI does not know it. List it "
            f"under stages.{config.stage}.options in cdk.json, and come back.",
            file=sys.stderr,
        )
        return 1
    protected = [config.stack_name(s) for s in present if (found[s] or {}).get("EnableTerminationProtection")]
    if protected:
        print(
            f"Termination protection is on for {', '.join(protected)}. If you mean it: set foundation.termination_protection "
            f"to false under stages.{config.stage} in cdk.json, `make deploy STAGE={config.stage}`, and come back.",
            file=sys.stderr,
        )
        return 1
    leftovers = look(clients, config, [config.stack_name(stack) for stack in present])
    print(f"To be deleted {where}:", *(f"  stack {config.stack_name(stack)}" for stack in present), sep="\n")
    print(*(f"  {line}" for line in leftovers.lines()), sep="\n")
    if config.foundation.retain_data:
        print(f"Kept, because foundation.retain_data is true: {KEPT_BY_STAGE}.")
        print('The same name cannot be deployed again before README.md, "Deploy again", is followed.')
    if not options.yes and ask(f"Type {config.prefix} to go on: ").strip() != config.prefix:
        print("Nothing was changed.", file=sys.stderr)
        return 1
    pipelines = _named(clients, [config.stack_name(stack) for stack in present]).get(PIPELINE, [])
    stop(clients("sagemaker"), pipelines, wait=wait)
    # While the pipeline is there to tell which models its runs made: no endpoint uses them.
    for model in _models(clients("sagemaker"), pipelines):
        _unless_gone(clients("sagemaker").delete_model, ModelName=model)
    cdk = cdk or functools.partial(run_cdk, region=region)
    return _take_down(clients, cdk, config, present, leftovers)


def _take_down(
    clients: Clients, cdk: RunCdk, config: Config, present: list[str], leftovers: Leftovers
) -> int:
    context = ["--force", "--no-notices", "-c", f"stage={config.stage}"]
    writers = [stack for stack in present if stack != "Foundation"]
    if writers and (code := cdk(["destroy", *writers, "--exclusively", *context])):
        return code
    # Listed again: the writers wrote until they were gone.
    if "Foundation" in present:
        remove(clients, look(clients, config, [config.stack_name("Foundation")]))
    remove(clients, dataclasses.replace(leftovers, buckets={}, model_packages=[], tables=[]))
    if "Foundation" in present and (code := cdk(["destroy", "Foundation", "--exclusively", *context])):
        print(
            "Access logs may arrive hours late and refill the logs bucket: run this again.", file=sys.stderr
        )
        return code
    left = [
        stack for stack in present if aws.stack_status(clients("cloudformation"), config.stack_name(stack))
    ]
    if left:
        print(f"Still there: {', '.join(left)}.", file=sys.stderr)
        return 1
    kept = KEPT_BY_AWS if config.foundation.retain_data else (PENDING_KEY, *KEPT_BY_AWS)
    print("Gone. What AWS itself keeps:", *(f"  {line}" for line in kept), sep="\n")
    return 0


if __name__ == "__main__":
    started = time.monotonic()
    status = main()
    print(f"{time.monotonic() - started:.0f} s")
    sys.exit(status)
