"""Script mode: how AWS's framework images run a user's script, in as much of it as a script can see.

Source: "SageMaker Training Toolkit" (ENVIRONMENT_VARIABLES.md) and the XGBoost container, which runs a dotted
`sagemaker_program` as a module. Left out: distributed training, `pip install` of a requirements file, `setup.py`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local.runner import storage
from local.runner.container import OPT_ML

CODE = f"{OPT_ML}/code"


def fetch(s3: Any, hyperparameters: Mapping[str, str], folder: Path) -> None:
    """Bring the code archive from S3 and unpack it; `StorageError` if there is none or it is none."""
    storage.download(s3, str(decoded(hyperparameters)["sagemaker_submit_directory"]), folder)
    for archive in list(folder.iterdir()):
        storage.unpack(archive, folder)
        archive.unlink()


def command(hyperparameters: Mapping[str, str]) -> list[str]:
    """`python3 train.py --flag value …`, or `python3 -m package.module …` for a name without `.py`; flags sorted."""
    values = decoded(hyperparameters)
    program = str(values["sagemaker_program"])
    start = ["python3", program] if program.endswith(".py") else ["python3", "-m", program]
    for name, value in sorted(_own(values).items()):
        start += [f"--{name}" if len(name) > 1 else f"-{name}", str(value)]
    return start


def variables(told: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The SM_* variables; `told` is the content of the files in /opt/ml/input/config by name."""
    hyperparameters, channels = decoded(told["hyperparameters"]), told["inputdataconfig"]
    own, machine = _own(hyperparameters), told["resourceconfig"]
    program = str(hyperparameters["sagemaker_program"])
    values: dict[str, Any] = {
        "SM_MODEL_DIR": f"{OPT_ML}/model",
        "SM_INPUT_DIR": f"{OPT_ML}/input",
        "SM_INPUT_CONFIG_DIR": f"{OPT_ML}/input/config",
        "SM_OUTPUT_DATA_DIR": f"{OPT_ML}/output/data",
        "SM_MODULE_DIR": hyperparameters["sagemaker_submit_directory"],
        "SM_MODULE_NAME": program.removesuffix(".py"),
        "SM_USER_ENTRY_POINT": program,
        "SM_CHANNELS": sorted(channels),
        **{f"SM_CHANNEL_{name.upper()}": f"{OPT_ML}/input/data/{name}" for name in channels},
        "SM_HPS": own,
        **{f"SM_HP_{name.upper()}": value for name, value in own.items()},
        "SM_INPUT_DATA_CONFIG": channels,
        "SM_RESOURCE_CONFIG": machine,
        "SM_CURRENT_HOST": machine["current_host"],
        "SM_HOSTS": machine["hosts"],
        "SM_NUM_CPUS": os.cpu_count(),
        "SM_NUM_GPUS": 0,
    }
    return {name: value if isinstance(value, str) else json.dumps(value) for name, value in values.items()}


def decoded(hyperparameters: Mapping[str, str]) -> dict[str, Any]:
    """Hyperparameters as the toolkit reads them: JSON where it is JSON (the SDK v2 quotes its strings), else text."""
    values: dict[str, Any] = {}
    for name, text in hyperparameters.items():
        try:
            values[name] = json.loads(text)
        except ValueError:
            values[name] = text
    return values


def _own(values: Mapping[str, Any]) -> dict[str, Any]:
    """The script's hyperparameters without the toolkit's."""
    return {name: value for name, value in values.items() if not name.startswith("sagemaker_")}
