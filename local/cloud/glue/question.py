"""How Glue asks a process of its own (`Work.ask`): question.json in, answer.json out, an error as the last line."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


def answer(reply: Callable[[Any], Any]) -> None:
    """Answer the question of this process."""
    asked, answered = map(Path, sys.argv[1:3])
    try:
        answered.write_text(json.dumps(reply(json.loads(asked.read_text()))))
    except Exception as error:  # noqa: BLE001 - this last line is what the crawl or the run says
        sys.exit(str(error))
