"""What each estimator can be told, and within which limits: training, the definition and synth read this one table.

Only the standard library is used, because synth refuses with it what training would refuse an hour later.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

from pipeline.settings import Estimator
from pipeline.step import StepError

# As XGBoost reads numbers; Python would also take "1_000", " 5 " and the digits of other scripts.
WHOLE = re.compile(r"[+-]?[0-9]+")
DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


@dataclasses.dataclass(frozen=True)
class Hyperparameter:
    """A number from `low` to `high`, or, if `choices` are given, one of them; `above` leaves `low` itself out."""

    default: float | str
    low: float = 0
    high: float = float("inf")
    above: bool = False
    choices: tuple[str, ...] = ()

    def parse(self, name: str, text: str) -> float | str:
        """The value of `text`; `StepError` states name, value and range."""
        if self.choices:
            if text not in self.choices:
                raise StepError(f"hyperparameter {name} = {text}: must be one of {', '.join(self.choices)}.")
            return text
        whole = isinstance(self.default, int)
        value = float("nan")
        if (WHOLE if whole else DECIMAL).fullmatch(text):
            value = int(text) if whole else float(text)
        if not (self.low < value if self.above else self.low <= value) or not value <= self.high:
            start = f"above {self.low:g}" if self.above else f"from {self.low:g}"
            kind = "a whole number" if whole else "a number"
            raise StepError(f"hyperparameter {name} = {text}: must be {kind} {start} to {self.high:g}.")
        return value


# XGBoost's names and meanings ("XGBoost Parameters"); the linear model's are scikit-learn's SGDClassifier's, and
# `epochs`, the passes over the training rows.
HYPERPARAMETERS: Mapping[Estimator, Mapping[str, Hyperparameter]] = {
    "xgboost": {
        "num_round": Hyperparameter(200, low=1, high=10_000),
        "max_depth": Hyperparameter(5, low=1, high=20),
        "eta": Hyperparameter(0.1, high=1, above=True),
        "subsample": Hyperparameter(0.8, high=1, above=True),
        "min_child_weight": Hyperparameter(200.0, high=1e6),
        "early_stopping_rounds": Hyperparameter(20, low=1, high=10_000),
        "device": Hyperparameter("cpu", choices=("cpu", "cuda")),
    },
    "linear": {
        "epochs": Hyperparameter(20, low=1, high=1000),
        "eta0": Hyperparameter(0.001, high=1, above=True),
        "alpha": Hyperparameter(0.0001, high=1e6, above=True),
    },
}


def parse(estimator: Estimator, texts: Mapping[str, str]) -> dict[str, float | str]:
    """Defaults overridden by what is given; a name of the other estimator's is refused, not ignored."""
    known = HYPERPARAMETERS[estimator]
    if foreign := sorted(set(texts) - set(known)):
        raise StepError(
            f"hyperparameter {foreign[0]} = {texts[foreign[0]]}: estimator {estimator} has none of that name. "
            f"It has: {', '.join(known)}."
        )
    return {n: p.parse(n, texts[n]) if n in texts else p.default for n, p in known.items()}
