"""What chooses a committed definition: its settings, its file, its hash. Synth reads this too, so no SDK here."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pipeline.schema import ProblemType

Estimator = Literal["xgboost", "linear"]

FOLDER = Path(__file__).parent / "definitions"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What changes the structure of the pipeline; everything else is a parameter of it."""

    problem_type: ProblemType
    estimator: Estimator
    isolated: bool

    @property
    def file_name(self) -> str:
        """The name of the committed file."""
        return f"{self.problem_type}-{self.estimator}{'-isolated' if self.isolated else ''}.json"


def settings_hash(stated: Mapping[str, object]) -> str:
    """SHA-256 of what a file states as its settings, as compact JSON with sorted keys."""
    return hashlib.sha256(json.dumps(stated, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def parameter_name(hyperparameter: str) -> str:
    """The pipeline parameter of a hyperparameter: `num_round` → `NumRound`."""
    return "".join(part.capitalize() for part in hyperparameter.split("_"))
