"""The CDK CLI that runs the app must be able to read what the installed aws-cdk-lib writes."""

from collections.abc import Mapping
from importlib.metadata import version

from aws_cdk.cloud_assembly_schema import Manifest


def complaint(environment: Mapping[str, str]) -> str | None:
    """One line if the calling CLI is too old for this aws-cdk-lib, before anything is built; None if all is well.

    The CLI states its version and the newest assembly schema it reads in the environment (`python app.py` alone states
    nothing). Its own message comes after the synth and advises the latest CLI, which need not be the one that fits.
    """
    reads = environment.get("CDK_CLI_ASM_VERSION")
    writes = Manifest.version()
    if reads is None or int(reads.split(".")[0]) >= int(writes.split(".")[0]):
        return None
    return (
        f"CDK CLI {environment.get('CDK_CLI_VERSION', 'unknown')} reads assembly schema {reads}, but aws-cdk-lib "
        f"{version('aws-cdk-lib')} writes {writes}. Use the CLI pinned in package.json: npm ci, then npx cdk."
    )
