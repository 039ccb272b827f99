"""SageMaker Pipelines: definitions and their executions, started by a person, a client, a rule or a schedule."""

from __future__ import annotations

import dataclasses
import functools
import json
import secrets
import threading
from typing import Any, Literal

import botocore.session

from local.cloud import events, protocol, roles
from local.cloud.extensions import Cloud
from local.cloud.protocol import ApiError, Caller, Operation
from local.cloud.sagemaker import pipeline_type
from local.cloud.sagemaker.executions import ENDED, Execution, Recall
from local.cloud.sagemaker.store import Record, Store, authorize_create, invalid, now, page
from local.runner import DefinitionError, StepResult, check
from local.runner.definition import Definition, Step, parse

# The API Reference names no default for pipelines, executions and steps: who needs an order asks for it.
_ORDER: Literal["Descending"] = "Descending"
_UNSUPPORTED = (
    *("PipelineDefinitionS3Location", "SelectiveExecutionConfig"),
    *("PipelineVersionId", "MlflowExperimentName"),
)


def operations(cloud: Cloud, store: Store) -> dict[str, Operation]:
    """The operations, the CloudFormation type, and the target of rules and schedules."""
    service = _Pipelines(cloud, store)
    cloud.closing.callback(service.close)
    events.TARGETS["sagemaker"] = service.start_as_target
    pipeline_type.register()
    return {
        "CreatePipeline": service.create,
        "UpdatePipeline": service.update,
        "DeletePipeline": service.delete,
        "DescribePipeline": service.describe,
        "ListPipelines": service.list_pipelines,
        "StartPipelineExecution": service.start,
        "StopPipelineExecution": service.stop,
        "RetryPipelineExecution": service.retry,
        "DescribePipelineExecution": service.describe_execution,
        "DescribePipelineDefinitionForExecution": service.describe_definition,
        "ListPipelineExecutions": service.list_executions,
        "ListPipelineExecutionSteps": service.list_steps,
        "ListPipelineParametersForExecution": service.list_parameters,
    }


class _Pipelines:
    """Pipelines are records of the store; their executions are here, in the order of their starts."""

    def __init__(self, cloud: Cloud, store: Store) -> None:
        self._cloud, self._store = cloud, store
        self._lock = threading.RLock()
        self._executions: dict[str, Execution] = {}
        self._tokens: dict[str, str] = {}

    def close(self) -> None:
        """Start no other step; the jobs end by themselves."""
        for execution in self._executions.values():
            execution.stop()

    def create(self, caller: Caller, request: Record) -> Record:
        _refuse(request)
        resource, tags = _arn(request["PipelineName"]), request.pop("Tags", [])
        authorize_create(caller, "CreatePipeline", resource, tags)
        caller.pass_role(request["RoleArn"], "sagemaker.amazonaws.com")
        _graph(request.get("PipelineDefinition", ""))
        del request["ClientRequestToken"]
        record = {"PipelineDisplayName": request["PipelineName"], **request}
        record |= {
            "PipelineArn": resource,
            "PipelineStatus": "Active",
            "CreatedBy": {},
            "LastModifiedTime": now(),
        }
        exists = f"Pipeline names must be unique within an AWS account and region. Pipeline with name ({request['PipelineName']}) already exists."
        self._store.add(resource, record, tags, exists=exists)
        return {"PipelineArn": resource}

    def update(self, caller: Caller, request: Record) -> Record:
        _refuse(request)
        pipeline = self._pipeline(caller, "UpdatePipeline", request.pop("PipelineName"))
        if "RoleArn" in request:
            caller.pass_role(request["RoleArn"], "sagemaker.amazonaws.com")
        if "PipelineDefinition" in request:
            _graph(request["PipelineDefinition"])
        self._store.change(pipeline["PipelineArn"], request)
        return {"PipelineArn": pipeline["PipelineArn"]}

    def delete(self, caller: Caller, request: Record) -> Record:
        pipeline = self._pipeline(caller, "DeletePipeline", request["PipelineName"])
        with self._lock:
            executions = self._of(pipeline)
            if any(it.status not in ENDED for it in executions):
                raise ApiError(
                    "ConflictException", f"{pipeline['PipelineArn']} has running executions. Stop them first."
                )
            for execution in executions:
                del self._executions[execution.arn]
            self._store.remove(pipeline["PipelineArn"])
        return {"PipelineArn": pipeline["PipelineArn"]}

    def describe(self, caller: Caller, request: Record) -> Record:
        _refuse(request)
        pipeline = self._pipeline(caller, "DescribePipeline", request["PipelineName"])
        last = [it.described["CreationTime"] for it in self._of(pipeline)][-1:]
        return pipeline | ({"LastRunTime": last[0]} if last else {})

    def list_pipelines(self, caller: Caller, request: Record) -> Record:
        caller.authorize("sagemaker:ListPipelines", "*")
        prefix = request.get("PipelineNamePrefix", "")
        found = [it for it in self._store.all("pipeline").values() if it["PipelineName"].startswith(prefix)]
        pipelines, token = page(found, request, order=_ORDER, supported=["PipelineNamePrefix"])
        hidden = ("PipelineDefinition", "PipelineStatus", "CreatedBy")
        summaries = [{name: it[name] for name in it if name not in hidden} for it in pipelines]
        return {"PipelineSummaries": summaries, "NextToken": token}

    def start(self, caller: Caller, request: Record) -> Record:
        _refuse(request)
        pipeline = self._pipeline(caller, "StartPipelineExecution", request.pop("PipelineName"))
        given = {it["Name"]: it["Value"] for it in request.pop("PipelineParameters", [])}
        graph = _graph(pipeline["PipelineDefinition"])
        try:
            values = graph.values(given)
        except DefinitionError as error:
            raise invalid(f"Invalid pipeline parameters: {error}") from None
        with self._lock:
            token = f"{pipeline['PipelineArn']} {request.pop('ClientRequestToken')}"
            if token in self._tokens:  # a client's own retry
                return {"PipelineExecutionArn": self._tokens[token]}
            arn = f"{pipeline['PipelineArn']}/execution/{secrets.token_hex(6)}"
            described = {
                "PipelineExecutionDisplayName": f"execution-{int(now().timestamp() * 1000)}",
                **request,
                "PipelineExecutionArn": arn,
            }
            execution = Execution(self._cloud, pipeline, graph, values, described)
            self._executions[arn] = execution
            self._tokens[token] = arn
        execution.start(self._recall(pipeline))
        return {"PipelineExecutionArn": arn}

    def start_as_target(self, target: Record, _event: Record, session: roles.Session | None) -> None:
        """Start a pipeline for a rule or a schedule, with the role that its target names."""
        if session is None:
            raise invalid(f"{target['Arn']}: a pipeline as a target needs a RoleArn.")
        parameters = (target.get("SageMakerPipelineParameters") or {}).get("PipelineParameterList") or []
        request = {"PipelineName": target["Arn"], "PipelineParameters": parameters}
        self.start(Caller(session.access_key_id), request | {"ClientRequestToken": secrets.token_hex(16)})

    def stop(self, caller: Caller, request: Record) -> Record:
        execution = self._execution(caller, "StopPipelineExecution", request)
        if execution.status in ENDED:
            raise invalid(
                f"Only an execution in status Executing can be stopped: {execution.arn} is {execution.status}."
            )
        execution.stop()
        return {"PipelineExecutionArn": execution.arn}

    def retry(self, caller: Caller, request: Record) -> Record:
        _refuse(request)
        execution = self._execution(caller, "RetryPipelineExecution", request)
        with self._lock:
            if execution.status not in ("Failed", "Stopped"):
                raise invalid(
                    f"Only a failed or stopped execution can be retried: {execution.arn} is {execution.status}."
                )
            execution.start(self._recall(execution.pipeline))
        return {"PipelineExecutionArn": execution.arn}

    def describe_execution(self, caller: Caller, request: Record) -> Record:
        return self._execution(caller, "DescribePipelineExecution", request).described.copy()

    def describe_definition(self, caller: Caller, request: Record) -> Record:
        execution = self._execution(caller, "DescribePipelineDefinitionForExecution", request)
        return {name: execution.pipeline[name] for name in ("PipelineDefinition", "CreationTime")}

    def list_executions(self, caller: Caller, request: Record) -> Record:
        pipeline = self._pipeline(caller, "ListPipelineExecutions", request["PipelineName"])
        found = [it.described.copy() for it in self._of(pipeline)]
        executions, token = page(found, request, order=_ORDER, supported=["PipelineName"])
        summaries = [
            {
                "StartTime": it["CreationTime"],
                "PipelineExecutionFailureReason": it.get("FailureReason", ""),
                **{name: it[name] for name in it if name.startswith("PipelineExecution")},
            }
            for it in executions
        ]
        return {"PipelineExecutionSummaries": summaries, "NextToken": token}

    def list_steps(self, caller: Caller, request: Record) -> Record:
        execution = self._execution(caller, "ListPipelineExecutionSteps", request)
        steps = [{"CreationTime": it["StartTime"], "Step": dict(it)} for it in list(execution.steps.values())]
        found, token = page(steps, request, order=_ORDER, supported=["PipelineExecutionArn"])
        return {"PipelineExecutionSteps": [it["Step"] for it in found], "NextToken": token}

    def list_parameters(self, caller: Caller, request: Record) -> Record:
        execution = self._execution(caller, "ListPipelineParametersForExecution", request)
        return {
            "PipelineParameters": [{"Name": name, "Value": str(it)} for name, it in execution.values.items()]
        }

    def _of(self, pipeline: Record) -> list[Execution]:
        with self._lock:
            return [
                it
                for it in self._executions.values()
                if it.pipeline["PipelineArn"] == pipeline["PipelineArn"]
            ]

    def _recall(self, pipeline: Record) -> Recall:
        """Finds the newest success of a step of this pipeline that did the same and is not too old."""

        def recall(step: Step, key: str) -> StepResult | None:
            for execution in reversed(self._of(pipeline)):
                known = execution.results.get(step.name)
                if known and known.cache_key == key and not known.cached_from:
                    age = (now() - known.ended).total_seconds()
                    if age < (step.cache_seconds or 0):
                        return dataclasses.replace(known, cached_from=execution.arn)
            return None

        return recall

    def _pipeline(self, caller: Caller, action: str, name: str) -> Record:
        caller.authorize(f"sagemaker:{action}", _arn(name))
        found = self._store.find(_arn(name))
        if found is None:
            raise ApiError("ResourceNotFound", f"Pipeline '{_arn(name)}' does not exist.")
        return found

    def _execution(self, caller: Caller, action: str, request: Record) -> Execution:
        arn = request.get("PipelineExecutionArn", "")
        caller.authorize(f"sagemaker:{action}", arn)
        if arn not in self._executions:
            raise ApiError(
                "ResourceNotFound", f"Pipeline execution with PipelineExecutionArn '{arn}' does not exist."
            )
        return self._executions[arn]


def _arn(name: str) -> str:
    """The ARN of a pipeline, given its name or its ARN."""
    return name if name.startswith("arn:") else protocol.arn("sagemaker", f"pipeline/{name.lower()}")


def _refuse(request: Record) -> None:
    for name in _UNSUPPORTED:
        if name in request:
            raise invalid(f"{name} is unsupported in the embedded cloud.")


def _graph(text: str) -> Definition:
    """The definition as a graph; the API's error for one that it would refuse, or that nothing here interprets."""
    try:
        graph = parse(json.loads(text))
        found = []
        if all(parameter.default is not None for parameter in graph.parameters.values()):
            values = graph.values({})
            found = check.findings(graph, _model(), values)
            if not found:
                check.refuse_uninterpreted(graph, _model(), values, images=None)
    except (ValueError, DefinitionError) as error:
        found = [str(error)]
    if found:
        raise invalid(f"Unable to parse pipeline definition. {' '.join(found)}")
    return graph


@functools.cache
def _model() -> Any:
    return botocore.session.get_session().get_service_model("sagemaker")
