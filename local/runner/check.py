"""Would AWS take it, and can this runner run it? Every step's request against the service's shapes, before any runs.

Expressions are replaced by samples: parameters by their values, a property of a step by a value that its Describe
call could answer. So a wrong member, type, enumeration value, pattern or length is found without running anything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, cast

from local.runner.definition import Definition, Step, UnsupportedError
from local.runner.expressions import DefinitionError, ResolutionError, descend, resolve, tokens
from local.runner.shapes import Violation, violations

OPERATIONS: Mapping[str, str] = {
    "Processing": "ProcessingJob",
    "Training": "TrainingJob",
    "Model": "Model",
    "RegisterModel": "ModelPackage",
}
# The pipeline service names what a step creates.
GIVEN_LATER = frozenset({"ProcessingJobName", "TrainingJobName", "ModelName"})
# "ExecutionVariables" (SageMaker SDK); a job's own name is not among those that this runner knows beforehand.
VARIABLES = frozenset(
    {
        "StartDateTime",
        "CurrentDateTime",
        "PipelineName",
        "PipelineArn",
        "PipelineExecutionId",
        "PipelineExecutionArn",
    }
)
IMAGES: Mapping[str, str] = {
    "Processing": "AppSpecification.ImageUri",
    "Training": "AlgorithmSpecification.TrainingImage",
}

# Where a request can ask for more than one local process with files can give: path → the values that it can.
_ABSENT: tuple[object, ...] = ()
_INTERPRETED: Mapping[str, Mapping[str, Collection[object]]] = {
    "Processing": {
        "ProcessingResources.ClusterConfig.InstanceCount": (1,),
        "ProcessingInputs[*].AppManaged": (False,),
        "ProcessingInputs[*].DatasetDefinition": _ABSENT,
        "ProcessingInputs[*].S3Input.S3DataType": ("S3Prefix",),
        "ProcessingInputs[*].S3Input.S3InputMode": ("File",),
        "ProcessingInputs[*].S3Input.S3CompressionType": ("None",),
        "ProcessingOutputConfig.Outputs[*].AppManaged": (False,),
        "ProcessingOutputConfig.Outputs[*].FeatureStoreOutput": _ABSENT,
        "ProcessingOutputConfig.Outputs[*].S3Output.S3UploadMode": ("EndOfJob",),
    },
    "Training": {
        "ResourceConfig.InstanceCount": (1,),
        "ResourceConfig.InstanceGroups": _ABSENT,
        "AlgorithmSpecification.AlgorithmName": _ABSENT,
        "AlgorithmSpecification.TrainingInputMode": ("File", "FastFile"),
        "InputDataConfig[*].InputMode": ("File", "FastFile"),
        "InputDataConfig[*].CompressionType": ("None",),
        "InputDataConfig[*].DataSource.FileSystemDataSource": _ABSENT,
        "InputDataConfig[*].DataSource.DatasetSource": _ABSENT,
        "InputDataConfig[*].DataSource.S3DataSource.S3DataType": ("S3Prefix",),
        "OutputDataConfig.CompressionType": ("GZIP",),
    },
}


def findings(definition: Definition, service: Any, values: Mapping[str, Any]) -> list[str]:
    """What AWS would refuse, one sentence each; `service` is the SageMaker client's `meta.service_model`."""
    samples = _Samples(definition, service, values)
    found: list[str] = []
    for step in definition.steps.values():
        try:
            arguments = resolve(step.arguments, samples)
        except ResolutionError as error:
            found.append(f"step {step.name}: {error}")
            continue
        found += [refusal.at(f"step {step.name}") for refusal in refusals(step, arguments, service)]
        for name, file in step.property_files.items():
            if file.output not in list(
                _found(arguments, ["ProcessingOutputConfig", "Outputs", "*", "OutputName"])
            ):
                found.append(f"step {step.name}: property file {name} lies in no output named {file.output}.")
    return found


def refusals(step: Step, arguments: Mapping[str, Any], service: Any) -> list[Violation]:
    """What is wrong with the request that a step sends, if it sends one."""
    if step.type not in OPERATIONS:
        return []
    shape = service.operation_model(f"Create{OPERATIONS[step.type]}").input_shape
    return list(violations(shape, arguments, given_later=GIVEN_LATER))


def refuse_uninterpreted(
    definition: Definition, service: Any, values: Mapping[str, Any], *, images: Collection[str] | None
) -> None:
    """Raise `UnsupportedError` for a request that needs more than one local process with files.

    And `DefinitionError` for one in an image for which no interpreter stands (`images`; None: whoever runs the job
    knows). Expects a definition without findings.
    """
    samples = _Samples(definition, service, values)
    for step in definition.steps.values():
        arguments = resolve(step.arguments, samples)
        if refused := uninterpreted(step.type, arguments):
            raise UnsupportedError(f"step {step.name}: {refused}")
        if images is not None and (place := IMAGES.get(step.type)):
            image = next(_found(arguments, place.split(".")), None)
            if image not in images:
                known = ", ".join(images) or "none"
                raise DefinitionError(
                    f"step {step.name}: no interpreter stands for image {image}. Mapped: {known}."
                )


def uninterpreted(kind: str, arguments: Mapping[str, Any]) -> str:
    """What a request of a step's kind asks beyond one local process with files, in a sentence; empty if nothing."""
    for path, interpreted in _INTERPRETED.get(kind, {}).items():
        for value in _found(arguments, path.replace("[*]", ".*").split(".")):
            if value not in interpreted:
                can = f"only {', '.join(map(repr, interpreted))} is" if interpreted else "nothing is"
                return f"{path} = {value!r}: {can} interpreted here."
    return _LACKS[kind](arguments) if kind in _LACKS else ""


def _processing_lacks(arguments: Mapping[str, Any]) -> str:
    if "ContainerEntrypoint" not in arguments["AppSpecification"]:
        return "no ContainerEntrypoint, and the image's own is not known here. State it."
    places = [
        *_found(arguments, ["ProcessingInputs", "*", "S3Input"]),
        *_found(arguments, ["ProcessingOutputConfig", "Outputs", "*", "S3Output"]),
    ]
    for place in cast(list[Mapping[str, str]], places):
        if not place.get("LocalPath", "").startswith("/opt/ml/"):
            return f"LocalPath = {place.get('LocalPath')!r}: must start with /opt/ml/."
    return ""


def _training_lacks(arguments: Mapping[str, Any]) -> str:
    if "sagemaker_program" in arguments.get("HyperParameters", {}):
        return ""
    if "ContainerEntrypoint" in arguments.get("AlgorithmSpecification", {}):
        return ""
    return (
        "runs the image's own algorithm, which only the image has. Use script mode (hyperparameter sagemaker_program) "
        "or a ContainerEntrypoint."
    )


_LACKS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "Processing": _processing_lacks,
    "Training": _training_lacks,
}


class _Samples:
    """A `Lookup` that answers with values of the right type, and complains about what can never be there."""

    def __init__(self, definition: Definition, service: Any, values: Mapping[str, Any]) -> None:
        self._definition, self._service, self._values = definition, service, values

    def parameter(self, name: str) -> Any:
        return self._values[name]

    def variable(self, name: str) -> str:
        if name not in VARIABLES:
            raise ResolutionError(
                f"execution variable {name}: not interpreted here. Known: {', '.join(sorted(VARIABLES))}."
            )
        return "sample"

    def property(self, step: str, path: str) -> Any:
        referenced = self._definition.steps[step]
        if referenced.type == "Condition" and path == "Outcome":
            return "True"
        if referenced.type not in OPERATIONS:
            raise ResolutionError(f"step {step} ({referenced.type}) has no property {path}.")
        shape = self._service.operation_model(f"Describe{OPERATIONS[referenced.type]}").output_shape
        return _sample(_shape_at(shape, path, referenced))

    def property_file(self, _step: str, _name: str, path: str) -> float:
        tokens(path)
        return 0.5

    def json(self, _uri: str, path: str) -> float:
        tokens(path)
        return 0.5


def _shape_at(shape: Any, path: str, step: Step) -> Any:
    """The shape at `path` of a Describe answer; a name in brackets must be one that the step's request states."""
    given: Any = step.arguments
    for token in tokens(path):
        if shape.type_name == "structure" and token in shape.members:
            shape = shape.members[token]
            given = given.get(token) if isinstance(given, Mapping) else None
        elif shape.type_name == "list":
            shape = shape.member
            if isinstance(given, list):
                given = descend(given, f"['{token}']" if isinstance(token, str) else f"[{token}]", step.name)
        elif shape.type_name == "map":
            shape = shape.value
        else:
            raise ResolutionError(f"step {step.name} ({step.type}) has no property {path}.")
    return shape


def _sample(shape: Any) -> Any:
    candidates: Mapping[str, list[Any]] = {
        "string": [
            *getattr(shape, "enum", []),
            "s3://bucket/key",
            "arn:aws:sagemaker:us-east-1:000000000000:a/b",
            "a",
        ],
        "boolean": [True],
        "list": [[]],
        "structure": [{}],
        "map": [{}],
        "timestamp": ["2026-01-01T00:00:00Z"],
    }
    fitting = (
        v
        for v in candidates.get(shape.type_name, [1])
        if shape.type_name == "timestamp" or not any(violations(shape, v))
    )
    return next(fitting, "sample")


def _found(value: Any, parts: list[str]) -> Iterator[object]:
    if not parts:
        yield value
    elif parts[0] == "*" and isinstance(value, list):
        for item in value:
            yield from _found(item, parts[1:])
    elif isinstance(value, Mapping) and parts[0] in value:
        yield from _found(value[parts[0]], parts[1:])
