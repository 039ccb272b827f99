"""The tables of docs/serving.md, written from what decides: the rules, the rollouts, the prices. `make tables`.

The page itself is written by hand; between a line `<!-- made by make tables: NAME -->` and the next `<!-- end -->` stands
what is made here.
"""

import json
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from stacks.config import ConfigError, load
from stacks.rollout_config import Rolling, Rollout, shares
from stacks.serving_rules import OPTIONS, Feature, Option, Rule
from tools import cost
from tools.assembly import ROOT, Assembly, SynthError, context, synthesize

PAGE = ROOT / "docs" / "serving.md"
BLOCK = re.compile(r"(<!-- made by make tables: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
STAGE = "sandbox"  # an isolated stage takes no serverless endpoint
# How the bill speaks of what an option does for its price, beside logs and metrics.
WORK = ("instance of", "requests to", "run of")
STACKS = ("Serving", "Serverless", "Asynchronous", "Batch", "Experiment")

# What cdk.json's own two rollouts do not show, each for a fleet of four.
EXAMPLES: tuple[Mapping[str, Any], ...] = (
    {
        "strategy": "CANARY",
        "canary": {"unit": "INSTANCES", "value": 1},
        "bake_seconds": 300,
        "termination_wait_seconds": 180,
        "timeout_seconds": 3600,
    },
    {
        "strategy": "LINEAR",
        "step": {"unit": "PERCENT", "value": 25},
        "bake_seconds": 300,
        "termination_wait_seconds": 180,
        "timeout_seconds": 3600,
    },
    {"strategy": "ALL_AT_ONCE", "termination_wait_seconds": 180, "timeout_seconds": 3600},
    {
        "strategy": "ROLLING",
        "batch": {"unit": "PERCENT", "value": 25},
        "rollback_batch": "",
        "bake_seconds": 300,
        "timeout_seconds": 3600,
    },
)
FLEET = 4
_READ: TypeAdapter[Rollout] = TypeAdapter(Rollout)


def combinations() -> str:
    """Each option by each feature: whether they go together, with the number of the reason below."""
    notes: list[Rule] = []
    rows = []
    for feature in Feature:
        cells = []
        for option in Option:
            rule = OPTIONS[option][feature]
            if rule not in notes:
                notes.append(rule)
            cells.append(f"{_word(rule)} ({notes.index(rule) + 1})")
        rows.append([feature.value, *cells])
    reasons = [f"{number}. {_reason(rule)}" for number, rule in enumerate(notes, start=1)]
    return "\n".join([_table(["", *(option.value for option in Option)], rows), "", *reasons])


def _word(rule: Rule) -> str:
    if rule.allowed:
        return "yes"
    return "**no**" if rule.refused_by == "AWS" else "not here"


def _reason(rule: Rule) -> str:
    said = f"{rule.why[0].upper()}{rule.why[1:]}"
    remedy = f" Remedy: {rule.remedy[0].lower()}{rule.remedy[1:]}." if rule.remedy else ""
    return f"{said}.{remedy} *{rule.source}*"


def rollouts() -> str:
    """Which share of the traffic the new fleet has at which time, from `shares`; and the examples as configuration."""
    rows = [
        _rollout(f"`{stage}`", config.serving.rollout, config.serving.instance_count)
        for stage, config in ((stage, load(context(stage))) for stage in cost.STAGES)
    ]
    for number, example in enumerate(EXAMPLES, start=1):
        rows.append(_rollout(f"example {number}", _READ.validate_python(example), FLEET))
    head = [
        "Configuration",
        "Strategy",
        "Instances",
        "Share of the new fleet, from minute",
        "End",
        "Instances at most",
    ]
    listed = [f'"rollout": {json.dumps(example)}' for example in EXAMPLES]
    refused = " and ".join(
        str(number) for number, example in enumerate(EXAMPLES, start=1) if _refused(example)
    )
    note = f"The examples 1 to {len(EXAMPLES)}, of which `{STAGE}` refuses {refused}:"
    return "\n".join([_table(head, rows), "", note, "", "```json", *listed, "```"])


def _refused(example: Mapping[str, Any]) -> bool:
    """Whether the stage of the page, as `cdk.json` has it, cannot take this example."""
    whole = context(STAGE)
    whole["stages"][STAGE]["serving"]["rollout"] = example
    try:
        load(whole)
    except ConfigError:
        return True
    return False


def _rollout(label: str, rollout: Rollout, instances: int) -> list[str]:
    shown, seconds = [], 0
    for share, bake in shares(rollout, instances):
        shown.append(f"{_percent(share)} {_minute(seconds)}")
        seconds += bake
    most = instances + (rollout.batch.instances(instances) if isinstance(rollout, Rolling) else instances)
    return [label, rollout.strategy, str(instances), ", ".join(shown), _minute(seconds), str(most)]


def _percent(share: Fraction) -> str:
    return f"{float(100 * share):g} %"


def _minute(seconds: int) -> str:
    return f"{seconds // 60}:{seconds % 60:02}"


def costs(bill: cost.Bill) -> str:
    """What each option costs while it waits, and by use, in the sandbox with every option listed."""
    rows = []
    for stack in STACKS:
        waits = Counter[str]()
        for line in bill.lines:
            if line.stack == stack and line.what.startswith("ml."):
                waits[line.what] += int(line.quantity)
        used = [use for use in bill.usage if use.stack == stack and use.what.startswith(WORK)]
        rows.append(
            [
                stack,
                f"{bill.a_day(stack, with_model=True):.2f} $",
                ", ".join(f"{count} x {instance}" for instance, count in waits.items()) or "-",
                ", ".join(f"{use.usd:.2f} $ for {use.assumed}" for use in used) or "-",
            ]
        )
    return _table(["Stack", "A day, with a model", "Instances that wait", "By use"], rows)


def _table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def blocks(assembly: Assembly) -> Mapping[str, str]:
    """What is made, by the name under which the page asks for it; the assembly has every option's stack."""
    bill = cost.bill(assembly, cost.load_prices())
    return {"combinations": combinations(), "rollouts": rollouts(), "costs": costs(bill)}


def filled(page: str, made: Mapping[str, str]) -> str:
    """The page with each block as it should be."""
    return BLOCK.sub(lambda found: f"{found[1]}\n{made[found[2]]}\n\n{found[3]}", page)


def main() -> None:
    """Write the tables into the page."""
    try:
        with tempfile.TemporaryDirectory() as out:
            assembly = synthesize(STAGE, Path(out) / STAGE, options=[stack.lower() for stack in STACKS[1:]])
            made = blocks(assembly)
    except (cost.CostError, SynthError) as error:
        sys.exit(str(error))
    PAGE.write_text(filled(PAGE.read_text(), made))
    print(f"Written: {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
