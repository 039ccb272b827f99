"""A section of one inference option: a knob that the option cannot have is answered with the rule that forbids it.

The rules are those of stacks/serving_rules.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import model_validator

from stacks.section import Section
from stacks.serving_rules import Feature, Option, refusal

# The knobs by which a section asks for a feature; a rolling update is asked for by its strategy.
KNOBS: Mapping[str, Feature] = {
    "rollout": Feature.BLUE_GREEN,
    "data_capture_percent": Feature.DATA_CAPTURE,
    "autoscaling": Feature.AUTOSCALING,
    "maximum_instances": Feature.AUTOSCALING,
    "minimum_instances": Feature.AUTOSCALING,
    "challenger_percent": Feature.VARIANTS,
    "mirrored_percent": Feature.SHADOW_VARIANT,
}


class OptionConfig(Section):
    """A section of one option; whoever asks it for what the option cannot do is told the rule."""

    option: ClassVar[Option]

    @model_validator(mode="before")
    @classmethod
    def _combines(cls, given: Any) -> Any:
        for key, value in given.items() if isinstance(given, Mapping) else ():
            rolling = isinstance(value, Mapping) and value.get("strategy") == "ROLLING"
            feature = Feature.ROLLING if rolling else KNOBS.get(key)
            if feature and (said := refusal(cls.option, feature) or cls._elsewhere(key, feature)):
                raise ValueError(f"{key} = {json.dumps(value)}: {said}")
        return given

    @classmethod
    def _elsewhere(cls, key: str, feature: Feature) -> str | None:
        """None if the key is a knob of the section; else by which knobs the section has that feature."""
        if key in cls.model_fields:
            return None
        knobs = [knob for knob, asked in KNOBS.items() if asked is feature and knob in cls.model_fields]
        return f"{cls.option.value} has {feature.value}, by {', '.join(knobs)}. Use that."
