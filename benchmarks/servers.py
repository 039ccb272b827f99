"""The servers that the serving benchmark compares, as processes: ours, a bare one, and MLServer with XGBoost's runtime."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import load
from pipeline import predictors
from tools.assembly import ROOT

OURS, BARE, MLSERVER, MLSERVER_WORKER = "ours", "bare", "MLServer", "MLServer, 1 worker"
START_SECONDS = 180.0
MLSERVER_PROGRAM = ROOT / ".venv-bench" / "bin" / "mlserver"
# One thread for a prediction, as AWS's image sets it.
ENVIRONMENT = {"OMP_NUM_THREADS": "1"}
ENDPOINT = {"SAGEMAKER_PROGRAM": "inference.py", "SAGEMAKER_SUBMIT_DIRECTORY": "/opt/ml/model/code"}


@dataclass(frozen=True)
class Running:
    """A server that has answered its first prediction, `cold` seconds after its process was started."""

    pid: int
    port: int
    cold: float

    def mib(self) -> float:
        """Its memory and that of all processes below it; a page shared by n of them counts one nth for each (PSS)."""
        return sum(_pss(pid) for pid in _tree(self.pid))


@contextlib.contextmanager
def start(name: str, model: Path, first: bytes) -> Iterator[Running]:
    """Serve `model` by the server of this name until the block ends; `first` is the request that it must answer."""
    with tempfile.TemporaryDirectory() as folder, (Path(folder) / "log").open("w+b") as log:
        port = _free_ports(1)[0]
        command = _COMMANDS[name](model, port, Path(folder))
        started = time.perf_counter()
        with subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **ENVIRONMENT, **ENDPOINT}, stdout=log, stderr=log
        ) as process:
            try:
                while not _answers(port, first):
                    if process.poll() is not None or time.perf_counter() - started > START_SECONDS:
                        log.seek(0)
                        sys.exit(f"{name} did not start:\n{log.read().decode(errors='replace')}")
                    time.sleep(0.01)
                yield Running(process.pid, port, time.perf_counter() - started)
            finally:
                process.terminate()
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()


def _ours(model: Path, port: int, _: Path) -> Sequence[str]:
    return [sys.executable, str(ROOT / "local" / "server.py"), "--model", str(model), "--port", str(port)]


def _bare(model: Path, port: int, _: Path) -> Sequence[str]:
    return [
        sys.executable, "-m", "benchmarks.bare_server", str(model / predictors.XGBOOST_FILE), str(port)
    ]  # fmt: skip


def _mlserver(workers: int) -> Callable[[Path, int, Path], Sequence[str]]:
    def command(model: Path, port: int, folder: Path) -> Sequence[str]:
        grpc, metrics = _free_ports(2)
        settings = {
            "host": "127.0.0.1",
            "http_port": port,
            "grpc_port": grpc,
            "metrics_port": metrics,
            "parallel_workers": workers,
            "debug": False,
        }
        served = {
            "name": "model",
            "implementation": "mlserver_xgboost.XGBoostModel",
            "parameters": {"uri": "./model.json"},
        }
        (folder / "settings.json").write_text(json.dumps(settings))
        (folder / "model-settings.json").write_text(json.dumps(served))
        shutil.copy(model / predictors.XGBOOST_FILE, folder / "model.json")
        return [str(MLSERVER_PROGRAM), "start", str(folder)]

    return command


_COMMANDS: Mapping[str, Callable[[Path, int, Path], Sequence[str]]] = {
    OURS: _ours,
    BARE: _bare,
    MLSERVER: _mlserver(0),
    MLSERVER_WORKER: _mlserver(1),
}


def _answers(port: int, first: bytes) -> bool:
    try:
        return load.once(port, first)[0] == 200
    except (OSError, ValueError):  # it does not listen yet, or ends the connection without an answer
        return False


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for probe in sockets:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in sockets]


def _tree(root: int) -> list[int]:
    children = Path(f"/proc/{root}/task").glob("*/children")
    return [
        root,
        *(pid for task in children for child in task.read_text().split() for pid in _tree(int(child))),
    ]


def _pss(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
