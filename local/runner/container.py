"""What a job's process sees of SageMaker: `/opt/ml` in a fresh folder, a clean environment, and files that say why.

Sources: "How Amazon SageMaker AI runs your processing container image", "… your training image" (Developer Guide).
There is no mount namespace: the text `/opt/ml` in the entrypoint, the arguments and the environment is replaced by
the folder's path. A program with `/opt/ml` written into its own code sees the machine's (see docs/decisions/0062).
"""

from __future__ import annotations

import contextlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from local.runner import process
from local.runner.process import Exit, Limits

OPT_ML = "/opt/ml"
HOST = "algo-1"
LOG = "log.txt"  # in the job's folder
NOT_FOUND = 127  # the exit code of a shell that finds no program
# FailureReason and ExitMessage hold this much (API Reference); the last lines of a log stand in for a reason.
REASON_LENGTH = 1024
_TAIL = 5

_OPT_ML = re.compile(r"(?<![\w./-])/opt/ml(?![\w.-])")
# A shell splits an entrypoint at these, so the folder's path must have none of them.
_UNSAFE = re.compile(r"[^\w./@:+-]")


class Container:
    """One job's folder: `path("/opt/ml/…")` is where a path of the container lies on this machine."""

    def __init__(self, folder: Path, shown: Path) -> None:
        self.folder, self._shown = folder, shown
        for name in (OPT_ML[1:], "home", "temporary"):
            (folder / name).mkdir(parents=True)
        self._log = folder / LOG

    def path(self, inside: str) -> Path:
        """The file or folder that the container calls `inside`."""
        return self.folder / inside.lstrip("/")

    def remap(self, text: str) -> str:
        """`text` with every `/opt/ml` path pointing into this job's folder."""
        return _OPT_ML.sub(f"{self._shown}{OPT_ML}", text)

    def write_json(self, inside: str, content: object) -> None:
        """Write one of the files by which SageMaker tells a container about its job."""
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content, indent=1, default=str))

    def run(
        self,
        command: Sequence[str],
        *,
        python: Path,
        environment: Mapping[str, str],
        limits: Limits,
        on_line: Callable[[str], None],
        folder: str = "/",
    ) -> Exit:
        """Run the container's command in `folder`; its output goes to the log and to `on_line`."""
        shown = {
            # The interpreter that stands for the image comes first, so `python3` in an entrypoint is that one.
            "PATH": f"{python.parent.absolute()}:/usr/local/bin:/usr/bin:/bin",
            "HOME": f"{self._shown}/home",
            "TMPDIR": f"{self._shown}/temporary",
            "LANG": "C.UTF-8",
            "PYTHONUNBUFFERED": "1",
            # Steps that look for their output folder need not know that it moved.
            "SM_OUTPUT_DIR": f"{self._shown}{OPT_ML}/output",
            **{name: self.remap(value) for name, value in environment.items()},
        }
        self.path(f"{OPT_ML}/output").mkdir(parents=True, exist_ok=True)
        with self._log.open("w") as log:

            def keep(line: str) -> None:
                log.write(f"{line}\n")
                on_line(line)

            try:
                return process.run(
                    [self.remap(word) for word in command],
                    folder=self.path(folder),
                    environment=shown,
                    limits=limits,
                    on_line=keep,
                )
            except OSError as error:  # the program is not there, or is no program
                keep(f"{command[0]}: {error.strerror}")
                return Exit(NOT_FOUND)

    def output(self) -> str:
        """All that the process printed."""
        return self._log.read_text() if self._log.exists() else ""

    def reason(self, inside: str) -> str:
        """What the job wrote about its failure, or else the last lines of its log; cut as the service cuts it."""
        path = self.path(inside)
        if path.is_file() and (text := path.read_text(errors="replace").strip()):
            return text[:REASON_LENGTH]
        return "\n".join(self.output().strip().splitlines()[-_TAIL:])[-REASON_LENGTH:]


@contextlib.contextmanager
def container(folder: Path) -> Iterator[Container]:
    """A fresh container in `folder`, which must not exist; a path that a shell would split is shown by a link."""
    folder = folder.resolve()
    with contextlib.ExitStack() as stack:
        shown = folder
        if _UNSAFE.search(str(folder)):
            shown = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "job"
            shown.symlink_to(folder)
        yield Container(folder, shown)


def resource_config(instance_type: Any) -> dict[str, Any]:
    """/opt/ml/…/resourceconfig.json of a job on one machine."""
    return {
        "current_host": HOST,
        "hosts": [HOST],
        "current_instance_type": instance_type,
        "network_interface_name": "eth0",
    }
