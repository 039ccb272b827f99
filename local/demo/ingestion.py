"""Real flights with faults into the stream and the raw bucket, and through the Glue workflow into the curated table."""

from __future__ import annotations

import gzip
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local.demo.account import Account
from local.demo.progress import Progress
from tools import replay

# The first months come as an upload, the last ones as a stream: the job reads both.
BATCH_SHARE = 0.9
ENDED = ("COMPLETED", "STOPPED", "ERROR")
SECONDS_TO_ARRIVE = 60


class IngestionError(Exception):
    """The data could not be made, delivered or curated; the message has the reason."""


class Ingestion:
    """The stream, the raw bucket and the workflow of one deployment, whose stacks' names begin with `prefix`."""

    def __init__(self, account: Account, prefix: str, work: Path) -> None:
        self._account, self._prefix, self._work = account, prefix, work
        self.raw = account.output(f"{prefix}-foundation", "RawBucketName")
        self._stream = account.resource(f"{prefix}-ingestion", "AWS::Kinesis::Stream")
        self._workflow = account.resource(f"{prefix}-processing", "AWS::Glue::Workflow")

    def replay(self, *, flights: int, seed: int, progress: Progress) -> dict[str, Any]:
        """Upload, stream, and wait until Firehose has delivered; returns the manifest of what was injected."""
        folder = self._work / "raw"
        try:
            sent = replay.events(flights=flights, seed=seed)
            uploaded, streamed = replay.split(sent, BATCH_SHARE)
            replay.write_batch(uploaded, folder)
            replay.write_reference(folder)
            self._account.upload_folder(folder, self.raw)
            for done in replay.send(self._account.client("kinesis"), self._stream, streamed):
                progress.detail(f"{done:,} of {len(streamed):,} streamed")
        except replay.ReplayError as error:
            raise IngestionError(str(error)) from error
        self._wait_for_delivery(len(streamed))
        return replay.manifest(sent, seed=seed)

    def curate(self, progress: Progress) -> dict[str, Any]:
        """Start the workflow and wait for its end; returns the report that the ETL job wrote."""
        glue = self._account.client("glue")
        run = glue.start_workflow_run(Name=self._workflow)["RunId"]
        told = ""
        while True:
            found = glue.get_workflow_run(Name=self._workflow, RunId=run)["Run"]
            doing = self._doing()
            if doing and doing != told:
                told = doing
                progress.detail(doing)
            if found["Status"] in ENDED:
                break
            time.sleep(0.5)
        failures = self._failures()
        if found["Status"] != "COMPLETED" or failures:
            raise IngestionError(f"workflow run {run}: {found['Status']}. {'; '.join(failures)}")
        report: dict[str, Any] = self._account.read_json(self._arguments()["--report"])
        return report

    def _doing(self) -> str:
        glue = self._account.client("glue")
        crawling = [c["Name"] for c in glue.get_crawlers()["Crawlers"] if c["State"] == "RUNNING"]
        running = [
            run["JobName"] for run in self._job_runs() if run["JobRunState"] in ("STARTING", "RUNNING")
        ]
        return ", ".join(sorted({*crawling, *running}))

    def _failures(self) -> list[str]:
        glue = self._account.client("glue")
        crawls = [(c["Name"], c.get("LastCrawl", {})) for c in glue.get_crawlers()["Crawlers"]]
        return [
            *(
                f"{name}: {last.get('ErrorMessage', '')}"
                for name, last in crawls
                if last.get("Status") == "FAILED"
            ),
            *(
                f"{run['JobName']}: {run.get('ErrorMessage', run['JobRunState'])}"
                for run in self._job_runs()
                if run["JobRunState"] in ("FAILED", "ERROR", "TIMEOUT", "STOPPED")
            ),
        ]

    def _job_runs(self) -> list[dict[str, Any]]:
        glue = self._account.client("glue")
        names = [job["Name"] for job in glue.get_jobs()["Jobs"]]
        return [run for name in names for run in glue.get_job_runs(JobName=name)["JobRuns"]]

    def _arguments(self) -> Mapping[str, str]:
        glue = self._account.client("glue")
        jobs = glue.get_jobs()["Jobs"]
        return next(job["DefaultArguments"] for job in jobs if "--report" in job["DefaultArguments"])

    def _wait_for_delivery(self, expected: int) -> None:
        deadline = time.monotonic() + SECONDS_TO_ARRIVE
        counted: dict[str, int] = {}
        s3 = self._account.client("s3")
        while sum(counted.values()) < expected:
            if time.monotonic() > deadline:
                raise IngestionError(
                    f"{sum(counted.values())} of {expected} streamed records arrived in s3://{self.raw}"
                )
            for key in self._account.keys(self.raw, "stream/"):
                if key not in counted:
                    body = s3.get_object(Bucket=self.raw, Key=key)["Body"].read()
                    counted[key] = gzip.decompress(body).count(b"\n")
            time.sleep(0.2)


def figures(manifest: Mapping[str, Any], report: Mapping[str, Any]) -> dict[str, Any]:
    """The report's part on data: the identity, the faults injected and found, and the reasons."""
    found_as = {fault: reason for fault, (_, reason) in replay.FAULTS.items()}
    faults = []
    for fault, injected in manifest["injected"].items():
        reason = found_as[fault]
        found = report["duplicates"] if fault == "duplicate" else report["reasons"].get(reason, 0)
        if fault != "late":
            faults.append(
                {
                    "fault": fault.replace("_", " "),
                    "found_as": reason or "duplicates",
                    "injected": injected,
                    "found": found,
                }
            )
    reasons = [
        *(
            {"reason": f"quarantined: {reason}", "records": count}
            for reason, count in report["reasons"].items()
        ),
        *({"reason": f"excluded: {rule}", "records": count} for rule, count in report["exclusions"].items()),
    ]
    return {
        "seed": manifest["seed"],
        **{name: report[name] for name in ("rows_in", "rows_out", "quarantined", "duplicates", "excluded")},
        "late": manifest["injected"]["late"],
        "faults": faults,
        "reasons": reasons,
        "sources": {
            source: {name: part[name] for name in ("rows_in", "rows_out")}
            for source, part in report["sources"].items()
        },
    }
