"""`pipeline/` as one archive for SageMaker and one for Glue: the same bytes on every machine and at every synth.

An archive is content-addressed (CDK names the object after its hash), so a change of one byte is a new object, a new
definition and a new job; no change is no deployment. Nothing that varies may therefore enter: no times, no owners, no
order of a directory listing, no bytecode, and no output of zlib, which differs between its versions and forks.
"""

from __future__ import annotations

import contextlib
import io
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_glue as glue
from aws_cdk import aws_s3_assets as s3_assets
from constructs import Construct

ROOT = Path(__file__).parent.parent

# What SageMaker's containers never import: the builder of the definition, its list of instances and its output,
# and what Glue runs.
NOT_IN_SAGEMAKER = ("definition.py", "definitions", "instances.py", "quality.py", "rules.py", "spark")
# What Glue's Spark job imports; a job's own script is an asset of its own.
IN_GLUE = ("__init__.py", "schema.py", "schemas", "spark")

_STORED_BLOCK = 0xFFFF  # the most that one stored block holds (RFC 1951, 3.2.4)


def sourcedir_archive(scope: Construct) -> cdk.FileAssetLocation:
    """The archive SageMaker's containers unpack (`sagemaker_submit_directory`, and the processing steps' input).

    Not an `Asset`: that keeps the last suffix only, and containers look for `*.tar.gz`, not for `<hash>.gz`.
    """
    with _file("sourcedir.tar.gz", tar_gz(ROOT)) as path:
        staging = cdk.AssetStaging(scope, "Sourcedir", source_path=path)
    stack = cdk.Stack.of(scope)
    return stack.synthesizer.add_file_asset(
        file_name=staging.relative_staged_path(stack),
        packaging=cdk.FileAssetPackaging.FILE,
        source_hash=f"{staging.asset_hash}.tar",
    )


def spark_package(scope: Construct) -> s3_assets.Asset:
    """The archive for Glue's `--extra-py-files`: Python imports `pipeline` from it without unpacking."""
    with _file("pipeline.zip", zipped(ROOT)) as path:
        return s3_assets.Asset(scope, "SparkPackage", path=path)


def script(scope: Construct, id: str, path: str) -> s3_assets.Asset:
    """One file of `pipeline/` as a job's script.

    Not `glue.Code.from_asset`: that derives a construct's id from the absolute path, which differs by machine.
    """
    return s3_assets.Asset(scope, id, path=str(ROOT / "pipeline" / path))


def glue_code(asset: s3_assets.Asset) -> glue.Code:
    """An asset as Glue's L2 jobs take it."""
    return glue.Code.from_bucket(asset.bucket, asset.s3_object_key)


def tar_gz(root: Path) -> bytes:
    """`root`/pipeline as a gzip-compressed tar archive, members sorted and named `pipeline/…`."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in _members(root):
            if name.split("/")[1] not in NOT_IN_SAGEMAKER:
                info = tarfile.TarInfo(name)  # owner 0, time 0
                info.size, info.mode = len(content), 0o644
                archive.addfile(info, io.BytesIO(content))
    return _gzip(buffer.getvalue())


def zipped(root: Path) -> bytes:
    """The part of `root`/pipeline that Glue imports, as a zip archive; a zip's first possible day is 1980-01-01."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in _members(root):
            if name.split("/")[1] in IN_GLUE:
                info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
                info.create_system, info.external_attr = 3, 0o100644 << 16  # written by Unix, plain file
                archive.writestr(info, content)
    return buffer.getvalue()


def _members(root: Path) -> Iterator[tuple[str, bytes]]:
    for path in sorted((root / "pipeline").rglob("*")):
        if path.suffix in {".py", ".json"} and path.is_file():
            yield path.relative_to(root).as_posix(), path.read_bytes()


def _gzip(data: bytes) -> bytes:
    """Gzip without compression (RFC 1952): 100 kB are not worth bytes that depend on the machine's zlib."""
    header = b"\x1f\x8b\x08" + bytes(6) + b"\xff"  # method deflate, no name, no time, unknown system
    blocks = [data[start : start + _STORED_BLOCK] for start in range(0, len(data), _STORED_BLOCK)]
    stored = b"".join(
        struct.pack("<BHH", block is blocks[-1], len(block), len(block) ^ 0xFFFF) + block for block in blocks
    )
    return header + stored + struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)


@contextlib.contextmanager
def _file(name: str, content: bytes) -> Iterator[str]:
    # CDK copies the file into its assembly at once: this one is needed no longer than that, and two synths at the
    # same time never share it.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        yield str(path)
