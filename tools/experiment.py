"""Start or stop a comparison of the version in service with a challenger, or say how it stands.

The Experiment stack runs while it has two versions: the champion follows each release, the challenger is its parameter
`ChallengerPackageArn`. Promotion is an approval of the challenger: once it is released, both are one, and the
experiment has ended.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from typing import Any

import botocore.exceptions

from stacks.serving_rules import Option
from tools import aws

Clients = Callable[[str], Any]
CHAMPION, CHALLENGER = "ModelPackageArn", "ChallengerPackageArn"
PROMOTED = (
    "No experiment runs: the challenger was released and is the champion now. Name the next one: "
    "python -m tools.experiment start --challenger ARN"
)


class ExperimentError(Exception):
    """What was asked cannot be done: the message says why, and the remedy."""


def parameters(cloudformation: Any, stack: str) -> Mapping[str, str]:
    """The stack's parameters; `ExperimentError` if it is not deployed or busy."""
    found = aws.stack_status(cloudformation, stack)
    if found is None:
        raise ExperimentError(
            f'{stack} is not deployed. Add "experiment" to the stage\'s options in cdk.json, and deploy.'
        )
    if found["StackStatus"].endswith("_IN_PROGRESS"):
        raise ExperimentError(f"{stack} is {found['StackStatus']}. Try again when that has ended.")
    return {it["ParameterKey"]: it["ParameterValue"] for it in found.get("Parameters", [])}


def start(clients: Clients, stack: str, challenger: str) -> str:
    """Let the challenger run beside the champion, and wait until both serve."""
    known = parameters(clients("cloudformation"), stack)
    champion = known.get(CHAMPION, "")
    if not champion:
        raise ExperimentError(
            f"{stack} has no {CHAMPION} yet. Approve a version first: it becomes the champion."
        )
    if challenger == champion:
        raise ExperimentError(f"{challenger} is the champion. Name another version as --challenger.")
    status = clients("sagemaker").describe_model_package(ModelPackageName=challenger)["ModelApprovalStatus"]
    if status == "Rejected":
        raise ExperimentError(f"{challenger} is rejected. Name a version that may still be approved.")
    return _set(clients("cloudformation"), stack, known, challenger)


def stop(clients: Clients, stack: str) -> str:
    """Take the endpoint away; its captures stay, but a report needs it (tools/compare.py)."""
    cloudformation = clients("cloudformation")
    return _set(cloudformation, stack, parameters(cloudformation, stack), "")


def status(clients: Clients, stack: str, endpoint: str) -> str:
    """Which versions are compared, and what share of the requests each has."""
    known = parameters(clients("cloudformation"), stack)
    lines = [f"champion   {known.get(CHAMPION) or '-'}", f"challenger {known.get(CHALLENGER) or '-'}"]
    if not (known.get(CHAMPION) and known.get(CHALLENGER)):
        return "\n".join([*lines, "No experiment runs."])
    if known[CHAMPION] == known[CHALLENGER]:
        return "\n".join([*lines, PROMOTED])
    described = clients("sagemaker").describe_endpoint(EndpointName=endpoint)
    lines.append(f"{endpoint}: {described['EndpointStatus']}")
    for kind in ("ProductionVariants", "ShadowProductionVariants"):
        for variant in described.get(kind, []):
            shadow = " (shadow)" if kind.startswith("Shadow") else ""
            lines.append(
                f"  {variant['VariantName']}{shadow}: weight {variant['CurrentWeight']:g}, "
                f"{variant['CurrentInstanceCount']} instance(s)"
            )
    return "\n".join(lines)


def _set(cloudformation: Any, stack: str, known: Mapping[str, str], challenger: str) -> str:
    """Change the one parameter, and wait."""
    others = [{"ParameterKey": key, "UsePreviousValue": True} for key in sorted(known) if key != CHALLENGER]
    try:
        cloudformation.update_stack(
            StackName=stack,
            UsePreviousTemplate=True,
            Parameters=[{"ParameterKey": CHALLENGER, "ParameterValue": challenger}, *others],
        )
    except botocore.exceptions.ClientError as error:
        if "No updates are to be performed" in str(error):
            return f"{stack} is so already."
        raise
    try:
        cloudformation.get_waiter("stack_update_complete").wait(StackName=stack, WaiterConfig={"Delay": 5})
    except botocore.exceptions.WaiterError:
        raise ExperimentError(
            f"{stack} was not updated. The reason: aws cloudformation describe-stack-events --stack-name {stack}"
        ) from None
    return f"{stack}: {'the experiment runs' if challenger else 'the experiment has ended'}."


def main(argv: list[str] | None = None, *, clients: Clients | None = None) -> int:
    """Do what was asked, and print how it ended."""
    parser = argparse.ArgumentParser(prog="python -m tools.experiment", description=__doc__)
    parser.add_argument("action", choices=("start", "stop", "status"))
    parser.add_argument("--challenger", help="start: the ARN of the model package version to try")
    options, config = aws.parse_stage(parser, argv)
    if (options.action == "start") != bool(options.challenger):
        parser.error("start needs --challenger, and nothing else takes it")
    clients = clients or aws.clients()
    stack = config.stack_name("Experiment")
    try:
        with aws.told():
            if options.action == "start":
                print(start(clients, stack, options.challenger))
            elif options.action == "stop":
                print(stop(clients, stack))
            else:
                print(status(clients, stack, config.endpoint_names[Option.AB]))
    except ExperimentError as error:
        sys.exit(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
