"""`make bench`: every benchmark in turn, each in its own process so that none warms another up.

`python -m benchmarks.run training inference` runs some. Tables go to standard output, figures to out/bench/*.json.
"""

import subprocess
import sys
import time
from collections.abc import Sequence

from tools.assembly import ROOT

BENCHMARKS = ("synth", "etl", "training", "inference")


def main(argv: Sequence[str]) -> None:
    """Run the named benchmarks, or all; exits with 1 and the names of those that failed."""
    if unknown := sorted(set(argv) - set(BENCHMARKS)):
        sys.exit(f"{', '.join(unknown)}: no such benchmark. There are {', '.join(BENCHMARKS)}.")
    failed = []
    for name in argv or BENCHMARKS:
        print(f"\n== {name}", flush=True)
        started = time.monotonic()
        done = subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], cwd=ROOT, check=False)
        print(f"({time.monotonic() - started:.0f} s)", flush=True)
        if done.returncode != 0:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}. See their output above.")


if __name__ == "__main__":
    main(sys.argv[1:])
