"""How a step starts and how it fails, the same in every home: one reason, one exit code, one file.

A step's `main` only parses, reads, calls and writes. What it raises becomes one line on standard error, the file in
which SageMaker looks for a reason, and exit code 1.
"""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from pipeline.schema import SchemaError

# "How Amazon SageMaker AI Processes Training Output" and "Save and Access Metadata Information About Your Processing
# Job" (SageMaker AI Developer Guide): the first kilobyte becomes FailureReason or ExitMessage.
REASON_BYTES = 1024


class StepError(ValueError):
    """Input that a step cannot work with: the message names the file, the column or flag, the value, the remedy."""


class Parser(argparse.ArgumentParser):
    """argparse whose complaint is a `StepError`, so that a wrong flag leaves a reason behind as any fault does."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting with code 2; names the program as argparse does."""
        raise StepError(f"{self.prog}: {message}")


def parser(step: str, description: str | None) -> Parser:
    """A parser for `python -m pipeline.<step>`: whole flag names only, so that a typing error never matches one."""
    return Parser(prog=f"pipeline.{step}", description=description, allow_abbrev=False)


def run(main: Callable[[Sequence[str]], None], *, reason_file: str) -> int:
    """Run `main` with the command line's arguments and return the exit code.

    `reason_file` is `failure` for training and `message` for processing; it is written only where the container's
    output folder (`SM_OUTPUT_DIR`, else `/opt/ml/output`) exists.
    """
    try:
        main(sys.argv[1:])
    except Exception as error:  # noqa: BLE001 - whatever went wrong, SageMaker must be told why
        known = isinstance(error, StepError | SchemaError)
        reason = str(error) if known else "".join(traceback.format_exception(error))
        print(reason, file=sys.stderr)
        output = Path(os.environ.get("SM_OUTPUT_DIR", "/opt/ml/output"))
        if output.is_dir():
            line = reason if known else f"{type(error).__name__}: {error}"
            (output / reason_file).write_bytes(line.encode()[:REASON_BYTES].decode(errors="ignore").encode())
        return 1
    return 0
