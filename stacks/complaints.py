"""How a wrong configuration is told: Pydantic's errors as one line each, with file, key, value and remedy."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from stacks.option_config import EXPERIMENTS
from stacks.rollout_config import STRATEGIES
from stacks.section import Section

# Members of unions: Pydantic puts the one it tried into an error's location, where the file has no such key.
TAGS_OF_UNIONS = {"strategy": STRATEGIES, "kind": EXPERIMENTS}
SCALARS = ("int", "float", "str")
MEMBERS = {*SCALARS, *(tag for tags in TAGS_OF_UNIONS.values() for tag in tags)}
OBJECT = "must be an object. See {file} for its keys."
# What to do about an error that Pydantic describes in its own terms; `file` defines the section in question.
REMEDIES = {
    "dict_type": OBJECT,
    "extra_forbidden": "unknown key. Remove it, or see {file} for the names.",
    "is_instance_of": "must be a list.",
    "missing": "missing. Every stage states every knob; see {file}.",
    "model_attributes_type": OBJECT,
    "model_type": OBJECT,
}


def lines(error: ValidationError, model: type[Section], where: str) -> list[str]:
    """One line a wrong key of the model below `where`: a value that fits no member of a union is one mistake."""
    told: dict[str, str] = {}
    for item in error.errors():
        path = ".".join(str(part) for part in item["loc"] if part not in MEMBERS)
        key = where + (f".{path}" if path else "")
        value = item["input"]
        if tag := _tag(item):
            key, value = f"{key}.{tag}", value.get(tag)
        hidden = isinstance(value, Mapping | Section) or item["type"] == "union_tag_not_found"
        shown = "" if hidden else f" = {json.dumps(value, default=str)}"
        told.setdefault(key, f"{key}{shown}: {_remedy(item, _file(item, model))}")
    return list(told.values())


def _tag(item: ErrorDetails) -> str | None:
    """The key that chooses the member of a union, if that choice is the mistake."""
    chosen = item["ctx"]["discriminator"] if item["type"].startswith("union_tag") else ""
    return str(chosen).strip("'") or None


def _remedy(item: ErrorDetails, file: str) -> str:
    if tag := _tag(item):
        choice = f"must be one of {', '.join(TAGS_OF_UNIONS[tag])}."
        return f"missing. It {choice}" if item["type"] == "union_tag_not_found" else choice
    if item["loc"][-1:] and item["loc"][-1] in SCALARS:
        return "must be a number or a string."
    if item["type"] == "sequence_str":
        return f"must be a list: {json.dumps([item['input']])}."
    message = item["msg"].removeprefix("Value error, ").replace("Input should be", "must be").rstrip(".")
    remedy = REMEDIES.get(item["type"])
    return remedy.format(file=file) if remedy else f"{message}."


def _file(item: ErrorDetails, model: type[Section]) -> str:
    """Where the innermost section on the way to an error is defined: "stacks/serving_config.py".

    The members of a union are tried together: each union's stand in one file.
    """
    inner = [model]
    for part in item["loc"]:
        fields = [section.model_fields[part] for section in inner if part in section.model_fields]
        inner = [found for field in fields for found in _sections(field.annotation)] or inner
    return f"{inner[0].__module__.replace('.', '/')}.py"


def _sections(annotation: Any) -> Iterator[type[Section]]:
    """The sections that an annotation speaks of: itself, the members of a union, the items of a list."""
    if members := get_args(annotation):
        for member in members:
            yield from _sections(member)
    elif isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
