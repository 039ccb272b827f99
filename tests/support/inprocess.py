"""Stacks built inside the test's own process, for a configuration that no committed stage has."""

import copy
from pathlib import Path

import aws_cdk as cdk

from stacks.config import load
from stacks.foundation.stack import Foundation
from stacks.processing.stack import Processing
from stacks.training.stack import Training
from tools.assembly import Template, context


def template(stack: str, out: Path, **edits: dict[str, object]) -> Template:
    """The template of Processing or Training in the sandbox, with `section={"knob": value}` changed."""
    changed = copy.deepcopy(context("sandbox"))
    for section, values in edits.items():
        changed["stages"]["sandbox"][section] |= values
    config, app = load(changed), cdk.App(outdir=str(out))
    foundation = Foundation(app, "Foundation", config=config)
    processing = Processing(app, "Processing", config=config, foundation=foundation)
    if stack == "Training":
        Training(app, "Training", config=config, foundation=foundation, processing=processing)
    return Template(stack, app.synth().get_stack_by_name(config.stack_name(stack)).template)
