"""Between S3 and a job's folders: what SageMaker copies before a container starts and after it has ended."""

from __future__ import annotations

import gzip
import json
import re
import tarfile
from pathlib import Path
from typing import Any

from pipeline.archive import unpack as unpack_archive

# "Bucket naming rules" (Amazon S3 User Guide).
_URI = re.compile(r"s3://([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])/?(.*)", re.DOTALL)


class StorageError(Exception):
    """An input that is not there, or a name in S3 that no file may have: the message names the URI."""


def split(uri: str) -> tuple[str, str]:
    """Bucket and key of `s3://bucket/key`; `StorageError` for anything else."""
    match = _URI.fullmatch(uri)
    if not match:
        raise StorageError(f"{uri}: not an S3 URI (s3://bucket/key).")
    return match[1], match[2]


def download(s3: Any, uri: str, folder: Path) -> None:
    """Copy every object whose key starts with the URI's (S3Prefix) below `folder`; one object keeps its own name.

    Raises `StorageError`, in SageMaker's words, if there is none.
    """
    bucket, prefix = split(uri)
    found = False
    for page in s3.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for item in page.get("Contents", []):
            key = item["Key"]
            if key.endswith("/"):  # the console's empty folder
                continue
            path = folder / (key.removeprefix(prefix).lstrip("/") or key.rpartition("/")[2])
            if not path.resolve().is_relative_to(folder.resolve()):
                raise StorageError(f"s3://{bucket}/{key}: its name leaves the input's folder.")
            path.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file(bucket, key, str(path))
            found = True
    if not found:
        raise StorageError(f'No S3 objects found under S3 URL "{uri}" given in input data source.')


def upload(s3: Any, source: Path, uri: str, key_id: str | None) -> None:
    """Copy a file to the URI, or every file below a folder to keys below it; encrypted with `key_id` if given."""
    bucket, prefix = split(uri)
    encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": key_id} if key_id else {}
    files = [source] if source.is_file() else sorted(path for path in source.rglob("*") if path.is_file())
    for path in files:
        key = prefix if path == source else f"{prefix.rstrip('/')}/{path.relative_to(source).as_posix()}"
        with path.open("rb") as body:
            s3.put_object(Bucket=bucket, Key=key, Body=body, **encryption)


def read_json(s3: Any, uri: str) -> Any:
    """The JSON object at the URI; `StorageError` if it is missing or is not JSON."""
    bucket, key = split(uri)
    try:
        text = s3.get_object(Bucket=bucket, Key=key)["Body"].read()
    except s3.exceptions.ClientError as error:
        raise StorageError(f"{uri}: cannot be read ({error}).") from None
    try:
        return json.loads(text)
    except ValueError as error:
        raise StorageError(f"{uri}: not JSON ({error}).") from None


def pack(folder: Path, archive: Path) -> None:
    """Write `folder` as a gzip-compressed tar archive whose bytes depend on nothing but the files' names and bytes."""

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.uid = info.gid = info.mtime = 0
        info.uname = info.gname = ""
        return info

    with (
        archive.open("wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", filename="", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        for path in sorted(folder.rglob("*")):
            tar.add(path, path.relative_to(folder).as_posix(), recursive=False, filter=plain)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar archive below `folder`; `StorageError` if it is none, or if a member would leave the folder."""
    try:
        unpack_archive(archive, folder)
    except (tarfile.TarError, OSError) as error:
        raise StorageError(f"{archive.name}: cannot be unpacked ({error}).") from None
