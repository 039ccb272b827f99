"""What a person sees while the demo runs: one line a stage, live on a terminal, plain elsewhere."""

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TextIO

REFRESH_SECONDS = 0.2
CLEAR_LINE = "\r\033[K"


@dataclass
class Progress:
    """Announces stages on `stream` and keeps how long each took, in seconds."""

    stream: TextIO
    total: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    stage: str = "the start"
    _detail: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextlib.contextmanager
    def during(self, stage: str) -> Iterator[None]:
        """Time one stage; on a terminal its line is redrawn until it ends."""
        self.stage, self._detail = stage, ""
        label = f"[{len(self.seconds) + 1}/{self.total}] {stage}"
        started = time.monotonic()
        ended = threading.Event()
        live = self.stream.isatty()
        painter = threading.Thread(target=self._paint, args=(label, started, ended), daemon=True)
        if live:
            painter.start()
        else:
            self._write(f"{label} ...\n")
        outcome = "stopped"
        try:
            yield
            outcome = "done"
        finally:
            seconds = time.monotonic() - started
            self.seconds[stage] = round(seconds, 2)
            ended.set()
            if live:
                painter.join()
            detail = f" ({self._detail})" if self._detail else ""
            start = f"{CLEAR_LINE}{label}: " if live else "      "
            self._write(f"{start}{outcome} in {seconds:.1f} s{detail}\n")

    def detail(self, text: str) -> None:
        """Say what the stage is doing now, or, last of all, what came of it."""
        self._detail = text
        if not self.stream.isatty():
            self._write(f"      {text}\n")

    def _paint(self, label: str, started: float, ended: threading.Event) -> None:
        while not ended.wait(REFRESH_SECONDS):
            self._write(f"{CLEAR_LINE}{label} {time.monotonic() - started:5.1f} s {self._detail}"[:110])

    def _write(self, text: str) -> None:
        with self._lock:
            self.stream.write(text)
            self.stream.flush()
