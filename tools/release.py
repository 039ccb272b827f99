"""Put the approved model in service again: one command, after Serving has been made anew.

An approval releases a version by itself. This asks for the same once more, through the same queue: the function that
releases decides, in order with everything else, and this waits for the end and prints it.
"""

import argparse
import datetime as dt
import json
import sys
import time
import uuid
from collections.abc import Callable
from typing import Any

from lambdas import registry, rollout_result, serving_stack
from lambdas.registry import Version
from lambdas.release_model import CHANGE, SERVE_NOTHING
from lambdas.rollout_result import Result
from stacks.config import Config
from tools import aws

Clients = Callable[[str], Any]

QUEUE_OUTPUT = "ApprovalsQueueUrl"
POLL_SECONDS = 5


def versions(sagemaker: Any, group: str) -> list[Version]:
    """Every version of the group, the newest first."""
    pages = sagemaker.get_paginator("list_model_packages").paginate(ModelPackageGroupName=group)
    listed = [item["ModelPackageArn"] for page in pages for item in page["ModelPackageSummaryList"]]
    found = (registry.find(sagemaker, arn) for arn in listed)
    return sorted((version for version in found if version), key=lambda version: -version.number)


def asked(config: Config, arn: str, known: list[Version]) -> Version:
    """The version that was asked for by its ARN; ends the program if it is none, or could not be released."""
    found = next((version for version in known if version.arn == arn), None)
    if found is None:
        sys.exit(f"--package {arn}: no version of {config.prefix}. Use one of the ARNs above.")
    if found.status != registry.APPROVED:
        sys.exit(
            f"--package {arn}: it is {found.status}. Approve it first: aws sagemaker update-model-package "
            f"--model-package-arn {arn} --model-approval-status Approved"
        )
    newer = [str(it.number) for it in known if it.number > found.number and it.releasable]
    if newer:
        sys.exit(
            f"--package {arn}: version {', '.join(newer)} is newer and approved, and the newest approved version serves. "
            "Reject what must not serve."
        )
    return found


def choose(config: Config, known: list[Version], in_service: str) -> Version | None:
    """The version that should serve, or None if it does; ends the program if there is none."""
    found = next((version for version in known if version.releasable), None)
    serving = next((version for version in known if version.arn == in_service), None)
    reason = registry.superseded(found, in_service, serving)
    if found is None:
        sys.exit(
            f"No version of {config.prefix} is approved and has not failed since. Approve one, or name one that failed: "
            'make release ARGS="--package ARN".'
        )
    if reason:
        print(f"Nothing to do: version {found.number} is {reason}.")
        return None
    return found


def send(sqs: Any, queue: str, kind: str, detail: dict[str, Any]) -> None:
    """Put an event into the queue of approvals, as EventBridge would."""
    event = {"id": str(uuid.uuid4()), "time": _now(), "detail-type": kind, "detail": detail}
    sqs.send_message(
        QueueUrl=queue,
        MessageBody=json.dumps(event),
        MessageGroupId="serving",
        MessageDeduplicationId=event["id"],
    )


def _now() -> str:
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def release(clients: Clients, config: Config, queue: str, version: Version) -> Callable[[], Version | None]:
    """Ask for the version as its approval did; gives what to ask for its result, which is None until the end.

    A version that failed is tried again because a person asks for it by name: that ends the failed try, as a rejection does.
    """
    sagemaker = clients("sagemaker")
    if version.result in registry.FAILED:
        reason = f"asked for by name after it was {version.result}"
        over = Result(version.arn, registry.WITHDRAWN, reason, "", "", version.after(_now()))
        rollout_result.write(over, sagemaker=sagemaker)
    before = registry.find(sagemaker, version.arn)
    detail = {
        "ModelPackageArn": version.arn,
        "ModelPackageGroupName": config.prefix,
        "ModelApprovalStatus": registry.APPROVED,
        "UpdatedModelPackageFields": ["ModelApprovalStatus"],
    }
    send(clients("sqs"), queue, CHANGE, detail)

    def ended() -> Version | None:
        now = registry.find(sagemaker, version.arn)
        if now is None:
            sys.exit(f"{version.arn} was deleted meanwhile.")
        return now if now != before and now.result else None

    return ended


def follow(
    clients: Clients,
    config: Config,
    ended: Callable[[serving_stack.ServingStack], bool],
    wait: Callable[[float], None],
) -> None:
    """Print how the stack changes until the end; ends the program if the queue must have given up meanwhile."""
    name, shown, seconds = config.stack_name("Serving"), "", 2 * config.serving.rollout.timeout_seconds
    for _ in range(0, seconds, POLL_SECONDS):
        try:
            stack = serving_stack.read(clients("cloudformation"), name)
        except serving_stack.StackBusyError:
            wait(POLL_SECONDS)
            continue
        if stack.status != shown:
            shown = stack.status
            print(f"  {name} is {shown}")
        if ended(stack):
            return
        wait(POLL_SECONDS)
    sys.exit(
        f"No end after {seconds} s. See the log of the function in {config.stack_name('Release')} that releases models, "
        "and its dead-letter queue."
    )


def _deployed(cloudformation: Any, config: Config, stack: str) -> dict[str, Any]:
    found = aws.stack_status(cloudformation, config.stack_name(stack))
    if found is None:
        sys.exit(f"{config.stack_name(stack)} is not deployed. Run: make deploy STAGE={config.stage}")
    return found


def _queue(cloudformation: Any, config: Config) -> str:
    outputs = _deployed(cloudformation, config, "Release").get("Outputs", [])
    for output in outputs:
        if output["OutputKey"] == QUEUE_OUTPUT:
            return str(output["OutputValue"])
    sys.exit(
        f"{config.stack_name('Release')} has no output {QUEUE_OUTPUT}. Deploy it again: make deploy STAGE={config.stage}"
    )


def _show(known: list[Version], in_service: str) -> None:
    for version in known:
        word = version.result
        if word == registry.IN_SERVICE and version.arn != in_service:
            word = "served"
        became = f", {word} since {version.at}" if word else ""
        print(f"  {version.arn} {version.status}{became}{' <- serves' if version.arn == in_service else ''}")
    if in_service not in {version.arn for version in known}:
        print(f"  {in_service or 'nothing'} serves{', and was deleted' if in_service else ''}")


@aws.told()
def main(
    argv: list[str] | None = None,
    *,
    clients: Clients | None = None,
    wait: Callable[[float], None] = time.sleep,
) -> int:
    """Show the versions, ask for the release, wait for its end; 0 if what was asked for is in service."""
    parser = argparse.ArgumentParser(prog="make release", description=__doc__)
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--package", metavar="ARN", help="this version, also if it failed before")
    what.add_argument("--none", action="store_true", help="serve nothing: the endpoint and its costs end")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    options, config = aws.parse_stage(parser, argv)
    clients = clients or aws.clients()
    cloudformation = clients("cloudformation")
    _deployed(cloudformation, config, "Serving")
    try:
        stack = serving_stack.read(cloudformation, config.stack_name("Serving"))
    except serving_stack.StackMissingError as missing:
        sys.exit(f"{missing}. Run: make deploy STAGE={config.stage}")
    if stack.status.endswith("_FAILED"):
        sys.exit(
            f"{stack.name} is in {stack.status} and takes no update. When the cause is gone: "
            f"aws cloudformation continue-update-rollback --stack-name {stack.name}"
        )
    known = versions(clients("sagemaker"), config.prefix)
    print(f"Versions of {config.prefix}:")
    _show(known, stack.model_package)
    if options.none:
        return _empty(clients, config, stack, dry_run=options.dry_run, wait=wait)
    if options.package:
        version = asked(config, options.package, known)
        if version.arn == stack.model_package:
            print(f"Nothing to do: version {version.number} is what the stack serves already.")
            return 0
    elif (chosen := choose(config, known, stack.model_package)) is None:
        return 0
    else:
        version = chosen
    if options.dry_run:
        print(f"Would ask for version {version.number}.")
        return 0
    result = release(clients, config, _queue(cloudformation, config), version)
    print(f"Asked for version {version.number}; waiting for the end of its rollout.")

    def ends(now: serving_stack.ServingStack) -> bool:
        if not now.busy and now.model_package not in {stack.model_package, version.arn}:
            sys.exit(f"{now.model_package} was approved meanwhile, and serves instead.")
        return result() is not None

    follow(clients, config, ends, wait)
    ended = result() or version
    print(f"Version {ended.number}: {ended.result} since {ended.at}: {ended.reason}")
    return 0 if ended.result == registry.IN_SERVICE else 1


def _empty(
    clients: Clients,
    config: Config,
    stack: serving_stack.ServingStack,
    *,
    dry_run: bool,
    wait: Callable[[float], None],
) -> int:
    if not stack.model_package:
        print("Nothing to do: nothing is in service.")
        return 0
    if dry_run:
        print("Would ask to serve nothing.")
        return 0
    send(clients("sqs"), _queue(clients("cloudformation"), config), SERVE_NOTHING, {})
    print("Asked to serve nothing; waiting for the end of the update.")
    follow(clients, config, lambda now: not now.busy and not now.model_package, wait)
    print("Nothing is in service.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
