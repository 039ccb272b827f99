"""How a wrong configuration is told: Pydantic's errors as one line each, with file, key, value and remedy."""

from __future__ import annotations

import json
from collections.abc import Mapping

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from stacks.option_config import EXPERIMENTS
from stacks.rollout_config import STRATEGIES
from stacks.section import Section

# Members of unions: Pydantic puts the one it tried into an error's location, where the file has no such key.
TAGS_OF_UNIONS = {"strategy": STRATEGIES, "kind": EXPERIMENTS}
SCALARS = ("int", "float", "str")
MEMBERS = {*SCALARS, *(tag for tags in TAGS_OF_UNIONS.values() for tag in tags)}
OBJECT = "must be an object. See stacks/config.py for its keys."
# What to do about an error that Pydantic describes in its own terms.
REMEDIES = {
    "dict_type": OBJECT,
    "extra_forbidden": "unknown key. Remove it, or see stacks/config.py for the names.",
    "missing": "missing. Every stage states every knob; see stacks/config.py.",
    "model_attributes_type": OBJECT,
    "model_type": OBJECT,
}


def lines(error: ValidationError, where: str) -> list[str]:
    """One line a wrong key below `where`: a value that fits no member of a union is one mistake, not one for each."""
    told: dict[str, str] = {}
    for item in error.errors():
        path = ".".join(str(part) for part in item["loc"] if part not in MEMBERS)
        key = where + (f".{path}" if path else "")
        value = item["input"]
        if tag := _tag(item):
            key, value = f"{key}.{tag}", value.get(tag)
        shown = "" if isinstance(value, Mapping | Section) else f" = {json.dumps(value, default=str)}"
        told.setdefault(key, f"{key}{shown}: {_remedy(item)}")
    return list(told.values())


def _tag(item: ErrorDetails) -> str | None:
    """The key that chooses the member of a union, if that choice is the mistake."""
    chosen = item["ctx"]["discriminator"] if item["type"].startswith("union_tag") else ""
    return str(chosen).strip("'") or None


def _remedy(item: ErrorDetails) -> str:
    if tag := _tag(item):
        return f"must be one of {', '.join(TAGS_OF_UNIONS[tag])}."
    if item["loc"][-1:] and item["loc"][-1] in SCALARS:
        return "must be a number or a string."
    if item["type"] == "string_pattern_mismatch":
        return f"must match {item['ctx']['pattern']}."
    message = item["msg"].removeprefix("Value error, ").replace("Input should be", "must be").rstrip(".")
    return REMEDIES.get(item["type"], f"{message}.")
