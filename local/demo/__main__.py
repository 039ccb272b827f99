"""`python -m local.demo`: parse, run, and end cleanly whatever happens: one message, no process, no half report."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from local.demo import report
from local.demo.progress import Progress
from local.demo.workplace import interruptible, workplace
from tools.assembly import ROOT

FLIGHTS = 336_776  # all that left New York in 2013
SEED = 2013


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m local.demo", description=main.__doc__)
    parser.add_argument("--flights", type=int, default=FLIGHTS, help=f"real flights to replay ({FLIGHTS:,})")
    parser.add_argument("--seed", type=int, default=SEED, help="of the sample and of the injected faults")
    parser.add_argument("--stage", default="sandbox", help="the stage of cdk.json to synthesize")
    parser.add_argument("--app", type=Path, help="take these templates (a cdk.out) instead of synthesizing")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "demo", help="where the report goes")
    options = parser.parse_args(argv)
    if not 1 <= options.flights <= FLIGHTS:
        print(f"--flights = {options.flights}: must be from 1 to {FLIGHTS}.", file=sys.stderr)
        return 1
    if options.seed < 0:
        print(f"--seed = {options.seed}: must be 0 or more.", file=sys.stderr)
        return 1
    progress = Progress(sys.stdout)
    return interruptible(lambda: _run(options, progress), progress)


def _run(options: argparse.Namespace, progress: Progress) -> int:
    # It takes seconds to import all that the stages need: an interruption must find the handlers in place.
    try:
        from local.demo import stages  # noqa: PLC0415
    except ModuleNotFoundError as error:
        print(
            f"The Python package {error.name} is missing. `make demo` installs it: run that.", file=sys.stderr
        )
        return 1
    try:
        with workplace(options.out) as work:
            report.remove(options.out)
            figures, plots = stages.run(options, work, progress)
            report.write(figures, plots=plots, directory=options.out)
    except stages.FAILURES as error:
        print(f"\nfailed during: {progress.stage}\n{error}", file=sys.stderr)
        return 1
    print(report.summary(figures))
    print(f"Report: {options.out / report.HTML}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
