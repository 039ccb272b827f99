"""How a benchmark shows what it measured: a table on standard output, the same in out/bench/<name>.json and .md."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "out" / "bench"
Row = Mapping[str, str | int | float]


def show(name: str, title: str, rows: Sequence[Row], *, note: str) -> None:
    """Print the rows, which share their keys, and write them; `note` says what the peer is and what may differ."""
    cells = [[_text(value) for value in row.values()] for row in rows]
    header = list(rows[0])
    widths = [max(len(line[i]) for line in [header, *cells]) for i in range(len(header))]
    print(f"\n{title}")
    for line in [header, ["-" * width for width in widths], *cells]:
        left, *right = zip(line, widths, strict=True)
        print("  ".join([left[0].ljust(left[1]), *(text.rjust(width) for text, width in right)]))
    print(note)
    FOLDER.mkdir(parents=True, exist_ok=True)
    machine = {"cores": os.cpu_count(), "python": platform.python_version(), "machine": platform.machine()}
    result = {"title": title, "note": note, "machine": machine, "rows": rows}
    (FOLDER / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    rules = ["---", *["---:"] * (len(header) - 1)]
    lines = [f"| {' | '.join(line)} |" for line in (header, rules, *cells)]
    (FOLDER / f"{name}.md").write_text("\n".join([*lines, "", note, ""]))


def _text(value: str | float) -> str:
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.2f}" if isinstance(value, float) else value
