"""The committed pipeline definition of a stage: chosen, checked, and given the stage's parameters.

Synth reads a file and imports no SDK; `make definition` builds the files. A file whose settings are not what the
stage asks for would deploy another pipeline than the one configured, so it is refused here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.settings import FOLDER, Settings, parameter_name, settings_hash
from stacks.config import FILE, Config, ConfigError

REBUILD = "Run: make definition"

_PLACEHOLDER = re.compile(r"\$\{([^}]*)\}")


def definition(config: Config, folder: Path = FOLDER) -> str:
    """The stage's definition as JSON text: parameter defaults filled in, `${Placeholders}` still open.

    Raises `ConfigError` if the file is missing or damaged, is not what its hash or the stage says, or has no
    parameter for a configured value.
    """
    training = config.training
    chosen = Settings(training.problem_type, training.estimator, config.foundation.isolation)
    path = folder / chosen.file_name
    content = _read(path)
    settings = content["settings"]
    if settings_hash(settings) != content["settings_hash"]:
        raise ConfigError(f"{path}: settings_hash is not the hash of its settings. {REBUILD}.")
    if differing := {key: value for key, value in asdict(chosen).items() if settings.get(key) != value}:
        raise ConfigError(f"{path}: its settings differ from {json.dumps(differing)} in {FILE}. {REBUILD}.")
    _set_parameters(content["definition"], _values(config), path)
    return json.dumps(content["definition"], separators=(",", ":"))


def placeholders(text: str) -> set[str]:
    """The names that `Fn::Sub` has to be given; `AWS::…` it knows by itself."""
    return {name for name in _PLACEHOLDER.findall(text) if not name.startswith("AWS::")}


def _read(path: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such definition. {REBUILD}.") from None
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}: not JSON ({error.msg}, line {error.lineno}). {REBUILD}.") from None
    if missing := [key for key in ("settings", "settings_hash", "definition") if key not in content]:
        raise ConfigError(f"{path}: has no {', '.join(missing)}. {REBUILD}.")
    return content


def _values(config: Config) -> dict[str, str | int | float]:
    """Pipeline parameters and the values a stage gives them; a hyperparameter num_round is called NumRound."""
    training = config.training
    return {
        "Dataset": config.dataset,
        "ProcessingInstanceType": training.processing_instance_type,
        "TrainingInstanceType": training.training_instance_type,
        "VolumeSizeInGB": training.volume_size_gib,
        "MaxRuntimeInSeconds": training.max_runtime_seconds,
        "MetricThreshold": training.metric_threshold,
        **{parameter_name(name): value for name, value in training.hyperparameters.items()},
    }


def _set_parameters(body: dict[str, Any], values: Mapping[str, str | float], path: Path) -> None:
    parameters = {parameter["Name"]: parameter for parameter in body["Parameters"]}
    if unknown := sorted(values.keys() - parameters.keys()):
        raise ConfigError(f"{path}: has no parameter {', '.join(unknown)}. {REBUILD}.")
    for name, value in values.items():
        # SageMaker takes hyperparameters as strings, whatever they are in cdk.json.
        parameters[name]["DefaultValue"] = str(value) if parameters[name]["Type"] == "String" else value
