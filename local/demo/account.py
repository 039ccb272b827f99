"""An AWS account in this process (moto): buckets, the model registry, and clients that reach nothing else."""

import contextlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from moto import mock_aws

from local.demo.processes import REGION, without_account


@dataclass(frozen=True)
class Account:
    """Clients of the account, which exists as long as its context does."""

    s3: Any
    sagemaker: Any

    def read_json(self, uri: str) -> Any:
        """The JSON object at an S3 URI."""
        bucket, key = split(uri)
        return json.loads(self.s3.get_object(Bucket=bucket, Key=key)["Body"].read())

    def upload_folder(self, folder: Path, bucket: str) -> None:
        """Every file below a folder, under its path in the folder."""
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                self.s3.upload_file(str(path), bucket, path.relative_to(folder).as_posix())

    def download(self, uri: str, path: Path) -> Path:
        """The object at an S3 URI, as the file `path`."""
        bucket, key = split(uri)
        path.parent.mkdir(parents=True, exist_ok=True)
        self.s3.download_file(bucket, key, str(path))
        return path

    def download_folder(self, uri: str, folder: Path) -> list[Path]:
        """Every object below an S3 URI, as files directly in `folder`; returns their paths, sorted."""
        bucket, prefix = split(uri)
        pages = self.s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=f"{prefix}/")
        keys = [item["Key"] for page in pages for item in page.get("Contents", [])]
        return sorted(self.download(f"s3://{bucket}/{key}", folder / Path(key).name) for key in keys)


def split(uri: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`."""
    bucket, _, key = uri.removeprefix("s3://").partition("/")
    return bucket, key


@contextlib.contextmanager
def account() -> Iterator[Account]:
    """A fresh, empty account.

    The environment is cleared of every real account first: a client that moto missed would find no credentials.
    """
    saved = dict(os.environ)
    os.environ.clear()
    os.environ.update(without_account(saved))
    try:
        with mock_aws():
            session = boto3.Session(region_name=REGION)
            yield Account(session.client("s3"), session.client("sagemaker"))
    finally:
        os.environ.clear()
        os.environ.update(saved)
