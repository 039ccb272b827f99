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
CLI, CLI_VALIDATING = "cdk synth -q, without validation", "cdk synth -q, with validation"


@dataclasses.dataclass(frozen=True)
class Cost:
    """Seconds on the clock and of all processors."""

    wall: float
    cpu: float


Command = tuple[Sequence[str], Mapping[str, str]]
"""Arguments, and what they add to the environment."""


def measure(commands: Mapping[str, Command], environment: Mapping[str, str], repeats: int) -> dict[str, Cost]:
    """Run the commands in turn, several times; of each, the median of the clock and the least of the CPU."""
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for _ in range(repeats):
        for name, (arguments, settings) in commands.items():
            costs[name].append(_run(arguments, {**os.environ, **environment, **settings}))
    return {
        name: Cost(statistics.median(cost.wall for cost in runs), min(cost.cpu for cost in runs))
        for name, runs in costs.items()
    }


def _run(arguments: Sequence[str], environment: Mapping[str, str]) -> Cost:
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(arguments, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(arguments)} failed:\n{done.stderr}")
    wall = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Cost(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


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
        cdk = [
            str(ROOT / "node_modules" / ".bin" / "cdk"),
            "synth",
            "--quiet",
            "--no-notices",
            "--output",
            str(out),
        ]
        cdk += ["-c", f"stage={arguments.stage}"]
        commands: dict[str, Command] = {
            name: ([sys.executable, "-c", code], settings) for name, code, settings in PHASES
        }
        commands[CLI] = ([*cdk, "--no-validation"], {})
        commands[CLI_VALIDATING] = (cdk, {})
        costs = measure(commands, environment, arguments.repeats)
        templates = Assembly(arguments.stage, out).templates.values()
        resources = sum(len(template.resources()) for template in templates)
    report(arguments.stage, resources, costs)


def report(stage: str, resources: int, costs: Mapping[str, Cost]) -> None:
    """One row a phase, then the app and the CLI as wholes."""
    rows: list[Row] = []
    before = Cost(0, 0)
    for name, _, _ in PHASES:
        cost = costs[name]
        rows.append(_row(name, Cost(cost.wall - before.wall, cost.cpu - before.cpu), resources))
        before = cost
    app, validating = costs["synth"], costs["validate"]
    rows += [
        _row("python app.py, without validation", app, resources),
        _row(CLI, costs[CLI], resources),
        _row("python app.py, with validation", validating, resources),
        _row(CLI_VALIDATING, costs[CLI_VALIDATING], resources),
    ]
    ratios = costs[CLI_VALIDATING].wall / validating.wall, costs[CLI].wall / app.wall
    show(
        "synth",
        f"Synth of stage {stage}: {resources} resources, {os.cpu_count()} cores",
        rows,
        note=(
            f"Without validation {app.cpu:.1f} CPU-s (aim: under {CPU_TARGET:g}); cdk synth takes {ratios[0]:.2f} times "
            f"python app.py with validation, {ratios[1]:.2f} without (aim: {RATIO_TARGET:g} at most)."
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
