"""The account of the demo: an embedded cloud with the templates in it, and clients that reach nothing else."""

from __future__ import annotations

import contextlib
import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from botocore.config import Config

from local.cloud import lifecycle
from local.cloud.place import Place, Rollback
from local.demo import processes
from tools.assembly import ROOT, Assembly

CLI = ROOT / "node_modules" / ".bin" / "cdk"
# So much faster do waits, windows and buffers pass than on AWS; work takes as long as it takes.
FACTOR = 60.0


class DeploymentError(Exception):
    """The CDK CLI failed; the message is what it printed last."""


@dataclass(frozen=True)
class Account:
    """Clients of the cloud as the person at the keyboard, who may do everything; jobs have their own roles."""

    place: Place

    @functools.cache  # noqa: B019 - one account a demo
    def client(self, service: str) -> Any:
        """A boto3 client."""
        patient = Config(read_timeout=120, retries={"mode": "standard"})
        return self.place.client(service, config=patient)

    def deploy(self, assembly: Assembly) -> None:
        """Bootstrap and deploy every stack by the unmodified CLI; `DeploymentError` with what it said."""
        for command in (["bootstrap"], ["deploy", "--all", "--require-approval", "never"]):
            environment = {**self.place.environment(), "CI": "true"}
            done = processes.run(
                [str(CLI), *command, "--app", str(assembly.path), "--no-notices"],
                cwd=ROOT,
                environment=environment,
            )
            if done.returncode != 0:
                last = "\n".join(done.stderr.strip().splitlines()[-15:])
                raise DeploymentError(f"cdk {command[0]} failed:\n{last}")

    def resource(self, stack: str, kind: str) -> str:
        """The physical id of the only resource of a type in a stack, such as a bucket's name."""
        pages = self.client("cloudformation").get_paginator("list_stack_resources").paginate(StackName=stack)
        found = [
            item["PhysicalResourceId"]
            for page in pages
            for item in page["StackResourceSummaries"]
            if item["ResourceType"] == kind
        ]
        (only,) = found
        return str(only)

    def output(self, stack: str, name: str) -> str:
        """An output of a stack."""
        (described,) = self.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        return str(next(o["OutputValue"] for o in described["Outputs"] if o["OutputKey"] == name))

    def read_json(self, uri: str) -> Any:
        """The JSON object at an S3 URI."""
        bucket, key = split(uri)
        return json.loads(self.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read())

    def upload_folder(self, folder: Path, bucket: str) -> None:
        """Every file below a folder, under its path in the folder."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.client("s3").upload_file(str(path), bucket, path.relative_to(folder).as_posix())

    def download(self, uri: str, path: Path) -> Path:
        """The object at an S3 URI, as the file `path`."""
        bucket, key = split(uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.client("s3").download_file(bucket, key, str(path))
        return path

    def download_folder(self, uri: str, folder: Path) -> list[Path]:
        """Every object below an S3 URI, as files directly in `folder`; returns their paths, sorted."""
        bucket, prefix = split(uri)
        keys = self.keys(bucket, f"{prefix}/")
        return sorted(self.download(f"s3://{bucket}/{key}", folder / Path(key).name) for key in keys)

    def keys(self, bucket: str, prefix: str) -> list[str]:
        """The keys below a prefix."""
        pages = self.client("s3").get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", [])]


def split(uri: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


@contextlib.contextmanager
def account(folder: Path, rollback: Rollback = "told") -> Iterator[Account]:
    """A fresh, empty account, which exists as long as the block; `rollback` as `Place` has it."""
    with lifecycle.running(Place.on_free_port(folder, FACTOR, rollback)) as place:
        yield Account(place)
