"""What the tools that talk to a real account share: the stage they speak of, and a session that says what is missing."""

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import boto3.exceptions
import botocore.exceptions

from stacks import config as configuration
from tools.assembly import context

# The stacks that are deployed where a stage's `options` list them, and only there.
OPTIONS = ("Experiment", "Batch", "Asynchronous", "Serverless")
# The order in which stacks may be deleted: each only uses what comes after it.
STACKS = (
    *("Monitoring", "Release", *OPTIONS, "Serving"),
    *("Training", "Processing", "Ingestion", "Foundation"),
)

# What a half-deleted stack no longer has: deleted, or given up (retained, and perhaps deleted by somebody since).
GONE = {"DELETE_COMPLETE", "DELETE_SKIPPED"}

# What to do about the credentials that a service refuses, by its error code.
REMEDIES = {
    **dict.fromkeys(
        ("ExpiredToken", "ExpiredTokenException"), "Log in again: `aws sso login`, or get new credentials."
    ),
    **dict.fromkeys(
        ("AuthFailure", "InvalidClientTokenId", "SignatureDoesNotMatch", "UnrecognizedClientException"),
        "Check AWS_PROFILE, or `aws configure` again.",
    ),
    **dict.fromkeys(("AccessDenied", "AccessDeniedException"), "Use credentials that may do this."),
}


@contextlib.contextmanager
def told() -> Iterator[None]:
    """End the program with one line and its remedy where AWS cannot be reached, or refuses the credentials."""
    try:
        yield
    except botocore.exceptions.ProfileNotFound as error:
        sys.exit(f"{error}. Set AWS_PROFILE to one that `aws configure list-profiles` names.")
    except (botocore.exceptions.ConnectionError, botocore.exceptions.HTTPClientError) as error:
        sys.exit(f"{error}. Check the network, and that AWS_REGION is a region.")
    except botocore.exceptions.BotoCoreError as error:
        sys.exit(f"AWS cannot be asked: {error}")
    except boto3.exceptions.S3UploadFailedError as error:
        sys.exit(f"{error}. Check the bucket's name and that the credentials may write there.")
    except botocore.exceptions.ClientError as error:
        remedy = REMEDIES.get(error.response["Error"]["Code"])
        if remedy is None:
            raise
        sys.exit(f"{str(error).removesuffix('.')}. {remedy}")


def load_config(stage: str) -> configuration.Config:
    """The configuration of `stage` as `cdk.json` has it; a wrong one ends the program with its message."""
    try:
        return configuration.load(context(stage))
    except configuration.ConfigError as error:
        sys.exit(str(error))


def unlisted(config: configuration.Config) -> list[str]:
    """The options that the stage does not list: `cdk` knows no such stack."""
    return [option for option in OPTIONS if option.lower() not in config.options]


def parse_stage(
    parser: argparse.ArgumentParser, argv: list[str] | None
) -> tuple[argparse.Namespace, configuration.Config]:
    """Parse the parser's own flags and `--stage`, and load that stage's configuration."""
    parser.add_argument("--stage", choices=configuration.STAGES, default="sandbox")
    options = parser.parse_args(argv)
    return options, load_config(options.stage)


def session() -> boto3.Session:
    """A session with credentials and a region, or one message that says how to get them.

    AWS_REGION comes first, as in the CDK CLI, the AWS CLI and every other SDK: boto3 alone does not read it.
    """
    made = boto3.Session(region_name=os.environ.get("AWS_REGION") or None)
    if made.get_credentials() is None:
        sys.exit("No AWS credentials. Run `aws configure` (or set AWS_PROFILE) for the account to look at.")
    if made.region_name is None:
        sys.exit("No AWS region. Set AWS_REGION to the region that was deployed to.")
    return made


def clients() -> Callable[[str], Any]:
    """A function that gives the client of a service by its name."""
    client: Callable[[str], Any] = session().client
    return client


def stack_status(cloudformation: Any, name: str) -> dict[str, Any] | None:
    """The stack's description, or `None` if there is no such stack."""
    try:
        found: dict[str, Any] = cloudformation.describe_stacks(StackName=name)["Stacks"][0]
    except botocore.exceptions.ClientError as error:
        if "does not exist" in error.response["Error"]["Message"]:
            return None
        raise
    return found


def resources(cloudformation: Any, name: str) -> list[tuple[str, str]]:
    """(type, physical id) of what the stack has: one whose deletion failed still lists what is already gone."""
    pages = cloudformation.get_paginator("list_stack_resources").paginate(StackName=name)
    return [
        (item["ResourceType"], item["PhysicalResourceId"])
        for page in pages
        for item in page["StackResourceSummaries"]
        if "PhysicalResourceId" in item and item["ResourceStatus"] not in GONE
    ]
