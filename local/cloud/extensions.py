"""What the embedded cloud adds to MiniStack, installed in this order, once, before the first request."""

from __future__ import annotations

import contextlib
import dataclasses
from importlib import import_module
from pathlib import Path

from local.cloud.place import Place

# Modules of local/cloud with an `install(cloud)`.
EXTENSIONS: tuple[str, ...] = (
    "authorization",
    "clock",
    "events",
    "stream",
    "metrics",
    "archive",
    "alarms",
    "resources",
    "repairs",
    "stack_events",
    "stack_roles",
    "stack_deletion",
    "types_glue",
    "types_network",
    "types_watch",
    "sagemaker.api",
    "autoscaling",
    "glue.api",
)


@dataclasses.dataclass(frozen=True)
class Cloud:
    """What an extension is given: where the cloud lives, what runs a job, and whom to tell when it ends.

    `python` is the interpreter of `.venv` (Spark, XGBoost), `closing` ends threads and processes in reverse order.
    """

    place: Place
    python: Path
    closing: contextlib.ExitStack


def install(place: Place, python: Path) -> contextlib.ExitStack:
    """Install every extension; closing the result ends what they started."""
    cloud = Cloud(place, python, contextlib.ExitStack())
    for extension in EXTENSIONS:
        import_module(f"local.cloud.{extension}").install(cloud)
    return cloud.closing
