"""The demo synthesizes by the project's own CLI, or says in one message why not."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from local.demo import synthesis
from local.demo.synthesis import SynthesisError


def test_a_synth_is_the_project_s_own_cli_without_an_account(monkeypatch, tmp_path: Path) -> None:
    seen: dict[str, Any] = {}

    def run(command: Sequence[str], *, cwd: Path, environment: dict[str, str]) -> Any:
        seen.update(command=command, environment=environment)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(synthesis.processes, "run", run)
    assert synthesis.synthesize("production", tmp_path).path == tmp_path
    assert seen["command"][0].endswith("node_modules/.bin/cdk")
    assert "stage=production" in seen["command"]
    assert "--no-validation" not in seen["command"]
    assert not [name for name in seen["environment"] if name.startswith("AWS_") and "KEY" in name]


def test_a_synth_that_fails_gives_its_own_message(monkeypatch, tmp_path: Path) -> None:
    failed = subprocess.CompletedProcess([], 1, "", "cdk.json: context.stages.sandbox.name: missing.\n")
    monkeypatch.setattr(synthesis.processes, "run", lambda *_, **__: failed)
    with pytest.raises(SynthesisError, match=r"stage sandbox:\ncdk\.json: context\.stages\.sandbox\.name"):
        synthesis.synthesize("sandbox", tmp_path)


def test_a_missing_cli_names_the_command_that_installs_it(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(synthesis, "ROOT", tmp_path)
    with pytest.raises(SynthesisError, match=r"\.bin/cdk is missing\. `make demo` installs it"):
        synthesis.synthesize("sandbox", tmp_path / "out")
