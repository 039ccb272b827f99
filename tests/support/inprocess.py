"""Training built inside the test's own process, for a configuration that no committed stage has."""

import copy
from pathlib import Path

import aws_cdk as cdk

from stacks.config import load
from stacks.foundation.stack import Foundation
from stacks.processing.stack import Processing
from stacks.training.stack import Training
from tools.assembly import Template, context


def training(out: Path, **knobs: object) -> Template:
    """The template of Training in the sandbox, with `knobs` of its configuration changed; `out` is the assembly."""
    changed = copy.deepcopy(context("sandbox"))
    changed["stages"]["sandbox"]["training"] |= knobs
    config, app = load(changed), cdk.App(outdir=str(out))
    foundation = Foundation(app, "Foundation", config=config)
    processing = Processing(app, "Processing", config=config, foundation=foundation)
    Training(app, "Training", config=config, foundation=foundation, processing=processing)
    return Template("Training", app.synth().get_stack_by_name(config.stack_name("Training")).template)
