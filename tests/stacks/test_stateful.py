"""The logical id of what holds state is a promise: under another id, CloudFormation makes an empty one and drops the old."""

import hashlib
import json
from pathlib import Path

from tests.support.safeguards import STATEFUL
from tools.assembly import ROOT, Assembly

PROMISED = Path(__file__).with_name("stateful_ids.json")


def stateful(assembly: Assembly) -> dict[str, str]:
    """Stack and logical id of every resource that holds state → its type."""
    return {
        f"{stack}/{name}": resource["Type"]
        for stack, template in assembly.templates.items()
        for name, resource in template.resources().items()
        if resource["Type"] in STATEFUL
    }


def test_what_holds_state_keeps_its_logical_id(each_complete: Assembly) -> None:
    promised = json.loads(PROMISED.read_text())[each_complete.stage]
    found = stateful(each_complete)
    gone = {name: kind for name, kind in promised.items() if found.get(name) != kind}
    new = {name: kind for name, kind in found.items() if promised.get(name) != kind}
    assert not gone, (
        f"no longer there: {gone}; new: {new}. In a deployed system this deletes them with what they hold (or orphans "
        "them, where they are retained). If that is meant, write a note in docs/decisions/ on how the data is moved, "
        f"then change tests/stacks/{PROMISED.name}; otherwise give the construct its old id and place back."
    )
    assert not new, (
        f"new state: {new}. Add it to tests/stacks/{PROMISED.name}: from now on its id is a promise."
    )


def test_a_change_of_the_list_is_explained_in_a_note() -> None:
    fingerprint = hashlib.sha256(PROMISED.read_bytes()).hexdigest()[:12]
    notes = [note.read_text() for note in (ROOT / "docs" / "decisions").glob("*.md")]
    assert any(f"`{fingerprint}`" in note for note in notes), (
        f"tests/stacks/{PROMISED.name} has changed: write a note in docs/decisions/ on why, and how the data is moved, "
        f"that names its fingerprint `{fingerprint}` (0086 shows the first)."
    )
