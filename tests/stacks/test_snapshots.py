"""Every template as it was last reviewed. To accept a change: read the diff, then `pytest tests/stacks --snapshot-update`."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from syrupy.assertion import SnapshotAssertion
from syrupy.extensions.json import JSONSnapshotExtension
from syrupy.location import PyTestLocation
from syrupy.types import SnapshotIndex

from stacks import config
from tests.stacks.test_app import STACKS
from tests.support.synth import OPTIONS
from tools.assembly import Assembly

SNAPSHOTS = Path(__file__).parent / "__snapshots__"
HASH = re.compile(r"\b[0-9a-f]{64}\b")
# What CDK adds to every template, and changes with its own versions.
BOOTSTRAP = {"BootstrapVersion", "CheckBootstrapVersion", "CDKMetadata", "aws:cdk:path"}


class TemplateExtension(JSONSnapshotExtension):
    """One file a stack and stage, named after them: `__snapshots__/sandbox-Foundation.json`."""

    @classmethod
    def get_snapshot_name(cls, *, test_location: PyTestLocation, index: SnapshotIndex = 0) -> str:  # noqa: ARG003 - syrupy's signature
        return str(index)

    @classmethod
    def dirname(cls, *, test_location: PyTestLocation) -> str:  # noqa: ARG003 - syrupy's signature
        return str(SNAPSHOTS)


def masked(node: Any) -> Any:
    """A template without the hashes of assets: those change with every line of pipeline code. Logical ids stay."""
    if isinstance(node, dict):
        kept = {key: masked(value) for key, value in node.items() if key not in BOOTSTRAP}
        # CDK sorts a statement's resources by their text, hashes included: masked, they need an order of their own.
        if isinstance(kept.get("Resource"), list):
            kept["Resource"].sort(key=json.dumps)
        return {key: value for key, value in kept.items() if value or not node[key]}
    if isinstance(node, list):
        return [masked(item) for item in node]
    return HASH.sub("<asset>", node) if isinstance(node, str) else node


# What every stage deploys as `cdk.json` has it, and the options that it could list.
REVIEWED = [
    (stage, stack) for stage in config.STAGES for stack in (*STACKS, *map(str.capitalize, OPTIONS[stage]))
]


@pytest.mark.filterwarnings(r"ignore:\s*Can not relate snapshot")  # shorter names than syrupy's own are meant
@pytest.mark.parametrize(("stage", "stack"), REVIEWED)
def test_the_template_is_the_reviewed_one(
    stage: str,
    stack: str,
    assembly: Callable[[str], Assembly],
    complete: Callable[[str], Assembly],
    snapshot: SnapshotAssertion,
) -> None:
    template = (assembly if stack in STACKS else complete)(stage).template(stack).json
    assert masked(template) == snapshot(name=f"{stage}-{stack}", extension_class=TemplateExtension)


def test_no_snapshot_is_left_over() -> None:
    reviewed = {f"{stage}-{stack}.json" for stage, stack in REVIEWED}
    assert {path.name for path in SNAPSHOTS.iterdir()} == reviewed


def test_a_snapshot_hides_hashes_and_keeps_logical_ids() -> None:
    digest = "0123456789abcdef" * 4
    template = {
        "Parameters": {"BootstrapVersion": {"Type": "String"}},
        "Resources": {"Raw72517081": {"Properties": {"S3Key": f"{digest}.zip", "Tags": []}}},
    }
    assert masked(template) == {
        "Resources": {"Raw72517081": {"Properties": {"S3Key": "<asset>.zip", "Tags": []}}}
    }


def test_the_order_of_a_statements_resources_does_not_depend_on_a_hash() -> None:
    def policy(first: str, second: str) -> Any:
        return masked({"Resource": [f"assets/{first}.py", f"assets/{second}.zip"]})

    assert policy("a" * 64, "b" * 64) == masked(
        {"Resource": [f"assets/{'0' * 64}.zip", f"assets/{'f' * 64}.py"]}
    )
