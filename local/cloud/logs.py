"""The output of a job in CloudWatch Logs, written with the job's own role, as its service does on AWS."""

from __future__ import annotations

import time
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from local.cloud import roles
from local.cloud.place import Place

_SECONDS, _LINES = 1.0, 500  # between two sends, unless so many lines are waiting
_LINE_BYTES = 256 * 1024 - 26  # "PutLogEvents": the limit of one event, less what the service counts for it


class Stream:
    """One log stream. A role that may not write it loses the log, not the job."""

    def __init__(self, session: roles.Session, place: Place, group: str, name: str) -> None:
        self.group, self.name = group, name
        self._waiting: list[dict[str, Any]] = []
        self._sent = time.monotonic()
        self._client = session.client("logs", place)
        self._open = self._try(self._client.create_log_stream, logGroupName=group, logStreamName=name)
        if not self._open:
            self._try(self._client.create_log_group, logGroupName=group)
            self._open = self._try(self._client.create_log_stream, logGroupName=group, logStreamName=name)
        if not self._open:
            print(f"{group}: {session.role_arn} may not write its log stream {name}", flush=True)

    def write(self, line: str) -> None:
        """Add a line; it is sent with the next ones, at the latest when the stream is closed."""
        text = line.encode()[:_LINE_BYTES].decode(errors="ignore")
        if text.strip() and self._open:  # CloudWatch Logs takes no empty event
            self._waiting.append({"timestamp": int(time.time() * 1000), "message": text})
            if len(self._waiting) >= _LINES or time.monotonic() - self._sent > _SECONDS:
                self._send()

    def close(self) -> None:
        """Send what is left."""
        self._send()
        self._client.close()

    def _send(self) -> None:
        if self._waiting:
            self._open = self._try(
                self._client.put_log_events,
                logGroupName=self.group,
                logStreamName=self.name,
                logEvents=self._waiting,
            )
            self._waiting, self._sent = [], time.monotonic()

    @staticmethod
    def _try(call: Any, **arguments: Any) -> bool:
        try:
            call(**arguments)
        except ClientError as error:
            code: str = error.response["Error"]["Code"]
            return code == "ResourceAlreadyExistsException"
        except BotoCoreError:  # the cloud is being stopped
            return False
        return True
