"""Workflow runs: a starting trigger fires, and each conditional trigger once its jobs and crawlers have ended so.

Sources: "Overview of workflows in AWS Glue", "Starting an AWS Glue workflow with an Amazon EventBridge event",
"WorkflowRun" and "Predicate" (API Reference).
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import threading
import time
from collections.abc import Mapping
from typing import Any

from local.cloud import clock, roles, seams
from local.cloud.glue import crawler, jobruns, work
from local.cloud.glue.work import Work
from local.cloud.protocol import ApiError

Record = dict[str, Any]
Node = tuple[str, str]

STARTING = ("ON_DEMAND", "EVENT")
# The API's defaults of EventBatchingCondition: "BatchWindow" is 900 s.
WINDOW_SECONDS = 900
_COUNTED = {
    "SUCCEEDED": "SucceededActions",
    "FAILED": "FailedActions",
    "TIMEOUT": "TimeoutActions",
    "STOPPED": "StoppedActions",
    "CANCELLED": "StoppedActions",
    "ERROR": "ErroredActions",
}


@dataclasses.dataclass
class _Run:
    """A run under way: which actions run (with a job's run id), how others ended, which triggers have fired."""

    record: Record
    running: dict[Node, str] = dataclasses.field(default_factory=dict)
    ended: dict[Node, str] = dataclasses.field(default_factory=dict)
    fired: set[str] = dataclasses.field(default_factory=set)


class Workflows:
    """The runs of every workflow of this cloud."""

    def __init__(self, of: Work) -> None:
        self._work, self._lock = of, threading.RLock()
        self._runs: dict[str, _Run] = {}  # those under way, by id
        self._batches: dict[str, list[str]] = {}  # workflow → ids of events that wait for a full batch

    def start(self, name: str, properties: Mapping[str, str], batch: Mapping[str, int] | None = None) -> str:
        """Begin a run; its id."""
        workflow = known(name)
        with self._lock:
            first = [trigger for trigger in _triggers(name) if trigger["Type"] in STARTING]
            if len(first) != 1:
                raise ApiError("InvalidInputException", f"Workflow {name} has {len(first)} starting triggers")
            limit = int(workflow.get("MaxConcurrentRuns") or 0)
            active = [run for run in self._runs.values() if run.record["Name"] == name]
            if limit and len(active) >= limit:
                raise ApiError(
                    "ConcurrentRunsExceededException", f"Exceeded maximum concurrent runs of workflow {name}"
                )
            record: Record = {
                "Name": name,
                "WorkflowRunId": f"wr_{secrets.token_hex(32)}",
                "WorkflowRunProperties": dict(workflow.get("DefaultRunProperties") or {}) | dict(properties),
                "StartedOn": time.time(),
                "Status": "RUNNING",
                "Statistics": dict.fromkeys(("TotalActions", "RunningActions", *_COUNTED.values()), 0),
            }
            if batch:
                record["StartingEventBatchCondition"] = dict(batch)
            known_runs(name).append(record)
            run = self._runs[record["WorkflowRunId"]] = _Run(record)
            self._fire(run, first[0])
            self._advance(run)
        return str(record["WorkflowRunId"])

    def stop(self, name: str, run_id: str) -> None:
        """Ask a run's jobs and crawlers to end, and start no other."""
        with self._lock:
            known_run(name, run_id)
            run = self._runs.get(run_id)
            if run is None:
                raise ApiError("IllegalWorkflowStateException", f"Workflow run {run_id} is not running")
            run.record["Status"] = "STOPPING"
            for (kind, action), job_run in list(run.running.items()):
                if kind == "job":
                    jobruns.stop(action, [job_run])
                else:
                    with contextlib.suppress(ApiError):  # it has just ended by itself
                        crawler.stop(action)

    def notify(
        self, target: Mapping[str, Any], event: Mapping[str, Any], session: roles.Session | None
    ) -> None:
        """An event of an EventBridge rule: with enough of them, or after the window, the workflow starts."""
        if session is None:
            raise roles.AccessDeniedError("a rule needs a role to notify a workflow")
        session.authorize("glue:NotifyEvent", target["Arn"])
        name = str(target["Arn"]).rpartition("/")[2]
        triggers = [trigger for trigger in _triggers(name) if trigger["Type"] == "EVENT"]
        if not triggers:
            raise ApiError("EntityNotFoundException", f"Workflow {name} has no EVENT trigger")
        condition = triggers[0].get("EventBatchingCondition") or {"BatchSize": 1}
        with self._lock:
            waiting = self._batches.get(name, [])
            if len(waiting) + 1 >= int(condition["BatchSize"]):
                # If a run is under way this raises, and EventBridge brings the event again later.
                self._start_batch(name, [*waiting, str(event["id"])], condition)
            else:
                waiting.append(str(event["id"]))
                if name not in self._batches:
                    self._batches[name] = waiting
                    self._work.start(f"window {name}", self._wait, name, waiting, condition)

    def _wait(self, name: str, waiting: list[str], condition: Mapping[str, Any]) -> None:
        """Start with what has come when the window closes, unless the batch became full before."""
        seconds = clock.scaled(float(condition.get("BatchWindow") or WINDOW_SECONDS))
        while not self._work.ending.wait(seconds):
            with self._lock:
                if self._batches.get(name) is not waiting:
                    return
                try:
                    self._start_batch(name, waiting, condition)
                except ApiError as error:
                    if error.code != "ConcurrentRunsExceededException":
                        raise

    def _start_batch(self, name: str, ids: list[str], condition: Mapping[str, Any]) -> None:
        window = int(condition.get("BatchWindow") or WINDOW_SECONDS)
        batch = {"BatchSize": len(ids), "BatchWindow": window}
        self.start(name, {"aws:eventIds": "[" + ", ".join(ids) + "]"}, batch)
        self._batches.pop(name, None)

    def _fire(self, run: _Run, trigger: Record) -> None:
        run.fired.add(trigger["Name"])
        for action in trigger["Actions"]:
            if "CrawlerName" in action:
                node: Node = ("crawler", action["CrawlerName"])
            else:
                node = ("job", action["JobName"])
            run.record["Statistics"]["TotalActions"] += 1
            run.running[node] = ""
            try:
                run.running[node] = self._begin(run, trigger, node, action)
            except ApiError:
                self._end(run, node, "ERROR")

    def _begin(self, run: _Run, trigger: Record, node: Node, action: Mapping[str, Any]) -> str:
        def ended(state: str) -> None:
            with self._lock:
                self._end(run, node, state)
                self._advance(run)

        kind, name = node
        if kind == "crawler":
            crawler.start(self._work, name, ended)
            return ""
        arguments = {
            **action.get("Arguments", {}),
            "--WORKFLOW_NAME": run.record["Name"],
            "--WORKFLOW_RUN_ID": run.record["WorkflowRunId"],
        }
        request = {"JobName": name, "Arguments": arguments, "TriggerName": trigger["Name"]}
        if "Timeout" in action:
            request["Timeout"] = action["Timeout"]
        return jobruns.start(self._work, request, ended)

    def _end(self, run: _Run, node: Node, state: str) -> None:
        del run.running[node]
        run.ended[node] = state
        run.record["Statistics"][_COUNTED[state]] += 1

    def _advance(self, run: _Run) -> None:
        """Fire what its predicate allows now; without anything left that runs, the run is over."""
        fired = True
        while fired and run.record["Status"] == "RUNNING":
            fired = False
            for trigger in _triggers(run.record["Name"]):
                waits = trigger["Type"] == "CONDITIONAL" and trigger["State"] == "ACTIVATED"
                if waits and trigger["Name"] not in run.fired and _met(trigger["Predicate"], run.ended):
                    self._fire(run, trigger)
                    fired = True
        run.record["Statistics"]["RunningActions"] = len(run.running)
        if not run.running and run.record["Status"] in ("RUNNING", "STOPPING"):
            stopped = run.record["Status"] == "STOPPING"
            run.record |= {"Status": "STOPPED" if stopped else "COMPLETED", "CompletedOn": time.time()}
            del self._runs[run.record["WorkflowRunId"]]


def known_runs(name: str) -> list[Record]:
    """A workflow's runs, the latest last, where MiniStack's GetWorkflow looks for them."""
    known(name)
    found: list[Record] = seams.glue._workflow_runs.setdefault(name, [])
    return found


def known_run(name: str, run_id: str) -> Record:
    """One run of a workflow."""
    for record in known_runs(name):
        if record["WorkflowRunId"] == run_id:
            return record
    raise ApiError("EntityNotFoundException", f"Workflow run {run_id} is not found")


def known(name: str) -> Record:
    """MiniStack's record of the workflow."""
    return work.known(seams.glue._workflows, name, f"Workflow {name} is not found")


def _triggers(workflow: str) -> list[Record]:
    return [trigger for trigger in seams.glue._triggers.values() if trigger.get("WorkflowName") == workflow]


def _met(predicate: Mapping[str, Any], ended: Mapping[Node, str]) -> bool:
    met = [_holds(condition, ended) for condition in predicate["Conditions"]]
    return any(met) if predicate.get("Logical") == "ANY" else all(met)


def _holds(condition: Mapping[str, str], ended: Mapping[Node, str]) -> bool:
    if "CrawlerName" in condition:
        return ended.get(("crawler", condition["CrawlerName"])) == condition["CrawlState"]
    return ended.get(("job", condition["JobName"])) == condition["State"]
