"""The app: configuration → stacks. `npx cdk synth` runs this file."""

import sys

import aws_cdk as cdk
from stacks.foundation.stack import Foundation

from stacks import config as configuration


def main() -> None:
    """Synthesize every stack of the chosen stage; a wrong configuration is one message and exit code 1."""
    app = cdk.App()
    try:
        config = configuration.load(app.node.get_all_context())
    except configuration.ConfigError as error:
        sys.exit(str(error))
    Foundation(app, "Foundation", config=config)
    app.synth()


if __name__ == "__main__":
    main()
