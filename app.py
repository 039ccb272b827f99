"""The app: configuration → stacks. `npx cdk synth` runs this file."""

import os
import sys

import aws_cdk as cdk

from pipeline.schema import SchemaError
from stacks import cli
from stacks import config as configuration
from stacks.asynchronous.stack import Asynchronous
from stacks.batch.stack import Batch
from stacks.experiment.stack import Experiment
from stacks.foundation.stack import Foundation
from stacks.ingestion.stack import Ingestion
from stacks.monitoring.stack import Monitoring
from stacks.processing.stack import Processing
from stacks.release.stack import Release
from stacks.serverless.stack import Serverless
from stacks.serving.stack import Serving
from stacks.training.stack import Training

# Ways to serve beside the real-time endpoint, by the name under which a stage's `options` list them.
OPTIONS = {
    "serverless": Serverless,
    "asynchronous": Asynchronous,
    "batch": Batch,
    "experiment": Experiment,
}


def build(app: cdk.App) -> None:
    """Every stack of the chosen stage; values cross one way, from Foundation outward."""
    config = configuration.load(app.node.get_all_context())
    foundation = Foundation(app, "Foundation", config=config)
    ingestion = Ingestion(app, "Ingestion", config=config, foundation=foundation)
    processing = Processing(app, "Processing", config=config, foundation=foundation)
    training = Training(app, "Training", config=config, foundation=foundation, processing=processing)
    serving = Serving(app, "Serving", config=config, foundation=foundation)
    options = [
        OPTIONS[name](app, OPTIONS[name].__name__, config=config, foundation=foundation)
        for name in config.options
    ]
    release = Release(app, "Release", config=config, foundation=foundation)
    monitoring = Monitoring(
        app,
        "Monitoring",
        config=config,
        foundation=foundation,
        ingestion=ingestion,
        processing=processing,
        dead_letters=[
            processing.dead_letters,
            training.dead_letters,
            *release.dead_letters,
            *(queue for option in options for queue in option.dead_letters),
        ],
    )
    # These name what they act on and import nothing of it, so CDK cannot tell the order.
    for option in options:
        option.add_stack_dependency(serving, "It follows Serving.")
        release.add_stack_dependency(option, "It tells the option what to serve.")
    release.add_stack_dependency(serving, "It updates Serving.")
    monitoring.add_stack_dependency(serving, "It watches the endpoint.")


def main() -> None:
    """Synthesize; a wrong configuration, schema or CLI, or a finding, is told without a traceback; exit code 1."""
    if complaint := cli.complaint(os.environ):
        sys.exit(complaint)
    app = cdk.App()
    if os.environ.get("CDK_VALIDATION") != "false":
        import cdk_nag  # noqa: PLC0415 - a quarter of a second that a synth without validation saves

        cdk.Validations.of(app).add_plugins(cdk_nag.AwsSolutionsChecks(app))
    try:
        build(app)
    except (configuration.ConfigError, SchemaError) as error:
        sys.exit(str(error))
    try:
        app.synth()
    except RuntimeError as error:  # what jsii makes of every exception of the library
        if "ValidationFailed" not in str(error):
            raise
        sys.exit("Mend the findings above, or accept each with its reason (stacks/acknowledge.py).")


if __name__ == "__main__":
    main()
