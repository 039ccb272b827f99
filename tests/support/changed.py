"""An assembly with one stack's template changed, to see the checks fail; the shared original stays as it is."""

import copy
from collections.abc import Callable
from typing import Any

from tools.assembly import Assembly, Template

Resources = dict[str, dict[str, Any]]


def changed(original: Assembly, stack: str, change: Callable[[Resources], None]) -> Assembly:
    """A copy in memory; files of the assembly other than templates are read from the original's folder."""
    template = copy.deepcopy(original.template(stack).json)
    change(template["Resources"])
    made = Assembly(original.stage, original.path)
    made.__dict__["templates"] = {**original.templates, stack: Template(stack, template)}
    return made


def of_type(resources: Resources, kind: str) -> list[dict[str, Any]]:
    """The properties of every resource of a type; it is an error if there is none to change."""
    found = [resource["Properties"] for resource in resources.values() if resource["Type"] == kind]
    if not found:
        raise AssertionError(f"nothing to change: no {kind}")
    return found
