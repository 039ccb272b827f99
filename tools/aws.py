"""What the tools that talk to a real account share: the stage they speak of, and a session that says what is missing."""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3
import botocore.exceptions

from stacks import config as configuration

ROOT = Path(__file__).parent.parent

# The order in which stacks may be deleted: each only uses what comes after it.
STACKS = ("Monitoring", "Release", "Serving", "Training", "Processing", "Ingestion", "Foundation")

# What a half-deleted stack no longer has: deleted, or given up (retained, and perhaps deleted by somebody since).
GONE = {"DELETE_COMPLETE", "DELETE_SKIPPED"}


def load_config(stage: str) -> configuration.Config:
    """The configuration of `stage` as `cdk.json` has it; a wrong one ends the program with its message."""
    context = json.loads((ROOT / "cdk.json").read_text())["context"]
    try:
        return configuration.load({**context, "stage": stage})
    except configuration.ConfigError as error:
        sys.exit(str(error))


def parse_stage(
    parser: argparse.ArgumentParser, argv: list[str] | None
) -> tuple[argparse.Namespace, configuration.Config]:
    """Parse the parser's own flags and `--stage`, and load that stage's configuration."""
    parser.add_argument("--stage", choices=configuration.STAGES, default="sandbox")
    options = parser.parse_args(argv)
    return options, load_config(options.stage)


def session() -> boto3.Session:
    """A session with credentials and a region, or one message that says how to get them."""
    made = boto3.Session()
    try:
        credentials = made.get_credentials()
    except botocore.exceptions.BotoCoreError as error:
        sys.exit(f"AWS credentials cannot be read: {error}")
    if credentials is None:
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
