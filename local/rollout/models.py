"""The versions that are deployed: two good ones, one that is slow, and one that fails. All load and pass their ping.

The pipeline's own steps train two models on the same flights. The bad versions are the first model with another
program in its archive, so each answer tells which version gave it.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from local.demo import processes
from local.serving.limits import WORKERS_VARIABLE
from tools.assembly import ROOT

FLIGHTS = 5_000
# Few flights hold few leaves: the defaults are made for all of them.
FEW = ["--min_child_weight", "5"]
ROUNDS = (20, 40)
CODE = {"SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"}
_PROGRAM = '''"""The model's own program, but each prediction {what}."""

import time

from inference import input_fn, model_fn, output_fn
from inference import predict_fn as predict


def predict_fn(request, model):
{body}
'''
# A slow model is asked by many at once, as one that waits for a feature store would be: its requests are answered.
WAITING = {WORKERS_VARIABLE: "64"}


class ModelError(Exception):
    """No model could be made; the message has the reason."""


@dataclasses.dataclass(frozen=True)
class Version:
    """What is registered: its archive, and the environment of its container."""

    name: str
    archive: Path
    environment: Mapping[str, str]


def trained(folder: Path) -> tuple[Path, Path]:
    """Two model folders, by the commands of the README; `ModelError` with what the failing one printed."""
    lake = folder / "lake"
    _run("tools.replay", "--to", folder / "raw", "--flights", FLIGHTS, "--batch-share", 1)
    _run("local.spark", "--raw", folder / "raw", "--out", lake, "--schema", "flights")
    parts = [f"--{name}={lake / name}" for name in ("train", "validation", "test", "transform")]
    _run("pipeline.prepare", "--schema", "flights", "--input", lake / "curated", *parts)
    channels = [part for part in parts if not part.startswith("--test")]
    made = []
    for rounds in ROUNDS:
        model = folder / f"model-{rounds}"
        _run("pipeline.train", *channels, "--model_dir", model, "--num_round", rounds, *FEW)
        made.append(model)
    first, second = made
    return first, second


def versions(first: Path, second: Path, folder: Path, seconds: float) -> dict[str, Version]:
    """The four archives from two model folders; a prediction of the slow one takes `seconds` longer."""
    folder.mkdir(parents=True)
    slow = _PROGRAM.format(
        what=f"takes {seconds:g} s longer",
        body=f"    time.sleep({seconds!r})\n    return predict(request, model)",
    )
    failing = _PROGRAM.format(what="fails", body='    raise RuntimeError("a fault in the model")')
    return {
        version.name: version
        for version in (
            _version("first", first, folder),
            _version("good", second, folder),
            _version("slow", first, folder, slow, WAITING),
            _version("failing", first, folder, failing),
        )
    }


def _version(
    name: str,
    model: Path,
    folder: Path,
    program: str | None = None,
    environment: Mapping[str, str] | None = None,
) -> Version:
    archive, file = folder / f"{name}.tar.gz", "inference.py"
    with tarfile.open(archive, "w:gz", compresslevel=1) as packed:
        packed.add(model, ".")
        if program:
            file = f"{name}.py"
            written = folder / file
            written.write_text(program)
            packed.add(written, f"code/{file}")
    return Version(name, archive, {"SAGEMAKER_PROGRAM": file, **CODE, **(environment or {})})


def _run(module: str, *arguments: object) -> None:
    command: Sequence[str] = [sys.executable, "-m", module, *map(str, arguments)]
    done = processes.run(command, cwd=ROOT, environment=processes.without_account(os.environ))
    if done.returncode != 0:
        last = "\n".join(done.stderr.strip().splitlines()[-15:])
        raise ModelError(f"{module} failed:\n{last}")
