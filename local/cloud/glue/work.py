"""What Glue does in the background: threads that end with the cloud, processes as a role, and their logs."""

from __future__ import annotations

import contextlib
import json
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from local.cloud import logs, roles, seams
from local.cloud.extensions import Cloud
from local.cloud.place import ACCOUNT, ROOT
from local.cloud.protocol import ApiError, arn
from local.runner import process

_SECONDS_TO_END = 5.0


class WorkError(Exception):
    """A process of ours failed; the message is its own."""


class StoppedError(Exception):
    """A stop request, or the end of the cloud, ended the work."""


class Work:
    """The threads of one cloud. `ending` is set once; whoever waits or runs a process looks at it."""

    def __init__(self, cloud: Cloud) -> None:
        self.cloud, self.ending = cloud, threading.Event()
        self._threads: set[threading.Thread] = set()
        cloud.closing.callback(self._end)

    def start(self, name: str, target: Callable[..., None], *arguments: object) -> None:
        """Run `target` on a thread of its own."""
        thread = threading.Thread(target=self._run, args=(target, arguments), name=name, daemon=True)
        self._threads.add(thread)
        thread.start()

    @contextlib.contextmanager
    def folder(self) -> Iterator[Path]:
        """A folder for one piece of work, gone with it."""
        path = self.cloud.place.folder / "work" / "glue" / secrets.token_hex(8)
        path.mkdir(parents=True)
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def environment(self, session: roles.Session) -> dict[str, str]:
        """What a process needs to act as the session's role in this cloud."""
        return self.cloud.place.environment() | session.environment()

    def log(self, session: roles.Session, group: str, name: str, configuration: str | None) -> logs.Stream:
        """A log stream, written with the role's rights and encrypted as the security configuration says."""
        place = self.cloud.place
        stream = logs.Stream(session, place, group, name)
        if configuration:
            found = session.client("glue", place).get_security_configuration(Name=configuration)
            encryption = found["SecurityConfiguration"]["EncryptionConfiguration"].get(
                "CloudWatchEncryption", {}
            )
            if key := encryption.get("KmsKeyArn"):
                # MiniStack's logs have no AssociateKmsKey.
                session.authorize("logs:AssociateKmsKey", arn("logs", f"log-group:{group}"))
                seams.cloudwatch_logs._log_groups[group]["kmsKeyId"] = key
        return stream

    def ask(
        self,
        module: str,
        question: Mapping[str, Any],
        session: roles.Session,
        *,
        stop: Callable[[], bool] = lambda: False,
        seconds: float = 3600,
    ) -> Any:
        """The answer of `python -m local.cloud.glue.<module> question.json answer.json`, run as the session's role.

        A process of its own, because it needs libraries that the server's environment has not, and the role's
        credentials for all that it reads. Raises `WorkError` with its last line, and `StoppedError`.
        """
        with self.folder() as folder:
            (folder / "question.json").write_text(json.dumps(question, default=str))
            command = [str(self.cloud.python), "-m", f"local.cloud.glue.{module}"]
            lines: list[str] = []
            ended = process.run(
                [*command, "question.json", "answer.json"],
                folder=folder,
                environment=self.environment(session) | {"PYTHONPATH": str(ROOT)},
                limits=process.Limits(
                    seconds=seconds, stop=lambda: stop() or self.ending.is_set(), grace_seconds=1
                ),
                on_line=lines.append,
            )
            if ended.ended_by == "stop request":
                raise StoppedError
            if ended.ended_by == "time limit" or ended.code != 0:
                how = "the time limit" if ended.ended_by == "time limit" else f"exit code {ended.code}"
                raise WorkError(lines[-1] if lines else f"{module}: {how}")
            return json.loads((folder / "answer.json").read_text())

    def _run(self, target: Callable[..., None], arguments: tuple[object, ...]) -> None:
        try:
            target(*arguments)
        finally:
            self._threads.discard(threading.current_thread())

    def _end(self) -> None:
        self.ending.set()
        for thread in list(self._threads):
            thread.join(_SECONDS_TO_END)


def known(records: Mapping[str, dict[str, Any]], name: str, missing: str) -> dict[str, Any]:
    """MiniStack's record of this name, or the API's error with the text `missing`."""
    if (record := records.get(name)) is None:
        raise ApiError("EntityNotFoundException", missing)
    return record


def role_arn(role: str) -> str:
    """Glue takes a role by its name or its ARN."""
    return role if role.startswith("arn:") else f"arn:aws:iam::{ACCOUNT}:role/{role}"
