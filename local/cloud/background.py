"""Work that goes on after its request is answered."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable


def start(work: Callable[..., object], *arguments: object, name: str = "") -> threading.Thread:
    """Run on a thread that knows account and region of the request, and that the end of the cloud does not wait for."""
    thread = threading.Thread(
        target=contextvars.copy_context().run,
        args=(work, *arguments),
        daemon=True,
        name=name or work.__name__,
    )
    thread.start()
    return thread
