"""Two synths are byte-identical, assets included, whatever the machine around them looks like."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.synth import CONNECTIONS, offline_environment
from tools.assembly import Assembly, context, run_app

# What the validators write, and what the fixture adds: neither is deployed.
NOT_DEPLOYED = {"validation-report.json", CONNECTIONS}
KERNEL = re.compile(rb"/[^\" ]*/jsii-kernel-\w+")
ELSEWHERE = {
    "PYTHONHASHSEED": "4242",
    "TZ": "Pacific/Auckland",
    "LANG": "C",
    "LC_ALL": "C",
    "CDK_VALIDATION": "false",
}


@pytest.mark.parametrize("stage", ["sandbox", pytest.param("production", marks=pytest.mark.deep)])
def test_two_synths_are_byte_identical(
    stage: str, assembly: Callable[[str], Assembly], tmp_path: Path
) -> None:
    once = assembly(stage).path
    again = tmp_path / "elsewhere" / "out"
    again.mkdir(parents=True)
    with offline_environment(tmp_path / "connections") as environment:
        completed = run_app(context(stage), again, environment={**environment, **ELSEWHERE}, cwd=tmp_path)
    assert completed.returncode == 0, completed.stderr
    assert differences(once, again) == []


def differences(one: Path, other: Path) -> list[str]:
    """Files that only one folder has, or that differ by a byte."""
    files = {path.relative_to(root) for root in (one, other) for path in root.rglob("*") if path.is_file()}
    return sorted(
        str(file)
        for file in files
        if file.name not in NOT_DEPLOYED and content(one / file) != content(other / file)
    )


def content(file: Path) -> bytes | None:
    """A file's bytes. In metadata, which is not deployed, CDK's stack traces name a temporary folder of its own."""
    if not file.is_file():
        return None
    written = file.read_bytes()
    return KERNEL.sub(b"<kernel>", written) if file.name.endswith(".metadata.json") else written


def test_a_difference_of_one_byte_is_noticed(tmp_path: Path) -> None:
    for name, content in (("one", "a"), ("other", "b")):
        (tmp_path / name / "asset").mkdir(parents=True)
        (tmp_path / name / "same").write_text("same")
        (tmp_path / name / "asset" / "file").write_text(content)
    (tmp_path / "other" / "extra").write_text("")
    assert differences(tmp_path / "one", tmp_path / "other") == ["asset/file", "extra"]


def test_assets_hold_no_bytecode(each_assembly: Assembly) -> None:
    """Bytecode depends on the machine and would change the asset's hash, and with it the deployment."""
    assert [path for path in each_assembly.path.rglob("*") if path.suffix == ".pyc"] == []
