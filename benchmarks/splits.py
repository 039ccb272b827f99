"""The splits and the model that the benchmarks measure with: real flights through the pipeline's own steps."""

import json
from pathlib import Path

from pipeline import prepare, train
from tests.pipeline.spark.small_curated import write_small_curated
from tools.assembly import ROOT


def prepared(folder: Path, *, rows: int) -> None:
    """Write train, validation, test and transform of `rows` real flights below `folder`."""
    write_small_curated(folder / "curated", rows=rows)
    outputs = [f"--{name}={folder / name}" for name in ("train", "validation", "test", "transform")]
    prepare.main([f"--input={folder / 'curated'}", *outputs])


def hyperparameters() -> dict[str, int | float | str]:
    """The default stage's hyperparameters, as `cdk.json` states them."""
    context = json.loads((ROOT / "cdk.json").read_text())["context"]
    found: dict[str, int | float | str] = context["stages"][context["stage"]]["training"]["hyperparameters"]
    return found


def trained(folder: Path) -> Path:
    """Train on the splits below `folder` by the step itself; returns the model directory."""
    channels = [f"--{name}={folder / name}" for name in ("train", "validation", "transform")]
    parameters = [f"--{name}={value}" for name, value in hyperparameters().items()]
    train.main([*channels, *parameters, f"--model_dir={folder / 'model'}"])
    return folder / "model"
