"""Synth speed: seconds and CPU-seconds of each phase, and `cdk synth` beside `python app.py`.

A phase is the difference between two runs of the app, the second of which goes one phase further; each run is a new
process, and CPU includes the Node process below it. The fewest CPU-seconds of the repeats count, since whatever else
the machine does only adds to them.
"""

import argparse
import dataclasses
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.output import Row, show
from tools.assembly import ROOT, Assembly, context

CPU_TARGET = 5.0
RATIO_TARGET = 1.5
# How far each run goes; the phase is what it adds to the run before it.
IMPORT = "import app"
BUILD = "import aws_cdk, app; aws_cdk.App.synth = lambda self: None; app.main()"
WHOLE = "import app; app.main()"
NO_VALIDATION = {"CDK_VALIDATION": "false"}
PHASES: Sequence[tuple[str, str, Mapping[str, str]]] = (
    ("import", IMPORT, NO_VALIDATION),
    ("build", BUILD, NO_VALIDATION),
    ("synth", WHOLE, NO_VALIDATION),
    ("validate", WHOLE, {}),
)


@dataclasses.dataclass(frozen=True)
class Cost:
    """Seconds on the clock and of all processors."""

    wall: float
    cpu: float


def measure(command: Sequence[str], environment: Mapping[str, str], repeats: int) -> Cost:
    """Run a command several times; median of the clock, least of the CPU."""
    walls, cpus = [], []
    for _ in range(repeats):
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        subprocess.run(
            command, cwd=ROOT, env={**os.environ, **environment}, check=True, stdout=subprocess.DEVNULL
        )
        walls.append(time.perf_counter() - started)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpus.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return Cost(statistics.median(walls), min(cpus))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure both, print a table, write out/bench/synth.json."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.synth", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--stage", default="sandbox")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "cdk.out"
        environment = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "CDK_OUTDIR": str(out),
            "CDK_CONTEXT_JSON": json.dumps(context(arguments.stage)),
            "CDK_DISABLE_CLI_TELEMETRY": "true",
        }
        runs = {
            name: measure([sys.executable, "-c", code], {**environment, **settings}, arguments.repeats)
            for name, code, settings in PHASES
        }
        resources = sum(
            len(template.resources()) for template in Assembly(arguments.stage, out).templates.values()
        )
        through_cli = {
            validation: measure(
                [
                    str(ROOT / "node_modules" / ".bin" / "cdk"),
                    *(
                        "synth",
                        "--quiet",
                        "--no-notices",
                        "--output",
                        str(out),
                        "-c",
                        f"stage={arguments.stage}",
                    ),
                    *([] if validation else ["--no-validation"]),
                ],
                environment,
                arguments.repeats,
            )
            for validation in (False, True)
        }
    report(arguments.stage, resources, runs, through_cli)


def report(stage: str, resources: int, runs: Mapping[str, Cost], through_cli: Mapping[bool, Cost]) -> None:
    """One row a phase, then the app and the CLI as wholes."""
    rows: list[Row] = []
    before = Cost(0, 0)
    for name, run in runs.items():
        rows.append(_row(name, Cost(run.wall - before.wall, run.cpu - before.cpu), resources))
        before = run
    for validation, label in ((False, "without validation"), (True, "with validation")):
        rows.append(_row(f"python app.py, {label}", runs["validate" if validation else "synth"], resources))
        rows.append(_row(f"cdk synth -q, {label}", through_cli[validation], resources))
    ratios = [through_cli[True].wall / runs["validate"].wall, through_cli[False].wall / runs["synth"].wall]
    show(
        "synth",
        f"Synth of stage {stage}: {resources} resources, {os.cpu_count()} cores",
        rows,
        note=(
            f"Without validation {runs['synth'].cpu:.1f} CPU-s (aim: under {CPU_TARGET:g}); cdk synth takes "
            f"{ratios[0]:.2f} times python app.py with validation, {ratios[1]:.2f} without (aim: {RATIO_TARGET:g} at most)."
        ),
    )


def _row(name: str, cost: Cost, resources: int) -> Row:
    return {
        "phase": name,
        "seconds": cost.wall,
        "CPU-s": cost.cpu,
        "CPU-ms/resource": 1000 * cost.cpu / resources,
    }


if __name__ == "__main__":
    main()
