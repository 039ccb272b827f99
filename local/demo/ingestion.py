"""Real flights with faults into the raw bucket, and out of it by the Glue job's own script and arguments."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local import spark
from local.demo.account import Account, split
from local.demo.synthesis import glue_job, publish_assets
from tools import replay
from tools.assembly import Assembly

# The first months come as an upload, the rest as a stream: the job reads both.
BATCH_SHARE = 0.5
SCRIPT = "spark/curate.py"


class IngestionError(Exception):
    """The data could not be made or curated; the message has the reason."""


class Ingestion:
    """The raw bucket and the Spark job of one assembly, in one account."""

    def __init__(self, account: Account, assembly: Assembly, work: Path) -> None:
        self._account, self._work = account, work
        publish_assets(assembly, "Processing", account.s3)
        self._script, self._arguments = glue_job(assembly, SCRIPT)
        self.raw = split(self._arguments["--batch"])[0]
        for bucket in (self.raw, split(self._arguments["--curated"])[0]):
            account.s3.create_bucket(Bucket=bucket)

    def replay(self, *, flights: int, seed: int) -> dict[str, Any]:
        """Fill the raw bucket; returns the manifest of what was injected (`tools.replay.manifest`)."""
        folder = self._work / "raw"
        try:
            sent = replay.events(flights=flights, seed=seed)
        except replay.ReplayError as error:
            raise IngestionError(str(error)) from error
        uploaded, streamed = replay.split(sent, BATCH_SHARE)
        replay.write_batch(uploaded, folder)
        replay.write_reference(folder)
        for _ in replay.write_stream(streamed, folder):
            continue
        self._account.upload_folder(folder, self.raw)
        return replay.manifest(sent, seed=seed)

    def curate(self) -> dict[str, Any]:
        """Run the job as Glue would; returns the report that it wrote."""
        own = {name: value for name, value in self._arguments.items() if name != "--extra-py-files"}
        packages = self._arguments["--extra-py-files"].split(",")
        try:
            spark.run(
                self._account.download(self._script, self._work / "job" / Path(SCRIPT).name),
                [text for argument in own.items() for text in argument],
                s3=self._account.s3,
                work=self._work / "spark",
                packages=[
                    self._account.download(uri, self._work / "job" / Path(uri).name) for uri in packages
                ],
            )
        except spark.SparkJobError as error:
            raise IngestionError(str(error)) from error
        report: dict[str, Any] = self._account.read_json(self._arguments["--report"])
        return report


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
