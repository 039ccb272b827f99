"""Glue's API: what runs is answered here; the catalog and the definitions of jobs and triggers stay with MiniStack.

MiniStack's dispatcher authorizes every call, ours too; what a request does not name, `GLUE_RESOURCES` tells it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from local.cloud import authorization, events, protocol, seams
from local.cloud.extensions import Cloud
from local.cloud.glue import crawler, dqdl, jobruns, quality
from local.cloud.glue.quality import Quality
from local.cloud.glue.work import Work, role_arn
from local.cloud.glue.workflow import Workflows, known, known_run, known_runs
from local.cloud.protocol import ApiError, Caller

Request = dict[str, Any]
Answer = Mapping[str, Any] | None

# What MiniStack answers with figures that nobody measured.
_UNSUPPORTED = ("GetCrawlerMetrics",)


def install(cloud: Cloud) -> None:
    """Stand before MiniStack's Glue, and be a target of EventBridge."""
    api = Api(Work(cloud))
    operations = api.operations()
    protocol.register("glue", "AWSGlue", operations)
    ours = seams.app.SERVICE_HANDLERS["glue"]

    async def handle(
        method: str, path: str, headers: dict[str, str], body: bytes, query: dict[str, list[str]]
    ) -> Any:
        is_ours = headers.get("x-amz-target", "").rpartition(".")[2] in {*operations, *_UNSUPPORTED}
        if not is_ours:
            answer = await seams.glue.handle_request(method, path, headers, body, query)
            if b"Unknown Glue action" not in answer[2]:
                return answer
        return await ours(method, path, headers, body, query)

    seams.service("glue", "AWSGlue", handle)
    seams.replace(seams.glue, "_create_crawler", _by_name)
    seams.replace(seams.glue, "_create_trigger", _keeping(seams.glue._triggers, "EventBatchingCondition"))
    seams.replace(
        seams.glue, "_create_job", _keeping(seams.glue._jobs, "ExecutionProperty", "JobRunQueuingEnabled")
    )
    events.TARGETS["glue"] = api.workflows.notify
    authorization.GLUE_RESOURCES |= {
        "GetDataQualityRulesetEvaluationRun": lambda request: _judged_by(
            api.quality.runs.get(request.get("RunId", ""), {}).get("RulesetNames", ["*"])[0]
        ),
        "GetDataQualityResult": lambda request: _judged_by(
            api.quality.results.get(request.get("ResultId", ""), {}).get("RulesetName", "*")
        ),
        "ListDataQualityResults": lambda _request: _judged_by("*"),
    }


class Api:
    """The operations, thin: each reads its request, calls the idea that answers it, and shapes the answer."""

    def __init__(self, of: Work) -> None:
        self._work = of
        self.workflows, self.quality = Workflows(of), Quality(of)

    def operations(self) -> dict[str, protocol.Operation]:
        """Operation → method."""
        return {
            "StartCrawler": self._start_crawler,
            "StopCrawler": self._stop_crawler,
            "StartJobRun": self._start_job_run,
            "BatchStopJobRun": self._batch_stop_job_run,
            "StartWorkflowRun": self._start_workflow_run,
            "StopWorkflowRun": self._stop_workflow_run,
            "GetWorkflowRun": self._get_workflow_run,
            "GetWorkflowRuns": self._get_workflow_runs,
            "GetWorkflow": self._get_workflow,
            "ListWorkflows": self._list_workflows,
            "CreateDataQualityRuleset": self._create_ruleset,
            "GetDataQualityRuleset": self._get_ruleset,
            "ListDataQualityRulesets": self._list_rulesets,
            "UpdateDataQualityRuleset": self._update_ruleset,
            "DeleteDataQualityRuleset": self._delete_ruleset,
            "StartDataQualityRulesetEvaluationRun": self._start_evaluation,
            "GetDataQualityRulesetEvaluationRun": self._get_evaluation,
            "GetDataQualityResult": self._get_result,
            "ListDataQualityResults": self._list_results,
        }

    def _start_crawler(self, _caller: Caller, request: Request) -> Answer:
        crawler.start(self._work, request["Name"])
        return None

    def _stop_crawler(self, _caller: Caller, request: Request) -> Answer:
        crawler.stop(request["Name"])
        return None

    def _start_job_run(self, _caller: Caller, request: Request) -> Answer:
        _only(request, "JobName", "Arguments", "Timeout", "WorkerType", "NumberOfWorkers")
        return {"JobRunId": jobruns.start(self._work, request)}

    def _batch_stop_job_run(self, _caller: Caller, request: Request) -> Answer:
        return jobruns.stop(request["JobName"], request["JobRunIds"])

    def _start_workflow_run(self, _caller: Caller, request: Request) -> Answer:
        return {"RunId": self.workflows.start(request["Name"], request.get("RunProperties", {}))}

    def _stop_workflow_run(self, _caller: Caller, request: Request) -> Answer:
        self.workflows.stop(request["Name"], request["RunId"])
        return None

    def _get_workflow_run(self, _caller: Caller, request: Request) -> Answer:
        _only(request, "Name", "RunId")
        return {"Run": known_run(request["Name"], request["RunId"])}

    def _get_workflow_runs(self, _caller: Caller, request: Request) -> Answer:
        _only(request, "Name")
        return {"Runs": known_runs(request["Name"])[::-1]}

    def _get_workflow(self, _caller: Caller, request: Request) -> Answer:
        _only(request, "Name")
        last = known_runs(request["Name"])[-1:]
        return {"Workflow": known(request["Name"]) | ({"LastRun": last[0]} if last else {})}

    def _list_workflows(self, _caller: Caller, request: Request) -> Answer:
        _only(request)
        return {"Workflows": sorted(seams.glue._workflows)}

    def _create_ruleset(self, _caller: Caller, request: Request) -> Answer:
        _only(request, "Name", "Ruleset", "Description", "Tags")
        name, tags = request["Name"], request.pop("Tags", None)
        if name in quality.rulesets:
            raise ApiError("AlreadyExistsException", f"Data quality ruleset {name} already exists")
        _understood(request)
        quality.rulesets[name] = request | {"CreatedOn": time.time(), "LastModifiedOn": time.time()}
        if tags:
            seams.glue._tags[quality.ruleset_arn(name)] = tags
        return {"Name": name}

    def _get_ruleset(self, _caller: Caller, request: Request) -> Answer:
        return quality.ruleset(request["Name"])

    def _list_rulesets(self, _caller: Caller, request: Request) -> Answer:
        _only(request)
        names = ("Name", "Description", "CreatedOn", "LastModifiedOn")
        return {
            "Rulesets": [{name: it[name] for name in names if name in it} for it in quality.rulesets.values()]
        }

    def _update_ruleset(self, _caller: Caller, request: Request) -> Answer:
        known = quality.ruleset(request["Name"])
        _understood(request)
        known.update(request, LastModifiedOn=time.time())
        return quality.ruleset(request["Name"])

    def _delete_ruleset(self, _caller: Caller, request: Request) -> Answer:
        quality.ruleset(request["Name"])
        del quality.rulesets[request["Name"]]
        seams.glue._tags.pop(quality.ruleset_arn(request["Name"]), None)
        return None

    def _start_evaluation(self, caller: Caller, request: Request) -> Answer:
        _only(request, "DataSource", "Role", "RulesetNames", "Timeout", "ClientToken")
        caller.pass_role(role_arn(request["Role"]), "glue.amazonaws.com")
        return {"RunId": self.quality.start(request)}

    def _get_evaluation(self, _caller: Caller, request: Request) -> Answer:
        return self.quality.run(request["RunId"])

    def _get_result(self, _caller: Caller, request: Request) -> Answer:
        return self.quality.result(request["ResultId"])

    def _list_results(self, _caller: Caller, request: Request) -> Answer:
        _only(request)
        names = ("ResultId", "DataSource", "StartedOn")
        return {
            "Results": [
                {name: result[name] for name in names} for result in reversed(self.quality.results.values())
            ]
        }


def _by_name(original: Callable[[Request], Any]) -> Callable[[Request], Any]:
    """A crawler takes its role by its name, too: MiniStack checks an ARN."""

    def create(request: Request) -> Any:
        return original(request | {"Role": role_arn(request["Role"])} if request.get("Role") else request)

    return create


def _keeping(records: Any, *names: str) -> Callable[[Callable[[Request], Any]], Callable[[Request], Any]]:
    """MiniStack's Create drops these members; whoever runs the thing needs them."""

    def wrapper(original: Callable[[Request], Any]) -> Callable[[Request], Any]:
        def create(request: Request) -> Any:
            answer = original(request)
            if record := records.get(request.get("Name")):
                for name in request.keys() & set(names):
                    record.setdefault(name, request[name])
            return answer

        return create

    return wrapper


def _understood(request: Request) -> None:
    """Raise for a ruleset that no run could judge."""
    try:
        dqdl.parse(request.get("Ruleset", "Rules = []"))
    except (dqdl.DqdlError, ValueError) as error:
        raise ApiError("InvalidInputException", str(error)) from None


def _judged_by(ruleset: str) -> str:
    return quality.ruleset_arn(ruleset)


def _only(request: Request, *supported: str) -> None:
    """Raise for a parameter that would be ignored."""
    if beyond := sorted(request.keys() - set(supported)):
        raise ApiError(
            "UnsupportedOperation", f"{', '.join(beyond)}: unsupported in the embedded cloud.", 501
        )
