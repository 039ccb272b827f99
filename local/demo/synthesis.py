"""The templates as `npx cdk synth` writes them: the demo deploys what a person would."""

import os
import sys
from pathlib import Path

from local.demo import processes
from tools.assembly import ROOT, Assembly


class SynthesisError(Exception):
    """No templates; the message has the reason."""


def synthesize(stage: str, out: Path) -> Assembly:
    """Run the project's own CDK CLI with every validator on; raises `SynthesisError` with what it printed."""
    cli = ROOT / "node_modules" / ".bin" / "cdk"
    node = Path(sys.executable).parent / "node"
    for needed in (node, cli):
        if not needed.exists():
            raise SynthesisError(f"{needed} is missing. `make demo` installs it: run that.")
    command = [str(cli), "synth", "--quiet", "--no-notices", "-c", f"stage={stage}", "--output", str(out)]
    completed = processes.run(command, cwd=ROOT, environment=processes.without_account(os.environ))
    if completed.returncode != 0:
        raise SynthesisError(f"cdk synth failed for stage {stage}:\n{completed.stderr.strip()}")
    return Assembly(stage, out)
