"""`make bench`: every benchmark in turn, each in its own process so that none warms another up.

`python -m benchmarks.run training serving` runs some. Tables go to standard output, figures to out/bench/*.json.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from tools.assembly import ROOT

BENCHMARKS = ("setup", "synth", "etl", "training", "serving", "stream", "demo")


def main(argv: Sequence[str]) -> None:
    """Run the named benchmarks, or all; exits with 1 and the names of those that failed."""
    if unknown := sorted(set(argv) - set(BENCHMARKS)):
        sys.exit(f"{', '.join(unknown)}: no such benchmark. There are {', '.join(BENCHMARKS)}.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    failed = []
    for name in argv or BENCHMARKS:
        print(f"\n== {name}", flush=True)
        started = time.monotonic()
        try:
            code = run([sys.executable, "-m", f"benchmarks.{name}"])
        except KeyboardInterrupt:
            sys.exit(f"\nstopped during {name}.")
        print(f"({time.monotonic() - started:.0f} s)", flush=True)
        if code != 0:
            failed.append(name)
    if failed:
        sys.exit(f"failed: {', '.join(failed)}. See their output above.")


def run(command: Sequence[str]) -> int:
    """Run a program and return its exit code; an interruption ends it and whatever it started."""
    with subprocess.Popen(command, cwd=ROOT, start_new_session=True) as process:
        try:
            return process.wait()
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise


if __name__ == "__main__":
    main(sys.argv[1:])
