"""Job runs: the deployed script on real Spark, as the job's role, with its arguments, time-out, retries and logs.

The script is unchanged: what it reads and writes in S3 is copied in and out around it with the role's rights
(`local.spark`), its calls to AWS find this cloud by the environment, and its waits run at the cloud's speed.
Sources: "JobRun" (API Reference), "Job parameters used by AWS Glue jobs", "Glue Job State Change".
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from local import spark
from local.cloud import clock, events, roles, seams
from local.cloud.glue import sparkmetrics, work
from local.cloud.glue.work import Work
from local.cloud.protocol import ApiError
from local.runner import process, storage

Record = dict[str, Any]
Ended = Callable[[str], None]

_starting = threading.Lock()
RUNNING = ("STARTING", "RUNNING", "STOPPING")
_LEVELS = {"SUCCEEDED": "INFO", "STOPPED": "INFO", "TIMEOUT": "WARN", "FAILED": "ERROR"}
_STATES = {"time limit": "TIMEOUT", "stop request": "STOPPED"}
# Found by every Python process of the job before the script: a wait in it is a wait like any other.
_CLOCK = """import time
_sleep = time.sleep
time.sleep = lambda seconds: _sleep(seconds / {factor!r})
"""


def start(of: Work, request: Mapping[str, Any], ended: Ended = lambda _: None) -> str:
    """Begin a run of a job; its id. `ended` is told the state in which the last attempt ended."""
    job = known(request["JobName"])
    if job["Command"].get("Name") != "glueetl" or job.get("JobRunQueuingEnabled"):
        raise ApiError("InvalidInputException", "Only Spark jobs without a queue run in the embedded cloud.")
    with _starting:
        active = [run for run in runs(job["Name"]) if run["JobRunState"] in RUNNING]
        if len(active) >= int(job.get("ExecutionProperty", {}).get("MaxConcurrentRuns", 1)):
            raise ApiError("ConcurrentRunsExceededException", f"Concurrent runs exceeded for {job['Name']}")
        run = _record(job, request, f"jr_{secrets.token_hex(32)}")
    of.start(f"job {job['Name']}", _attempts, of, job, run, ended)
    return str(run["Id"])


def stop(job: str, ids: list[str]) -> dict[str, Any]:
    """Ask runs to end; which of them could be asked."""
    asked, refused = [], []
    for run_id in ids:
        run = next((run for run in runs(job) if run["Id"] == run_id), None)
        about = {"JobName": job, "JobRunId": run_id}
        if run is None:
            problem = {"ErrorCode": "EntityNotFoundException", "ErrorMessage": "Job run is not found"}
            refused.append(about | {"ErrorDetail": problem})
        elif run["JobRunState"] not in RUNNING:
            problem = {
                "ErrorCode": "InvalidInputException",
                "ErrorMessage": f"Job run is in state {run['JobRunState']}",
            }
            refused.append(about | {"ErrorDetail": problem})
        else:
            run["JobRunState"] = "STOPPING"
            asked.append(about)
    return {"SuccessfulSubmissions": asked, "Errors": refused}


def known(name: str) -> Record:
    """MiniStack's record of the job."""
    return work.known(seams.glue._jobs, name, f"Failed to start job run due to missing metadata: {name}")


def runs(job: str) -> list[Record]:
    """A job's runs, the latest first, where MiniStack's GetJobRun and GetJobRuns look for them."""
    found: list[Record] = seams.glue._job_runs.setdefault(job, [])
    return found


def _record(job: Record, request: Mapping[str, Any], run_id: str) -> Record:
    now = time.time()
    configuration = job.get("SecurityConfiguration")
    suffix = f"-{job['Role'].rpartition('/')[2]}-{configuration}" if configuration else ""
    run: Record = {
        "Id": run_id,
        "Attempt": 0,
        "JobName": job["Name"],
        "JobMode": "SCRIPT",
        "JobRunState": "STARTING",
        "Arguments": dict(request.get("Arguments", {})),
        "StartedOn": now,
        "LastModifiedOn": now,
        "PredecessorRuns": [],
        "ExecutionTime": 0,
        "LogGroupName": f"/aws-glue/jobs{suffix}",
        "ExecutionClass": "STANDARD",
    }
    for name in ("Timeout", "WorkerType", "NumberOfWorkers"):
        run[name] = request.get(name, job.get(name))
    for name in ("GlueVersion", "SecurityConfiguration"):
        run[name] = job.get(name)
    if "TriggerName" in request:
        run["TriggerName"] = request["TriggerName"]
    runs(job["Name"]).insert(0, run)
    return run


def _attempts(of: Work, job: Record, run: Record, ended: Ended) -> None:
    """Run, and again as often as `MaxRetries` says; each attempt is a run of its own."""
    first = run["Id"]
    for attempt in range(int(job.get("MaxRetries") or 0) + 1):
        if attempt:
            request: Record = {key: run[key] for key in ("Arguments", "Timeout", "TriggerName") if key in run}
            previous = run["Id"]
            run = _record(job, request, f"{first}_attempt_{attempt}")
            run |= {"Attempt": attempt, "PreviousRunId": previous}
        _attempt(of, job, run)
        if run["JobRunState"] != "FAILED" or of.ending.is_set():
            break
    ended(run["JobRunState"])


def _attempt(of: Work, job: Record, run: Record) -> None:
    state, message = "SUCCEEDED", ""
    try:
        _execute(of, job, run)
    except spark.SparkJobError as error:
        state, message = _STATES.get(error.ended_by, "FAILED"), str(error)
    except Exception as error:  # noqa: BLE001 - whatever happens, a run ends and says why
        state, message = "FAILED", str(error)
    now = time.time()
    run |= {
        "CompletedOn": now,
        "LastModifiedOn": now,
        "ExecutionTime": round(now - run["StartedOn"]),
        "ErrorMessage": message if state == "FAILED" else "",
    }
    run["JobRunState"] = state  # last: whoever waits for it finds the rest
    detail = {
        "jobName": job["Name"],
        "severity": _LEVELS[state],
        "state": state,
        "jobRunId": run["Id"],
        "message": message or f"Job run {state.lower()}",
    }
    events.emit("aws.glue", "Glue Job State Change", detail)


def _execute(of: Work, job: Record, run: Record) -> None:
    session = roles.assume(work.role_arn(job["Role"]), "glue", "GlueJobRunnerSession")
    place = of.cloud.place
    configuration = job.get("SecurityConfiguration")
    output = of.log(session, f"{run['LogGroupName']}/output", run["Id"], configuration)
    arguments = {**job.get("DefaultArguments", {}), **run["Arguments"]}
    packages = [uri for uri in arguments.pop("--extra-py-files", "").split(",") if uri]
    arguments |= {"--JOB_NAME": job["Name"], "--JOB_RUN_ID": run["Id"]}
    if run["JobRunState"] == "STARTING":
        run["JobRunState"] = "RUNNING"
    with of.folder() as folder:
        for name in ("clock", "packages", "spark"):
            (folder / name).mkdir()
        (folder / "clock" / "sitecustomize.py").write_text(_CLOCK.format(factor=1 / clock.scaled(1)))
        s3 = session.client("s3", place)
        try:
            spark.run(
                _download(s3, job["Command"]["ScriptLocation"], folder),
                [text for argument in arguments.items() for text in argument],
                s3=s3,
                work=folder / "work",
                # A module lies in its folder, an archive is one.
                packages=[folder / "clock", folder / "packages"]
                + [_download(s3, uri, folder / "packages") for uri in packages],
                on_line=output.write,
                limits=process.Limits(
                    seconds=60 * int(run["Timeout"] or job["Timeout"]),
                    stop=lambda: run["JobRunState"] == "STOPPING" or of.ending.is_set(),
                    grace_seconds=2,
                ),
                python=of.cloud.python,
                variables=_variables(of, session) | sparkmetrics.settings(folder / "spark"),
            )
            if "--enable-metrics" in arguments:
                sparkmetrics.publish(
                    session.client("cloudwatch", place), folder / "spark", job["Name"], run["Id"]
                )
        except spark.SparkJobError as error:
            failed = of.log(session, f"{run['LogGroupName']}/error", run["Id"], configuration)
            failed.write(str(error))
            failed.close()
            raise
        finally:
            output.close()


def _download(s3: Any, uri: str, folder: Path) -> Path:
    bucket, key = storage.split(uri)
    path = folder / key.rpartition("/")[2]
    s3.download_file(bucket, key, str(path))
    return path


def _variables(of: Work, session: roles.Session) -> dict[str, str]:
    """How the script's own clients find this cloud; its home is its own."""
    return {name: value for name, value in of.environment(session).items() if name != "HOME"}
