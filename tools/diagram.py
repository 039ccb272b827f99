"""The flow of the whole system as one picture, drawn from the synthesized templates: `make diagram`.

    python -m tools.diagram                 draws docs/diagrams/flow.svg again
    python -m tools.diagram --check         fails if the file is not what the templates say

Only what a record or a model passes on its way is shown (`tools/flow.py`); this module says where and in which colour.
"""

import argparse
import dataclasses
import itertools
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from tools.assembly import ROOT, SynthError, synthesize
from tools.flow import SHOWN, Edge, Flow, FlowError, Node

FLOW = ROOT / "docs" / "diagrams" / "flow.svg"
# A stack's line and its tint.
COLOURS: Mapping[str, tuple[str, str]] = {
    "Foundation": ("#5a6270", "#eef0f3"),
    "Ingestion": ("#7a4bc2", "#f4effb"),
    "Processing": ("#1f7a3d", "#ecf6ef"),
    "Training": ("#0b6e8f", "#e9f4f8"),
    "Release": ("#b3541e", "#fbf1ea"),
    "Serving": ("#b0284f", "#fbecf1"),
    "Monitoring": ("#8a6d00", "#faf5e3"),
}
# A plainer name where the construct's own says too little beside an arrow.
TITLES = {
    "Approvals": "Release on approval",
    "Archive": "Archive every record",
    "Consumer": "Predict each record",
    "Curate": "Spark ETL",
    "Models": "Model versions",
    "Rollouts": "Check the rollout",
    "Starts": "Schedule",
    "Topic": "Alerts",
}
# Where a construct stands: column from the left, row from the top. Data go to the right in the upper half, and the
# model comes back below, to the consumer that asks it. What is not listed stands under the rest until it is.
PLACES: Mapping[str, tuple[float, float]] = {
    "Stream": (0, 1.25),
    "Archive": (1, 0.5),
    "Consumer": (1, 2),
    "Raw": (2, 0.5),
    "Raw crawler": (3, 0),
    "Quality gate": (3, 1),
    "Curate": (3, 2),
    "Curated crawler": (3, 3),
    "Curated": (4, 2),
    "Pipeline": (4, 4.7),
    "Starts": (4, 5.7),
    "Models": (3, 4.7),
    "Approvals": (2, 4.7),
    "Rollouts": (2, 5.7),
    "Endpoint": (1, 4.7),
    "Artifacts": (0, 4.7),
    "Topic": (0.5, 6.1),
}
COLUMN, ROW = 212, 72
# Width and height of a node; what holds state is a cylinder.
SIZES = {
    "AWS::S3::Bucket": (118, 54),
    "AWS::SageMaker::ModelPackageGroup": (118, 54),
    "AWS::SNS::Topic": (316, 44),
}
SIZE = (158, 44)
CYLINDERS = {"AWS::S3::Bucket", "AWS::SageMaker::ModelPackageGroup"}
MARGIN, HEAD = 14, 24
GREY = "#4a4f57"
LEGEND = "Dashed: declared, and switched off in this stage. Cylinders hold state and belong to Foundation."
RENDER = """
import { instance } from "@viz-js/viz";
let dot = "";
for await (const chunk of process.stdin) dot += chunk;
process.stdout.write((await instance()).renderString(dot, { format: "svg", engine: "nop" }));
"""

Place = tuple[float, float]


class DiagramError(Exception):
    """The picture cannot be drawn; the message says why."""


def picture(flow: Flow) -> str:
    """The SVG: Graphviz draws the nodes, which stand still, and finds a way for the arrows between them.

    Boxes and texts are added here: Graphviz places a text by its width in a font that the reader may not have.
    """
    edges = flow.edges()
    alerts = [edge for edge in edges if flow.kind(edge.target) == "AWS::SNS::Topic"]
    arrows = _arrows([edge for edge in edges if edge not in alerts])
    failing = ", ".join(dict.fromkeys(edge.source[0] for edge in alerts))
    places = _places(flow, sorted({node for edge in edges for node in (edge.source, edge.target)}))
    boxes = {node: (*place, *_size(flow, node)) for node, place in places.items()}

    left = min(x - width / 2 for x, _, width, _ in boxes.values()) - 2 * MARGIN
    right = max(x + width / 2 for x, _, width, _ in boxes.values()) + 2 * MARGIN
    top = min(y - height / 2 for _, y, _, height in boxes.values()) - HEAD - MARGIN
    bottom = max(y + height / 2 for _, y, _, height in boxes.values()) + 2 * MARGIN
    corners = [
        f'"corner {y:g}" [style=invis, shape=point, width=0, pos="{x:g},{-y:g}"]'
        for x, y in ((left, bottom), (right, top))
    ]
    stacks = dict.fromkeys(node[0] for node in boxes if node[0] != "Foundation")
    shapes = [_shape(flow, node, box) for node, box in boxes.items()]
    parts = [
        _page(left, top, right, bottom),
        *(_box(stack, boxes) for stack in stacks),
        # Graphviz moves the lower left corner to the origin.
        f'<g transform="translate({left:g} {bottom:g})">\n',
        _drawn([*corners, *shapes, *(line for _, line in arrows)]),
        "</g>\n",
        *(_label(edge, boxes) for edge, _ in arrows if edge.label),
        *(_name(flow, node, box, failing) for node, box in boxes.items()),
        _text(right - MARGIN, bottom - MARGIN, LEGEND, anchor="end"),
        "</svg>\n",
    ]
    return "".join(parts)


Box = tuple[float, float, float, float]
"""Middle, width and height."""


def _page(left: float, top: float, right: float, bottom: float) -> str:
    size = f'width="{right - left:g}" height="{bottom - top:g}"'
    view = f'viewBox="{left:g} {top:g} {right - left:g} {bottom - top:g}"'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {view} font-family="Helvetica,Arial,sans-serif">\n'
        f'<rect x="{left:g}" y="{top:g}" {size} fill="#ffffff"/>\n'
    )


def _places(flow: Flow, nodes: Sequence[Node]) -> dict[Node, Place]:
    spare = itertools.count()
    found = {}
    for node in nodes:
        column, row = PLACES.get(flow.title(node)) or (next(spare), 7.5)
        found[node] = (column * COLUMN, row * ROW)
    return found


def _size(flow: Flow, node: Node) -> tuple[float, float]:
    return SIZES.get(flow.kind(node), SIZE)


def _arrows(edges: Sequence[Edge]) -> list[tuple[Edge, str]]:
    pairs = {(edge.source, edge.target) for edge in edges}
    lines = []
    for edge in edges:
        answered = (edge.target, edge.source) in pairs
        if answered and not edge.label:
            continue  # the answer's own arrow has two heads
        if answered and edge.label == "update":
            edge = dataclasses.replace(edge, label="put back")  # noqa: PLW2901 - what an update is that answers one
        style = ", ".join((["dir=both"] if answered else []) + ([] if edge.on else ["style=dashed"]))
        lines.append((edge, f"{_id(edge.source)} -> {_id(edge.target)} [{style}]"))
    return lines


def _id(node: Node) -> str:
    return json.dumps("/".join(node))


def _shape(flow: Flow, node: Node, box: Box) -> str:
    x, y, width, height = box
    shape = "shape=cylinder, style=filled, " if flow.kind(node) in CYLINDERS else ""
    size = f"width={width / 72:.4f}, height={height / 72:.4f}"
    return f'{_id(node)} [{shape}color="{COLOURS[node[0]][0]}", {size}, pos="{x:g},{-y:g}"]'


def _drawn(lines: Sequence[str]) -> str:
    """What Graphviz draws, without the page around it."""
    header = [
        "digraph flow {",
        'graph [splines=true, esep="+6", pad=0]',
        'node [shape=box, style="rounded,filled", fixedsize=true, label="", fillcolor="#ffffff"]',
        f'edge [color="{GREY}", arrowsize=0.7]',
    ]
    page = render("\n".join([*header, *lines, "}"]))
    found = re.search(r"<polygon [^>]*/>\n(.*)</g>\n</svg>", page, re.DOTALL)
    if found is None:
        raise DiagramError(f"Graphviz drew nothing:\n{page}")
    return found[1]


def _box(stack: str, boxes: Mapping[Node, Box]) -> str:
    colour, tint = COLOURS[stack]
    mine = [box for node, box in boxes.items() if node[0] == stack]
    left = min(x - width / 2 for x, _, width, _ in mine) - MARGIN
    right = max(x + width / 2 for x, _, width, _ in mine) + MARGIN
    top = min(y - height / 2 for _, y, _, height in mine) - HEAD
    bottom = max(y + height / 2 for _, y, _, height in mine) + MARGIN
    return (
        f'<rect x="{left:g}" y="{top:g}" width="{right - left:g}" height="{bottom - top:g}" rx="10" fill="{tint}" '
        f'stroke="{colour}"/>\n' + _text(right - 10, top + 17, stack, anchor="end", size=13, colour=colour)
    )


def _name(flow: Flow, node: Node, box: Box, failing: str) -> str:
    x, y, _, _ = box
    kind, title = flow.kind(node), flow.title(node)
    middle = y + (4 if kind in CYLINDERS else 0)
    service = SHOWN[kind] + (f": failures in {failing}" if kind == "AWS::SNS::Topic" else "")
    return _text(x, middle - 2, TITLES.get(title, title), size=13, weight="bold", colour="#000000") + _text(
        x, middle + 13, service
    )


def _label(edge: Edge, boxes: Mapping[Node, Box]) -> str:
    """Above a level arrow (near its start, if it is long), below a slanting one, to the right of an upright one."""
    x, y, width, _ = boxes[edge.source]
    far_x, far_y, far_width, _ = boxes[edge.target]
    if abs(far_x - x) < COLUMN / 2:
        return _text((x + far_x) / 2 + 6, (y + far_y) / 2, edge.label, anchor="start")
    toward = 1 if far_x > x else -1
    start, end = x + toward * width / 2, far_x - toward * far_width / 2
    if abs(far_x - x) > 1.5 * COLUMN:
        return _text(start + toward * COLUMN / 4, y + 4, edge.label)
    below = 16 if y != far_y else -6
    return _text((start + end) / 2, (y + far_y) / 2 + below, edge.label)


def _text(
    x: float,
    y: float,
    text: str,
    *,
    anchor: str = "middle",
    size: int = 11,
    weight: str = "normal",
    colour: str = GREY,
) -> str:
    style = f'font-size="{size}" font-weight="{weight}" fill="{colour}"'
    return f'<text x="{x:g}" y="{y:g}" text-anchor="{anchor}" {style}>{text}</text>\n'


def render(dot: str) -> str:
    """Graphviz, compiled to WebAssembly, turns its language into SVG. Raises `DiagramError`."""
    completed = subprocess.run(
        [Path(sys.executable).parent / "node", "--input-type=module", "--eval", RENDER],
        cwd=ROOT,
        input=dot,
        capture_output=True,
        text=True,
        check=False,
    )
    if completed.returncode != 0:
        raise DiagramError(
            f"node could not run @viz-js/viz (npm ci installs it):\n{completed.stderr.strip()}"
        )
    return completed.stdout


def main(argv: Sequence[str] | None = None) -> int:
    """Draw the sandbox stage, the default one."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.diagram", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the file is out of date")
    arguments = parser.parse_args(argv)
    try:
        with tempfile.TemporaryDirectory() as out:
            drawn = picture(Flow(synthesize("sandbox", Path(out))))
    except (DiagramError, FlowError, SynthError) as error:
        print(error, file=sys.stderr)
        return 1
    if arguments.check:
        current = FLOW.exists() and FLOW.read_text() == drawn
        print(
            f"{FLOW.relative_to(ROOT)} "
            + ("is current." if current else "is out of date. Draw it again: make diagram.")
        )
        return 0 if current else 1
    FLOW.parent.mkdir(parents=True, exist_ok=True)
    FLOW.write_text(drawn)
    print(f"Drawn: {FLOW.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
