"""One execution of a pipeline: the interpreter on a thread, acting as the pipeline's role, visible while it runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from local.cloud import clock, events, roles
from local.cloud.extensions import Cloud
from local.cloud.sagemaker import jobs
from local.cloud.sagemaker.store import Record, iso, now
from local.runner import Event, Setting, StepResult
from local.runner.definition import Definition, Step
from local.runner.execution import execute
from local.runner.jobs import Job

ENDED = ("Stopped", "Failed", "Succeeded")
_POLL_SECONDS = 0.2
_KINDS = {"Processing": jobs.PROCESSING, "Training": jobs.TRAINING}
# Which of a step's properties its metadata name ("PipelineExecutionStepMetadata").
_ARNS = {
    "Processing": ("ProcessingJob", "ProcessingJobArn"),
    "Training": ("TrainingJob", "TrainingJobArn"),
    "Model": ("Model", "ModelArn"),
    "RegisterModel": ("RegisterModel", "ModelPackageArn"),
}

Recall = Callable[[Step, str], StepResult | None]


class Execution:
    """State of one execution. `described` is its Describe answer, `steps` those of its listing by name."""

    def __init__(
        self, cloud: Cloud, pipeline: Record, graph: Definition, values: Mapping[str, Any], described: Record
    ) -> None:
        self.pipeline, self.graph, self.values = pipeline, graph, values
        self.described: Record = {
            **described,
            "PipelineArn": pipeline["PipelineArn"],
            "CreationTime": now(),
            "CreatedBy": {},
        }
        self.steps: dict[str, Record] = {}
        self.results: dict[str, StepResult] = {}
        self._cloud = cloud
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._step = ""  # the one that runs

    @property
    def arn(self) -> str:
        """Its ARN."""
        return str(self.described["PipelineExecutionArn"])

    @property
    def status(self) -> str:
        """Executing, Stopping, or how it ended."""
        return str(self.described["PipelineExecutionStatus"])

    def start(self, recall: Recall) -> None:
        """Run every step that has not succeeded yet; `recall` finds what a cached step need not do again."""
        self._stopping = threading.Event()
        self._become("Executing")
        name = self.arn.rpartition("/")[2]
        threading.Thread(target=self._run, args=(recall,), name=name, daemon=True).start()

    def stop(self) -> None:
        """Ask the running step to stop, and start no other."""
        if not self._stopping.is_set():
            self._become("Stopping")
            self._stopping.set()

    def _run(self, recall: Recall) -> None:
        place = self._cloud.place
        try:
            session = roles.assume(self.pipeline["RoleArn"], "sagemaker", "SageMaker")
        except roles.AccessDeniedError as denied:
            self._become("Failed", str(denied))
            return
        s3, sagemaker = session.client("s3", place), session.client("sagemaker", place)
        try:
            setting = Setting(
                s3=s3,
                sagemaker=sagemaker,
                images={},
                work_dir=place.folder / "work",
                stop=self._stopping.is_set,
                pause=lambda seconds: self._stopping.wait(clock.scaled(seconds)),
            )
            ended = execute(
                self.graph,
                setting,
                self.values,
                names=(self.pipeline["PipelineName"], self.arn.rpartition("/")[2]),
                on_event=self._on_event,
                jobs={kind: self._through_the_api(kind) for kind in _KINDS},
                recall=recall,
                results=self.results,
            )
        except Exception as error:  # noqa: BLE001 - whatever happens here, the execution ends, and says why
            self._become("Failed", f"{type(error).__name__}: {error}")
        else:
            self._become(ended.status, ended.failure_reason)
        finally:
            s3.close()
            sagemaker.close()

    def _through_the_api(self, step_kind: str) -> Callable[[Job], Record]:
        """Run a step's job as the service does: it creates the job, watches it, and stops it, with the pipeline's role."""
        kind = _KINDS[step_kind]
        call = kind.resource.replace("-", "_")

        def run(job: Job) -> Record:
            client, name = job.setting.sagemaker, {f"{kind.name}Name": job.name}
            created = getattr(client, f"create_{call}")(**name, **job.arguments)
            self.steps[self._step]["Metadata"] = {kind.name: {"Arn": created[f"{kind.name}Arn"]}}
            self._step_becomes(self._step, "Executing")
            asked = False
            while True:
                found: Record = getattr(client, f"describe_{call}")(**name)
                if found[kind.status] in ("Completed", "Failed", "Stopped"):
                    del found["ResponseMetadata"]
                    return found
                if job.setting.stop() and not asked:
                    getattr(client, f"stop_{call}")(**name)
                    asked = True
                time.sleep(_POLL_SECONDS)

        return run

    def _on_event(self, event: Event) -> None:
        if event.kind == "started":
            self.steps.pop(event.step, None)  # a retried execution: the last attempt counts
            self.steps[event.step] = {"StepName": event.step, "StartTime": now(), "AttemptCount": 1}
            self._step = event.step
            self._step_becomes(event.step, "Starting")
            if event.text not in _KINDS:
                self._step_becomes(event.step, "Executing")
        elif event.result:
            result, step = event.result, self.steps[event.step]
            step |= {
                "EndTime": now(),
                "AttemptCount": result.attempts,
                "Metadata": _metadata(result) or step.get("Metadata", {}),
            }
            if result.failure_reason:
                step["FailureReason"] = result.failure_reason
            if result.cached_from:
                step["CacheHitResult"] = {"SourcePipelineExecutionArn": result.cached_from}
            if result.status == "Succeeded":
                self.results[event.step] = result
            self._step_becomes(event.step, result.status)

    def _step_becomes(self, name: str, status: str) -> None:
        step = self.steps[name]
        before, step["StepStatus"] = step.get("StepStatus"), status
        if status == before:  # another attempt of the same step
            return
        detail = {
            "metadata": {_lower(kind): iso_keys(it) for kind, it in step.get("Metadata", {}).items()},
            "stepName": name,
            "stepType": self.graph.steps[name].type,
            "stepStartTime": step["StartTime"],
            "stepEndTime": step.get("EndTime"),
            "previousStepStatus": before,
            "currentStepStatus": status,
            "failureReason": step.get("FailureReason"),
            "cacheHitResult": iso_keys(step.get("CacheHitResult", {})),
        }
        self._tell("Execution Step Status Change", detail)

    def _become(self, status: str, reason: str = "") -> None:
        with self._lock:
            before = self.described.get("PipelineExecutionStatus")
            if status == "Stopping" and before in ENDED:  # it ended just before it was asked to stop
                return
            self.described |= {"PipelineExecutionStatus": status, "LastModifiedTime": now()}
            self.described.pop("FailureReason", None)
            if reason:
                self.described["FailureReason"] = reason
        detail = {
            "pipelineExecutionDisplayName": self.described.get("PipelineExecutionDisplayName"),
            "pipelineExecutionDescription": self.described.get("PipelineExecutionDescription"),
            "currentPipelineExecutionStatus": status,
            "previousPipelineExecutionStatus": before,
            "executionStartTime": self.described["CreationTime"],
            "executionEndTime": self.described["LastModifiedTime"] if status in ENDED else None,
        }
        self._tell("Execution Status Change", detail)

    def _tell(self, change: str, detail: Record) -> None:
        arns = {"pipelineArn": self.pipeline["PipelineArn"], "pipelineExecutionArn": self.arn}
        said = {name: value for name, value in iso(detail).items() if value not in (None, {})}
        events.emit(
            "aws.sagemaker", f"SageMaker Model Building Pipeline {change}", said | arns, list(arns.values())
        )


def iso_keys(value: Mapping[str, Any]) -> Record:
    """A structure of the API as an event carries it: its members begin with a small letter."""
    return {_lower(name): item for name, item in value.items()}


def _lower(name: str) -> str:
    return name[:1].lower() + name[1:]


def _metadata(result: StepResult) -> Record:
    """A step's metadata, as far as it got."""
    if result.type == "Fail":
        return {"Fail": {"ErrorMessage": result.failure_reason}}
    if result.type == "Condition":
        return {"Condition": {"Outcome": result.properties["Outcome"]}} if result.properties else {}
    kind, member = _ARNS[result.type]
    return {kind: {"Arn": result.properties[member]}} if member in result.properties else {}
