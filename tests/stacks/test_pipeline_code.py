"""The archives of `pipeline/`: the same bytes everywhere, another hash for another byte, and nothing missing."""

import ast
import gzip
import io
import os
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import aws_cdk as cdk
import pytest

from stacks import pipeline_code
from stacks.pipeline_code import ROOT, sourcedir_archive, spark_package, tar_gz, zipped


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "pipeline", tmp_path / "pipeline")
    return tmp_path


def _tar_members(content: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
        return {info.name: archive.extractfile(info).read() for info in archive}  # type: ignore[union-attr]


def _zip_members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.mark.parametrize("archive", [tar_gz, zipped])
def test_an_archive_ignores_times_modes_bytecode_and_strangers(
    archive: Callable[[Path], bytes], copy: Path
) -> None:
    before = archive(ROOT)
    for path in copy.rglob("*"):
        path.chmod(0o700)
        os.utime(path, (1_000_000_000, 1_000_000_000))
    (copy / "pipeline" / "__pycache__").mkdir(exist_ok=True)
    (copy / "pipeline" / "__pycache__" / "schema.cpython-311.pyc").write_bytes(b"bytecode")
    (copy / "pipeline" / "schema.py.orig").write_text("an editor's")
    assert archive(copy) == before


@pytest.mark.parametrize("archive", [tar_gz, zipped])
def test_one_byte_of_code_changes_the_archive(archive: Callable[[Path], bytes], copy: Path) -> None:
    with (copy / "pipeline" / "schema.py").open("a") as file:
        file.write("\n")
    assert archive(copy) != archive(ROOT)


def test_the_sourcedir_is_a_gzip_that_others_can_read() -> None:
    content = tar_gz(ROOT)
    assert gzip.decompress(content)[:9] == b"pipeline/"
    assert _tar_members(content)["pipeline/schema.py"] == (ROOT / "pipeline" / "schema.py").read_bytes()


def test_gzip_survives_sizes_around_the_end_of_a_block() -> None:
    for size in (1, 0xFFFE, 0xFFFF, 0x10000, 3 * 0xFFFF):
        data = bytes(size)
        assert gzip.decompress(pipeline_code._gzip(data)) == data


@pytest.mark.parametrize(
    ("members", "run"),
    [
        (_tar_members(tar_gz(ROOT)), ["prepare", "train", "evaluate", "inference"]),
        (_zip_members(zipped(ROOT)), ["spark.curate"]),
    ],
    ids=["sagemaker", "glue"],
)
def test_an_archive_holds_what_its_jobs_import_and_no_other_module(
    members: dict[str, bytes], run: list[str]
) -> None:
    def file(module: str) -> str:
        path = module.replace(".", "/")
        return f"{path}.py" if f"{path}.py" in members else f"{path}/__init__.py"

    needed, waiting = set(), [f"pipeline.{module}" for module in run]
    while waiting:
        module = waiting.pop()
        if file(module) not in needed:
            needed.add(file(module))
            tree = ast.parse(members[file(module)])  # KeyError: imported, and not in the archive
            waiting += [
                module.rpartition(".")[0],
                *(name for node in ast.walk(tree) for name in _imported(node)),
            ]
            waiting = [name for name in waiting if name]
    assert needed == {name for name in members if name.endswith(".py")}


def _imported(node: ast.AST) -> list[str]:
    """The modules of `pipeline` that a statement imports."""
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.module == "pipeline":
        names = [f"pipeline.{alias.name}" for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        names = [node.module or ""]
    else:
        names = []
    return [name for name in names if name.split(".")[0] == "pipeline"]


def test_the_sourcedir_keeps_its_whole_extension_in_s3(tmp_path: Path) -> None:
    location = sourcedir_archive(cdk.Stack(cdk.App(outdir=str(tmp_path)), "Stack"))
    assert location.object_key.endswith(".tar.gz")
    assert len(location.object_key) == 64 + len(".tar.gz")


def test_two_synths_name_the_same_objects_and_leave_no_file_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary, out = tmp_path / "tmp", tmp_path / "out"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))

    def keys() -> tuple[str, str]:
        stack = cdk.Stack(cdk.App(outdir=str(out)), "Stack")
        return sourcedir_archive(stack).object_key, spark_package(stack).s3_object_key

    assert keys() == keys()
    assert list(temporary.iterdir()) == []
    assert len(list(out.glob("asset.*"))) == 2
