"""Set-up on a fresh machine: the project's make targets in a fresh clone, with an empty home and so without a cache.

It needs the package registries. What is measured depends on the network; the peer downloads over the same one.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.output import Row, show
from tools.assembly import ROOT

TARGETS = {
    "what synth needs": (".venv/.synth", "node_modules/.package-lock.json"),
    "the first synth": ("synth",),
    "what the demo needs on top": (".venv/.local", ".venv-cloud/.installed"),
    "what the tests need on top": (".venv/.dev",),
}
# What the environment must keep for the package managers to find their registries.
REGISTRIES = ("PIP_", "UV_", "NPM_CONFIG_", "SSL_", "HTTP", "NO_PROXY", "REQUESTS_CA", "NODE_EXTRA_CA")


def main() -> None:
    """Time each stage of the set-up and, as the peer, plain pip on the requirements of synth."""
    with tempfile.TemporaryDirectory() as folder:
        home, clone, peer = (Path(folder) / name for name in ("home", "clone", "peer"))
        home.mkdir()
        for name in (".npmrc", ".config/pip/pip.conf", ".config/uv/uv.toml", ".pip/pip.conf"):
            if (configured := Path.home() / name).exists():
                (home / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(configured, home / name)
        environment = {"HOME": str(home), "PATH": os.environ["PATH"]} | {
            name: value for name, value in os.environ.items() if name.upper().startswith(REGISTRIES)
        }
        _timed(["git", "clone", "--quiet", str(ROOT), str(clone)], ROOT, environment)
        rows: list[Row] = []
        for stage, targets in TARGETS.items():
            seconds = _timed(["make", f"PYTHON={sys.executable}", *targets], clone, environment)
            rows.append(
                {"stage": stage, "seconds": seconds, "MiB": _mib(clone / ".venv", clone / ".venv-cloud")}
            )
        rows.append(
            {
                "stage": "all",
                "seconds": sum(float(row["seconds"]) for row in rows),
                "MiB": rows[-1]["MiB"],
            }
        )
        _timed([sys.executable, "-m", "venv", str(peer)], ROOT, environment)
        pip = [str(peer / "bin" / "pip"), "install", "--quiet", "--require-hashes", "-r", "requirements.txt"]
        seconds = _timed(pip, clone, environment)
        rows.append({"stage": "peer: pip, requirements of synth", "seconds": seconds, "MiB": _mib(peer)})
    show(
        "setup",
        "Set-up in a fresh clone, empty home",
        rows,
        note="At most 480 s for all. The peer has no CDK CLI.",
    )


def _timed(command: list[str], cwd: Path, environment: dict[str, str]) -> float:
    print(f"  {' '.join(command)}", file=sys.stderr)
    started = time.monotonic()
    subprocess.run(command, cwd=cwd, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - started


def _mib(*environments: Path) -> int:
    files = (path for folder in environments for path in folder.rglob("*") if path.is_file())
    return sum(path.lstat().st_size for path in files) // 2**20


if __name__ == "__main__":
    main()
