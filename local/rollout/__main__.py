"""`python -m local.rollout`: play, draw, judge, and end cleanly whatever happens."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from local.cloud.place import ROLLBACKS
from local.demo.progress import Progress
from local.demo.workplace import interruptible, workplace
from tools.assembly import ROOT

# Two instances in two fleets, the load and the cloud share two cores, and are to stay far below the alarm's threshold.
RATE = 20.0
FASTEST = 60.0  # the load's threads, and the slow model's, take no more in 1.5 s each
TIMELINE, REPORT = "timeline.jsonl", "report.json"
WRITTEN = (TIMELINE, REPORT, "rollout.svg", "rollout.png")


def main(argv: Sequence[str] | None = None) -> int:
    """Play three deployments and return the exit code: 1 if something failed, or a bound is broken."""
    parser = argparse.ArgumentParser(prog="python -m local.rollout", description=main.__doc__)
    parser.add_argument("--rate", type=float, default=RATE, help=f"requests a second ({RATE:g})")
    parser.add_argument(
        "--rollback",
        choices=ROLLBACKS,
        default="told",
        help="whether CloudFormation is told when SageMaker rolls back, or takes it for a success",
    )
    parser.add_argument("--app", type=Path, help="take these templates (a cdk.out) instead of synthesizing")
    parser.add_argument("--out", type=Path, default=ROOT / "out" / "rollout", help="where the picture goes")
    options = parser.parse_args(argv)
    if not 1 <= options.rate <= FASTEST:
        print(f"--rate = {options.rate:g}: must be from 1 to {FASTEST:g}.", file=sys.stderr)
        return 1
    progress = Progress(sys.stdout)
    return interruptible(lambda: _run(options, progress), progress)


def _run(options: argparse.Namespace, progress: Progress) -> int:
    # It takes seconds to import all that the stages need: an interruption must find the handlers in place.
    try:
        from local.rollout import figure, play, report  # noqa: PLC0415
    except ModuleNotFoundError as error:
        print(
            f"The Python package {error.name} is missing. `make rollout` installs it: run that.",
            file=sys.stderr,
        )
        return 1
    out: Path = options.out
    try:
        with workplace(out, "rollout") as work:
            for name in WRITTEN:  # an interrupted run leaves none that looks like its own
                (out / name).unlink(missing_ok=True)
            progress.total = play.STEPS + 1
            timeline, setting = play.run(options, work, progress)
            with progress.during("Draw and judge"):
                timeline.write(out / TIMELINE)
                each = report.played(timeline, setting)
                figure.write(each, out)
                figures = report.report(timeline, setting, rate=options.rate, rollback=options.rollback)
                (out / REPORT).write_text(json.dumps(figures, indent=1) + "\n")
    except play.FAILURES as error:
        print(f"\nfailed during: {progress.stage}\n{error}", file=sys.stderr)
        return 1
    print(report.summary(figures, [report.ending(one) for one in each]))
    print(f"Picture: {out / 'rollout.png'}")
    broken = report.broken(figures)
    for line in broken:
        print(f"BROKEN: {line}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
