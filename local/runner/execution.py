"""One execution of a definition: steps in the order of their dependencies, one at a time, until one fails.

One at a time because a laptop has few cores and each job uses them all: two at once take as long, and their output
would be mixed. What each step did is kept in the shape of its service's Describe call, so that references resolve as
they do on AWS ("Pass data between steps", SageMaker AI Developer Guide).
"""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from local.runner import check, policies, storage
from local.runner.container import LOG
from local.runner.definition import Definition, Step, parse
from local.runner.expressions import DefinitionError, ResolutionError, descend, holds, resolve
from local.runner.jobs import TIME_LIMIT, Job, Setting, now
from local.runner.processing import processing
from local.runner.shapes import api_message
from local.runner.training import training

# "PipelineExecutionStep", StepStatus; a step that never started is not in that list.
StepStatus = Literal["Succeeded", "Failed", "Stopped"]
FAILED = "Step failure: One or multiple steps failed."  # as DescribePipelineExecution says it
_ENDED: Mapping[str, StepStatus] = {"Completed": "Succeeded", "Failed": "Failed", "Stopped": "Stopped"}


@dataclasses.dataclass(frozen=True)
class Event:
    """Progress: a step started, printed a line, or ended with the status in `text` and the whole in `result`."""

    step: str
    kind: Literal["started", "line", "ended"]
    text: str
    result: StepResult | None = None


@dataclasses.dataclass(frozen=True)
class StepResult:
    """How a step ended. `properties` is what `Get: Steps.<name>.…` reads; `log` is the output of its process.

    `cache_key` says which later steps it may stand in for, `cached_from` names the execution that stood in for it.
    """

    name: str
    type: str
    status: StepStatus
    started: dt.datetime
    ended: dt.datetime
    properties: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    failure_reason: str = ""
    log: Path | None = None
    attempts: int = 1
    cache_key: str = ""
    cached_from: str = ""


@dataclasses.dataclass(frozen=True)
class ExecutionResult:
    """How an execution ended, as DescribePipelineExecution and ListPipelineExecutionSteps say it.

    `steps` are in the order in which they ran; `not_executed` are the branches not taken and what a failure left.
    """

    id: str
    arn: str
    status: StepStatus
    failure_reason: str
    parameters: Mapping[str, Any]
    steps: Mapping[str, StepResult]
    not_executed: tuple[str, ...]


def run(
    definition: Mapping[str, Any],
    *,
    setting: Setting,
    parameters: Mapping[str, object] | None = None,
    pipeline: str = "pipeline",
    execution_id: str | None = None,
    on_event: Callable[[Event], None] = lambda _: None,
) -> ExecutionResult:
    """Interpret a definition.

    `parameters` override defaults; `execution_id` is for a caller who must know it beforehand (12 characters, as the
    service's). Raises `DefinitionError`, before anything runs, for a definition that AWS would refuse,
    `UnsupportedError` for one that asks for what is not interpreted here. A failing step raises nothing: the result
    says which failed, and why.
    Ctrl-C ends the running process group and goes on to the caller.
    """
    graph = parse(definition)
    values = graph.values(parameters or {})
    service = setting.sagemaker.meta.service_model
    if found := check.findings(graph, service, values):
        raise DefinitionError("\n".join(found))
    check.refuse_uninterpreted(graph, service, values, images=setting.images)
    names = (pipeline, execution_id or secrets.token_hex(6))
    return execute(graph, setting, values, names=names, on_event=on_event)


# By the kind of the step: runs its job and returns what the job's Describe call answers.
Jobs = Mapping[str, Callable[[Job], Mapping[str, Any]]]
LOCAL: Jobs = {"Processing": processing, "Training": training}


def execute(
    graph: Definition,
    setting: Setting,
    values: Mapping[str, Any],
    *,
    names: tuple[str, str],
    on_event: Callable[[Event], None],
    jobs: Jobs = LOCAL,
    recall: Callable[[Step, str], StepResult | None] = lambda _step, _key: None,
    results: Mapping[str, StepResult] | None = None,
) -> ExecutionResult:
    """Run a definition whose arguments are checked only when a step sends them, as the service does.

    `names` are the pipeline's and the execution's. `jobs` runs the jobs, `recall(step, key)` may find an earlier result
    of a step that need not run again, and `results` are steps that succeeded before (a retried execution).
    """
    execution = _Execution(graph, setting, values, names, on_event)
    execution.jobs, execution.recall = jobs, recall
    execution.results.update(results or {})
    return execution.run()


class _Execution:
    """The running state; also the `Lookup` of what a definition's names stand for."""

    def __init__(
        self,
        graph: Definition,
        setting: Setting,
        values: Mapping[str, Any],
        names: tuple[str, str],
        on_event: Callable[[Event], None],
    ) -> None:
        self.graph, self.setting, self.values, self.on_event = graph, setting, values, on_event
        self.jobs: Jobs = LOCAL
        self.recall: Callable[[Step, str], StepResult | None] = lambda _step, _key: None
        self.attempt = 1
        pipeline, self.id = names
        arn = setting.arn(f"pipeline/{pipeline.lower()}")
        self.arn = f"{arn}/execution/{self.id}"
        self.variables = {
            "StartDateTime": now().isoformat(),
            "PipelineName": pipeline,
            "PipelineArn": arn,
            "PipelineExecutionId": self.id,
            "PipelineExecutionArn": self.arn,
        }
        self.results: dict[str, StepResult] = {}

    def run(self) -> ExecutionResult:
        status: StepStatus = "Succeeded"
        for name in self.graph.order:
            step = self.graph.steps[name]
            if status == "Succeeded" and self.setting.stop():
                status = "Stopped"
            if status != "Succeeded" or name in self.results or not self._ready(step):
                continue
            self.on_event(Event(name, "started", step.type))
            result = self._step(step)
            self.results[name] = result
            status = result.status
            self.on_event(Event(name, "ended", result.failure_reason or result.status, result))
        return ExecutionResult(
            id=self.id,
            arn=self.arn,
            status=status,
            failure_reason=FAILED if status == "Failed" else "",
            parameters=self.values,
            steps=self.results,
            not_executed=tuple(name for name in self.graph.order if name not in self.results),
        )

    def _ready(self, step: Step) -> bool:
        """Whether everything it waits for has run, and its branch is the one taken."""
        taken = True
        if step.branch and step.branch.condition in self.results:
            outcome = self.results[step.branch.condition].properties["Outcome"]
            taken = outcome == _truth(step.branch.outcome)
        return taken and all(name in self.results for name in step.depends_on)

    def _step(self, step: Step) -> StepResult:
        """Try a step until it succeeds, or fails for a reason that its retry policies do not name, or too often."""
        started = now()
        retries: collections.Counter[policies.RetryPolicy] = collections.Counter()
        while True:
            self.attempt = 1 + retries.total()
            result, fault = self._try(step, started)
            policy = next((policy for policy in step.retries if fault in policy.exceptions), None)
            wait = policy.wait(retries[policy], started) if policy else None
            if policy is None or wait is None or self.setting.stop():
                return result
            retries[policy] += 1
            self.setting.pause(wait)

    def _try(self, step: Step, started: dt.datetime) -> tuple[StepResult, str | None]:
        """One attempt, and which exception type of a retry policy its failure is."""
        properties: Mapping[str, Any] = {}
        fault, key = None, ""
        try:
            if step.cache_seconds and step.type in LOCAL:
                key = policies.cache_key(step.type, resolve(step.arguments, self))
                if known := self.recall(step, key):
                    return dataclasses.replace(known, started=started, ended=now(), attempts=1), None
            properties = self.run_job(step) if step.type in LOCAL else _RUN[step.type](self, step)
            status, reason = _status(properties)
            fault = policies.fault_of_job(reason)
        except (ResolutionError, storage.StorageError, _StepError) as error:
            status, reason = "Failed", str(error)
        except (
            self.setting.s3.exceptions.ClientError,
            self.setting.sagemaker.exceptions.ClientError,
        ) as error:
            status, reason = "Failed", f"ClientError: {error}"
            fault = policies.fault_of_call(error.response)
        path = self._folder(step) / LOG
        log = path if path.exists() else None
        found = (status, started, now(), properties, reason, log, self.attempt, key)
        return StepResult(step.name, step.type, *found), fault

    def run_job(self, step: Step) -> Mapping[str, Any]:
        def on_line(line: str) -> None:
            self.on_event(Event(step.name, "line", line))

        job = Job(self._request(step), self._job_name(step), self._folder(step), self.setting, on_line)
        return self.jobs[step.type](job)

    def condition(self, step: Step) -> Mapping[str, Any]:
        return {"Outcome": _truth(all(holds(item, self) for item in step.arguments["Conditions"]))}

    def model(self, step: Step) -> Mapping[str, Any]:
        name = self._job_name(step)
        self.setting.sagemaker.create_model(ModelName=name, **self._request(step))
        return _answer(self.setting.sagemaker.describe_model(ModelName=name))

    def register_model(self, step: Step) -> Mapping[str, Any]:
        created = self.setting.sagemaker.create_model_package(**self._request(step))
        arn = created["ModelPackageArn"]
        return _answer(self.setting.sagemaker.describe_model_package(ModelPackageName=arn))

    def fail(self, step: Step) -> Mapping[str, Any]:
        raise _StepError(resolve(step.arguments.get("ErrorMessage", ""), self))

    def _request(self, step: Step) -> dict[str, Any]:
        """The step's request with its real values; the service refuses what does not fit its shapes."""
        request: dict[str, Any] = resolve(step.arguments, self)
        if found := check.refusals(step, request, self.setting.sagemaker.meta.service_model):
            raise _StepError(f"ValidationException: {api_message(found)}")
        return request

    def _folder(self, step: Step) -> Path:
        label = step.name if self.attempt == 1 else f"{step.name}-{self.attempt}"
        return self.setting.work_dir / self.id / label

    def _job_name(self, step: Step) -> str:
        """`pipelines-<execution>-<step>-<10 characters>`, as the service names what a step creates; at most 63."""
        suffix = secrets.token_hex(5)
        plain = re.sub(r"[^A-Za-z0-9]+", "-", step.name)[:29].strip("-")
        return f"pipelines-{self.id}-{plain}-{suffix}"

    # What names stand for (`Lookup`).

    def parameter(self, name: str) -> Any:
        return self.values[name]

    def variable(self, name: str) -> str:
        return now().isoformat() if name == "CurrentDateTime" else self.variables[name]

    def property(self, step: str, path: str) -> Any:
        return descend(self.results[step].properties, path, f"step {step}")

    def property_file(self, step: str, name: str, path: str) -> Any:
        file = self.graph.steps[step].property_files[name]
        uri = self.property(step, f"ProcessingOutputConfig.Outputs['{file.output}'].S3Output.S3Uri")
        return self.json(f"{uri.rstrip('/')}/{file.path}", path)

    def json(self, uri: str, path: str) -> Any:
        return descend(storage.read_json(self.setting.s3, uri), path, uri)


class _StepError(Exception):
    """A step that fails before or without any job; the text is its FailureReason."""


_RUN: Mapping[str, Callable[[_Execution, Step], Mapping[str, Any]]] = {
    "Condition": _Execution.condition,
    "Model": _Execution.model,
    "RegisterModel": _Execution.register_model,
    "Fail": _Execution.fail,
}


def _status(properties: Mapping[str, Any]) -> tuple[StepStatus, str]:
    """A step's status from its job's; a job that SageMaker stopped at its time limit has failed its step."""
    status = properties.get("ProcessingJobStatus") or properties.get("TrainingJobStatus") or "Completed"
    reason = str(properties.get("FailureReason", ""))
    return ("Failed" if reason.startswith(TIME_LIMIT) else _ENDED[status]), reason


def _answer(response: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in response.items() if name != "ResponseMetadata"}


def _truth(value: object) -> str:
    """A Condition step's Outcome ("ConditionStepMetadata", API Reference)."""
    return "True" if value else "False"
