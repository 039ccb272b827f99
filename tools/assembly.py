"""The synthesized app as plain JSON, for the tests and tools that read templates; needs what synth needs, no more."""

import dataclasses
import functools
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stacks.config import FILE, ConfigError

ROOT = Path(__file__).parents[1]
Resource = dict[str, Any]


class SynthError(Exception):
    """The app did not synthesize; the message is what it printed."""


@dataclasses.dataclass(frozen=True)
class Template:
    """One stack's template. Do not change what it returns: it is shared (`copy.deepcopy` first)."""

    stack: str
    json: dict[str, Any]

    def resources(self, resource_type: str | None = None) -> dict[str, Resource]:
        """Resources by logical id, of one type if given."""
        return {
            name: resource
            for name, resource in self.json.get("Resources", {}).items()
            if resource_type in {None, resource["Type"]}
        }

    def only(self, resource_type: str) -> Resource:
        """The one resource of this type; `AssertionError` if there are none or several."""
        found = self.resources(resource_type)
        if len(found) != 1:
            raise AssertionError(
                f"{self.stack} has {len(found)} of {resource_type}, not one: {sorted(found)}"
            )
        return next(iter(found.values()))

    @property
    def outputs(self) -> Mapping[str, Any]:
        """The template's outputs by logical id."""
        outputs: Mapping[str, Any] = self.json.get("Outputs", {})
        return outputs


@dataclasses.dataclass(frozen=True)
class Assembly:
    """One stage, synthesized: the folder that the CDK CLI calls cdk.out."""

    stage: str
    path: Path

    @functools.cached_property
    def manifest(self) -> dict[str, Any]:
        """The cloud assembly's manifest."""
        return self.read("manifest.json")

    @functools.cached_property
    def templates(self) -> dict[str, Template]:
        """Every stack's template by construct id (in app.py, the class name)."""
        return {
            name: Template(name, self.read(artifact["properties"]["templateFile"]))
            for name, artifact in self.manifest["artifacts"].items()
            if artifact["type"] == "aws:cloudformation:stack"
        }

    def template(self, stack: str) -> Template:
        """One stack's template by construct id; `AssertionError` if app.py makes no such stack."""
        if stack not in self.templates:
            raise AssertionError(f"app.py makes no stack {stack}, only {', '.join(self.templates)}")
        return self.templates[stack]

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of the assembly."""
        loaded: dict[str, Any] = json.loads((self.path / name).read_text())
        return loaded


def context(stage: str) -> dict[str, Any]:
    """The context of `cdk.json` with another stage, as `cdk synth -c stage=...` hands it to the app.

    Raises `ConfigError` with one line if there is none to read.
    """
    try:
        loaded = json.loads((ROOT / FILE).read_text())
    except OSError as error:
        raise ConfigError(f"{FILE}: {error.strerror}. Restore it from version control.") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{FILE}: line {error.lineno}: {error.msg}. Mend the JSON there.") from None
    found = loaded.get("context") if isinstance(loaded, dict) else None
    if not isinstance(found, dict):
        raise ConfigError(f"{FILE}: context: missing, or not an object. Restore it from version control.")
    return {**found, "stage": stage}


def run_app(
    app_context: Mapping[str, Any],
    out: Path,
    *,
    environment: Mapping[str, str],
    app: Path = ROOT / "app.py",
    cwd: Path = ROOT,
) -> subprocess.CompletedProcess[str]:
    """Run `python app.py` as the CDK CLI does: context and output folder arrive in environment variables."""
    return subprocess.run(
        [sys.executable, str(app)],
        cwd=cwd,
        env={**environment, "CDK_OUTDIR": str(out), "CDK_CONTEXT_JSON": json.dumps(app_context)},
        capture_output=True,
        text=True,
        check=False,
    )


def synthesize(stage: str, out: Path, *, options: Sequence[str] = ()) -> Assembly:
    """Synthesize a stage into `out`, without the validators (they judge; this only reads). Raises `SynthError`.

    `options`, if there are any, stand in place of those that the stage lists.
    """
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
    try:
        settings = context(stage)
    except ConfigError as error:
        raise SynthError(str(error)) from None
    if options:
        chosen = {**settings["stages"][stage], "options": [*options]}
        settings["stages"] = {**settings["stages"], stage: chosen}
    completed = run_app(settings, out, environment={**os.environ, "PATH": path, "CDK_VALIDATION": "false"})
    if completed.returncode != 0:
        raise SynthError(f"app.py failed for stage {stage}:\n{completed.stdout}{completed.stderr}".strip())
    return Assembly(stage, out)
