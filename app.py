"""The app: configuration → stacks. `npx cdk synth` runs this file."""

import os
import sys

import aws_cdk as cdk

from stacks import cli
from stacks import config as configuration
from stacks.foundation.stack import Foundation
from stacks.ingestion.stack import Ingestion
from stacks.release.stack import Release
from stacks.serving.stack import Serving


def main() -> None:
    """Synthesize every stack of the chosen stage; a wrong configuration or CLI is one message and exit code 1."""
    if complaint := cli.complaint(os.environ):
        sys.exit(complaint)
    app = cdk.App()
    try:
        config = configuration.load(app.node.get_all_context())
    except configuration.ConfigError as error:
        sys.exit(str(error))
    if os.environ.get("CDK_VALIDATION") != "false":
        import cdk_nag  # noqa: PLC0415 - a quarter of a second that a synth without validation saves

        cdk.Validations.of(app).add_plugins(cdk_nag.AwsSolutionsChecks(app))
    foundation = Foundation(app, "Foundation", config=config)
    Ingestion(app, "Ingestion", config=config, foundation=foundation)
    Serving(app, "Serving", config=config, foundation=foundation)
    Release(app, "Release", config=config, foundation=foundation)
    app.synth()


if __name__ == "__main__":
    main()
