"""AWS clients, made once an execution environment and reused by every invocation in it."""

import functools
from typing import Any

import boto3
from botocore.config import Config

# Shorter than any function's time-out: a call that hangs must fail while there is still time to say so. One retry
# here; the queue or the stream does the rest, with its own delay.
_CONFIG = Config(connect_timeout=3, read_timeout=15, retries={"mode": "standard", "total_max_attempts": 2})


@functools.cache
def client(service: str) -> Any:
    """The client of `service`, such as "s3"."""
    return boto3.client(service, config=_CONFIG)
