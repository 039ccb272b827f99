"""The one interpreter of SageMaker pipeline definitions: steps run as local processes, AWS calls go to given clients.

`run(definition, setting=Setting(s3=…, sagemaker=…, images={uri: python}, work_dir=…))` returns an `ExecutionResult`.
"""

from local.runner.definition import UnsupportedError
from local.runner.execution import Event, ExecutionResult, StepResult, run
from local.runner.expressions import DefinitionError
from local.runner.jobs import Setting

__all__ = [
    "DefinitionError",
    "Event",
    "ExecutionResult",
    "Setting",
    "StepResult",
    "UnsupportedError",
    "run",
]
