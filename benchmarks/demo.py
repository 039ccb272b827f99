"""The demo as `make demo` runs it, all its processes together: seconds, CPU, and the most memory they held at once.

It has no peer but its bound. Pages that processes share count once for each of them.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence

from benchmarks.etl import measure
from benchmarks.output import show
from local.demo.__main__ import FLIGHTS

LIMIT_MIB = 6 * 1024


def main(argv: Sequence[str] | None = None) -> None:
    """Run the demo, print a row, write out/bench/demo.json; exits with a message above the limit."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.demo", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--flights", type=int, default=FLIGHTS, help=f"real flights to replay ({FLIGHTS:,})")
    flights = str(parser.parse_args(argv).flights)
    with tempfile.TemporaryDirectory() as out:
        command = [sys.executable, "-m", "local.demo", "--flights", flights, "--out", out]
        cost = measure(command, os.environ)
    peak = round(cost.peak)
    show(
        "demo",
        f"The demo, {os.cpu_count()} cores",
        [{"flights": int(flights), "seconds": cost.wall, "CPU-s": cost.cpu, "peak MiB": peak}],
        note=f"At most {LIMIT_MIB:,} MiB, all processes together.",
    )
    if peak > LIMIT_MIB:
        sys.exit(f"The demo held {peak:,} MiB, more than {LIMIT_MIB:,}.")


if __name__ == "__main__":
    main()
