"""The layers of pyproject.toml hold: synth knows no AWS client, containers and functions know no CDK."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.assembly import ROOT


def lint_imports(where: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-cache"],
        cwd=where,
        capture_output=True,
        text=True,
        check=False,
    )


def test_no_import_crosses_a_layer() -> None:
    completed = lint_imports(ROOT)
    assert completed.returncode == 0, completed.stdout


@pytest.mark.deep
@pytest.mark.parametrize(
    ("module", "crossing"),
    [
        ("stacks/config.py", "boto3"),
        ("stacks/base.py", "lambdas"),
        ("pipeline/schema.py", "aws_cdk"),
        ("lambdas/clients.py", "stacks"),
        ("local/runner/__init__.py", "moto"),
    ],
)
def test_an_import_across_a_layer_is_reported(module: str, crossing: str, tmp_path: Path) -> None:
    for package in ("stacks", "pipeline", "lambdas", "local", "tools"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / module).open("a") as file:
        file.write(f"\nimport {crossing}\n")
    completed = lint_imports(tmp_path)
    assert completed.returncode == 1
    assert f"{crossing} (l." in completed.stdout or f"-> {crossing}" in completed.stdout
