"""The templates as `npx cdk synth` writes them, and what CloudFormation would make of the values in them.

Nothing that the demo runs is spelled here: the Glue job's script and arguments, the pipeline definition, the buckets
and the model package group all come out of the templates.
"""

import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local.demo import processes
from local.demo.processes import ACCOUNT, REGION
from tools.assembly import ROOT, Assembly, Template

PSEUDO_PARAMETERS = {
    "AWS::AccountId": ACCOUNT,
    "AWS::Region": REGION,
    "AWS::Partition": "aws",
    "AWS::URLSuffix": "amazonaws.com",
}
# What a deployment generates, by type: what Ref gives, and each attribute. {} is the logical id.
GENERATED: Mapping[str, Mapping[str, str]] = {
    "AWS::S3::Bucket": {"Ref": "{}", "Arn": "arn:aws:s3:::{}"},
    "AWS::IAM::Role": {"Ref": "{}", "Arn": f"arn:aws:iam::{ACCOUNT}:role/{{}}"},
    "AWS::KMS::Key": {"Ref": "{}", "Arn": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/{{}}"},
    "AWS::EC2::Subnet": {"Ref": "subnet-{}"},
    "AWS::EC2::SecurityGroup": {"Ref": "sg-{}", "GroupId": "sg-{}"},
}
VARIABLE = re.compile(r"\$\{(!?)([^}]+)\}")


class SynthesisError(Exception):
    """No templates, or a template that does not hold what a deployment needs; the message has the reason."""


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


def pipeline_definition(assembly: Assembly) -> tuple[dict[str, Any], dict[str, str]]:
    """The definition in the Training template, filled as CloudFormation would fill it, and with which values."""
    template = assembly.template("Training")
    properties = template.only("AWS::SageMaker::Pipeline")["Properties"]
    text, variables = properties["PipelineDefinition"]["PipelineDefinitionBody"]["Fn::Sub"]
    values = {name: resolve(assembly, template, value) for name, value in variables.items()}
    definition: dict[str, Any] = json.loads(_substitute(text, values))
    return definition, values


def glue_job(assembly: Assembly, script: str) -> tuple[str, dict[str, str]]:
    """The script's URI and the arguments of the Glue job whose script is the file `script` of `pipeline/`."""
    template = assembly.template("Processing")
    wanted = (ROOT / "pipeline" / script).read_bytes()
    for job in template.resources("AWS::Glue::Job").values():
        uri = resolve(assembly, template, job["Properties"]["Command"]["ScriptLocation"])
        if (assembly.path / f"asset.{uri.rpartition('/')[2]}").read_bytes() == wanted:
            arguments = job["Properties"]["DefaultArguments"]
            return uri, {name: resolve(assembly, template, value) for name, value in arguments.items()}
    raise SynthesisError(
        f"{assembly.path}: no Glue job runs pipeline/{script} as it is now. Synthesize again."
    )


def publish_assets(assembly: Assembly, stack: str, s3: Any) -> None:
    """Put a stack's file assets where its template says they are, as `cdk deploy` does; makes missing buckets."""
    known = {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]}
    for asset in assembly.read(f"{stack}.assets.json")["files"].values():
        path = assembly.path / asset["source"]["path"]
        for destination in asset["destinations"].values():
            bucket = _substitute(destination["bucketName"], {})
            if bucket not in known:
                s3.create_bucket(Bucket=bucket)
                known.add(bucket)
            if path.is_file():
                s3.upload_file(str(path), bucket, destination["objectKey"])


def resolve(assembly: Assembly, template: Template, value: Any) -> str:
    """The text that a value in a template stands for; `SynthesisError` for a function or resource not known here."""
    if isinstance(value, str):
        return value
    function, argument = next(iter(value.items()))
    match function:
        case "Ref" if argument in PSEUDO_PARAMETERS:
            text = PSEUDO_PARAMETERS[argument]
        case "Ref":
            text = _generated(template, argument, "Ref")
        case "Fn::GetAtt":
            text = _generated(template, *argument)
        case "Fn::ImportValue":
            text = _exported(assembly, argument)
        case "Fn::Sub" if isinstance(argument, str):
            text = _substitute(argument, {})
        case "Fn::Join":
            text = str(argument[0]).join(resolve(assembly, template, part) for part in argument[1])
        case "Fn::FindInMap":
            found: Any = template.json["Mappings"]
            for part in argument:
                found = found[resolve(assembly, template, part)]
            text = str(found)
        case _:
            raise SynthesisError(f"{template.stack}: {json.dumps(value)} has no local value.")
    return text


def _generated(template: Template, logical_id: str, attribute: str) -> str:
    kind = template.resources()[logical_id]["Type"]
    form = GENERATED.get(kind, {}).get(attribute)
    if form is None:
        raise SynthesisError(f"{template.stack}.{logical_id}: {attribute} of {kind} has no local value.")
    return form.format(logical_id.lower())


def _exported(assembly: Assembly, name: str) -> str:
    for template in assembly.templates.values():
        for output in template.outputs.values():
            if output.get("Export", {}).get("Name") == name:
                return resolve(assembly, template, output["Value"])
    raise SynthesisError(f"{assembly.path}: no stack exports {name}.")


def _substitute(text: str, variables: Mapping[str, str]) -> str:
    known = {**PSEUDO_PARAMETERS, **variables}

    def fill(match: re.Match[str]) -> str:
        literal, name = match.groups()
        if literal:
            return f"${{{name}}}"
        if name not in known:
            raise SynthesisError(f"${{{name}}} in {text[:80]}…: has no local value.")
        return known[name]

    return VARIABLE.sub(fill, text)
