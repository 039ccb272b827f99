"""One structure, rendered twice: report.json for programs, report.html for people. Neither holds a figure of its own.

Every figure on the page names its place in the structure (`data-figure`), so a test can compare the two.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import markupsafe

JSON, HTML = "report.json", "report.html"
Report = Mapping[str, Any]


def write(report: Report, *, plots: Sequence[Path], directory: Path) -> None:
    """Write both renderings and the plots; each file appears whole or not at all, the page last."""
    directory.mkdir(parents=True, exist_ok=True)
    for plot in plots:
        _replace(directory / plot.name, plot.read_bytes())
    _replace(directory / JSON, (json.dumps(report, indent=1) + "\n").encode())
    _replace(directory / HTML, render(report, plots=plots).encode())


def remove(directory: Path) -> None:
    """Remove an earlier run's report, so that an interrupted run leaves none that looks like its own."""
    for name in (HTML, JSON):
        (directory / name).unlink(missing_ok=True)


def render(report: Report, *, plots: Sequence[Path]) -> str:
    """The page: one file, plots embedded, nothing fetched."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )

    def figure(path: str, form: str = "") -> markupsafe.Markup:
        value = look_up(report, path)
        return markupsafe.Markup('<span data-figure="{}">{}</span>').format(path, shown(value, form))

    environment.filters["shown"] = shown
    images = {
        plot.stem: f"data:image/png;base64,{base64.b64encode(plot.read_bytes()).decode()}" for plot in plots
    }
    return environment.get_template("report.html.j2").render(r=report, figure=figure, images=images)


def summary(report: Report) -> str:
    """The figures that a person wants on the terminal, a dozen lines."""
    data, splits, gate = report["data"], report["splits"], report["model"]["gate"]
    test, train, validation = splits["test"], splits["train"], splits["validation"]
    faults = ", ".join(
        f"{fault['fault']} {fault['injected']:,}/{fault['found']:,}" for fault in data["faults"]
    )
    stages = " · ".join(f"{stage['name'].lower()} {stage['seconds']:.0f} s" for stage in report["stages"])
    served = report["serving"]
    lines = [
        (
            f"{data['rows_in']:,} records in = {data['rows_out']:,} curated + {data['quarantined']:,} quarantined + "
            f"{data['duplicates']:,} duplicates + {data['excluded']:,} excluded by rule"
        ),
        f"faults injected/found: {faults}",
        f"trained on {_days(train)} ({train['rows']:,} flights), stopped by {_days(validation)} ({validation['rows']:,})",
        (
            f"{gate['metric']} on {_days(test)} ({test['rows']:,} later flights): {report['model']['estimator']} "
            f"{gate['model']:.3f}, linear baseline {gate['baseline']:.3f} (at least {gate['threshold']} was asked)"
        ),
        f"registered: {report['package']['arn']} ({report['package']['approval']})",
        (
            f"served by {served['endpoint']}: {served['records']:,} held-out flights in {served['requests']} requests; "
            f"{served['late']:,} were late, {served['predicted_late']:,} predicted late, {served['right']:,} predicted right"
        ),
        *(
            f"  {flight['flight']:<22} {flight['time']}  {flight['score']:.2f} → {flight['predicted']:<8} "
            f"truth: {flight['truth']} ({flight['delay']:+d} min)"
            for flight in served["shown"]
        ),
        f"{report['seconds']:.0f} s: {stages}",
    ]
    return "\n" + "\n".join(lines)


def _days(split: Mapping[str, Any]) -> str:
    return f"{split['first'][:10]} to {split['last'][:10]}"


def look_up(report: Any, path: str) -> Any:
    """The value at a dotted path; a part that is a number indexes a list."""
    for part in path.split("."):
        report = report[int(part)] if isinstance(report, list) else report[part]
    return report


def shown(value: object, form: str = "") -> str:
    """A value as the page and the summary print it: thousands separated, `form` a format for numbers."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if form:
        return format(value, form)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _replace(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.part")
    temporary.write_bytes(content)
    temporary.replace(path)
