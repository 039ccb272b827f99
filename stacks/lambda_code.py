"""One archive for every function: `lambdas/` and the part of `pipeline/` that is the standard library only."""

from pathlib import Path

import aws_cdk as cdk
from aws_cdk import aws_lambda as lambda_

ROOT = Path(__file__).parent.parent

# Read as a .gitignore: everything out, then back in what functions import. Bytecode would change the hash.
EXCLUDE = (
    "/*",
    "!/lambdas",
    "!/pipeline",
    "/pipeline/*",
    "!/pipeline/__init__.py",
    "!/pipeline/schema.py",
    "!/pipeline/schemas",
    "__pycache__",
)


def lambda_code() -> lambda_.Code:
    """The asset: imports are package-qualified (`lambdas.stream_consumer`), in AWS as in the tests."""
    return lambda_.Code.from_asset(str(ROOT), exclude=list(EXCLUDE), ignore_mode=cdk.IgnoreMode.GIT)
