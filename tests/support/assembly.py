"""A synthesized app as plain JSON: what the tests read."""

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Resource = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Template:
    """One stack's template. Do not change what it returns: every test shares it (copy.deepcopy first)."""

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
        """The one resource of this type; it is an error if there are none or several."""
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
    """One stage, synthesized: `cdk.out`."""

    stage: str
    path: Path

    @functools.cached_property
    def manifest(self) -> dict[str, Any]:
        """The cloud assembly's manifest."""
        return self._read("manifest.json")

    @functools.cached_property
    def templates(self) -> dict[str, Template]:
        """Every stack's template, by construct id (the class name in app.py), in order of deployment."""
        return {
            artifact: Template(artifact, self._read(entry["properties"]["templateFile"]))
            for artifact, entry in self.manifest["artifacts"].items()
            if entry["type"] == "aws:cloudformation:stack"
        }

    def template(self, stack: str) -> Template:
        """One stack's template, by construct id."""
        if stack not in self.templates:
            raise AssertionError(f"app.py makes no stack {stack}, only {', '.join(self.templates)}")
        return self.templates[stack]

    @functools.cached_property
    def validation_report(self) -> dict[str, Any]:
        """What cdk-nag and the built-in validator found."""
        return self._read("validation-report.json")

    def _read(self, name: str) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.path / name).read_text())
        return loaded
