"""What of the services' APIs the embedded cloud implements itself, and who calls each: docs/operations.md.

An operation enters `local/cloud` only when a template, the pipeline's definition, a documented command or a client that
is documented calls it. A caller is found by the operation's name, as the CLI, boto3 or the SDK spell it: in the
commands of a document, in the code of a module; what comments and prose speak of calls nothing.
"""

import ast
import functools
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import botocore.session
from botocore import xform_name

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "docs" / "operations.md"

# Who calls by boto3 or the CLI. The inventory lists every service after `make destroy`.
SOURCES = (
    *("README.md", "docs/embedded-cloud.md", "tools/*.py", "lambdas/*.py", "pipeline/*.py", "local/*.py"),
    *("local/runner/*.py", "local/demo/*.py", "tests/local/cloud/test_deploy_lifecycle.py"),
)
SDK = {
    "sagemaker/core/resources.py": ("Pipeline", "PipelineExecution", "Model", "EndpointConfig", "Endpoint"),
    "sagemaker/mlops/workflow/pipeline.py": ("Pipeline", "_PipelineExecution"),
}
# What CloudFormation calls for a resource: to make it, to read it, to change it, and to remove it.
HANDLER = "(Create|Register|Put|Describe|Get|Update|Delete|Deregister){}s?"
TAGS = "AddTags|DeleteTags|ListTags|ListTagsForResource"
STEPS = {"Processing": "ProcessingJob", "Training": "TrainingJob"}

LOOK = """
import contextlib, json, pathlib, sys
from local.cloud import extensions, place, protocol, resources
folder = pathlib.Path(sys.argv[1])
with extensions.install(place.Place(folder), folder):
    print(json.dumps({"operations": protocol.OPERATIONS, "types": sorted(resources._threaded)}))
"""

Operation = tuple[str, str]


@functools.cache
def _implemented() -> dict[str, dict[str, list[str]]]:
    with tempfile.TemporaryDirectory() as home:
        variables = dict.fromkeys(("HOME", "TMPDIR", "STATE_DIR", "S3_DATA_DIR"), home)
        python = ROOT / ".venv-cloud" / "bin" / "python"
        command = [str(python), "-c", LOOK, home]
        done = subprocess.run(
            command, cwd=ROOT, env=variables, capture_output=True, text=True, check=True, timeout=60
        )
    found: dict[str, dict[str, list[str]]] = json.loads(done.stdout.splitlines()[-1])
    return found


def implemented() -> list[Operation]:
    """Every operation of ours, with its service."""
    return sorted(
        (service, name) for service, names in _implemented()["operations"].items() for name in names
    )


def types() -> set[str]:
    """The CloudFormation types of ours."""
    return set(_implemented()["types"])


def types_in_use() -> set[str]:
    """The types in the templates of both stages, by their snapshots."""
    snapshots = (ROOT / "tests" / "stacks" / "__snapshots__").glob("*.json")
    templates = [json.loads(file.read_text()) for file in snapshots]
    return {resource["Type"] for template in templates for resource in template["Resources"].values()}


def callers(operations: Sequence[Operation]) -> Mapping[Operation, list[str]]:
    """Who calls each of these operations, in a person's words."""
    spoken = _spoken()
    return {
        operation: list(
            dict.fromkeys(
                [
                    *(label for label, words in spoken if words & _spellings(*operation)),
                    *_by_convention(*operation),
                ]
            )
        )
        for operation in operations
    }


@functools.cache
def _spoken() -> list[tuple[str, set[str]]]:
    return list(_called())


def _called() -> Iterator[tuple[str, set[str]]]:
    for pattern in SOURCES:
        for file in sorted(ROOT.glob(pattern)):
            name = file.relative_to(ROOT).as_posix()
            if file != Path(__file__):
                label = "the inventory after `make destroy`" if name.startswith("tests/") else name
                text = file.read_text()
                yield (
                    label,
                    {it for _, it in commands(text)}
                    if file.suffix == ".md"
                    else names_in_code(ast.parse(text)),
                )
    for module, names in SDK.items():
        [file] = [found for path in sys.path if (found := Path(path) / module).is_file()]
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef) and node.name in names:
                yield f"the SDK's `{node.name.strip('_')}`", names_in_code(node)


def commands(document: str) -> set[tuple[str, str]]:
    """Each `aws <service> <command>`, and what `aws <service> wait` waits for."""
    return set(re.findall(r"\baws ([a-z0-9-]+) (?:wait )?([a-z0-9-]+)", document))


def names_in_code(tree: ast.AST) -> set[str]:
    """The names of several words that the code of a module uses, also as text: `getattr`, and what runs the CLI."""
    for node in ast.walk(tree):
        match node:
            case ast.Expr(value=ast.Constant()):  # a docstring
                node.value = ast.Constant(None)
    return set(re.findall(r"[a-z0-9]+(?:[_-][a-z0-9]+)+", ast.unparse(tree)))


@functools.cache
def _spellings(service: str, name: str) -> set[str]:
    """As boto3, the CLI, and a waiter of the CLI spell it."""
    session = botocore.session.get_session()
    waiters = set()
    if service in session.get_component("data_loader").list_available_services("waiters-2"):
        model = session.get_waiter_model(service)
        waiters = {it for it in model.waiter_names if model.get_waiter(it).operation == name}
    return {xform_name(name), *(xform_name(spelling, "-") for spelling in (name, *waiters))}


def _by_convention(service: str, name: str) -> Iterator[str]:
    for resource_type in sorted(types() & types_in_use()):
        _, owner, kind = resource_type.split("::")
        if owner.lower() in service.replace("-", "") and re.fullmatch(
            HANDLER.format(re.sub("y$", "(y|ie)", kind)), name
        ):
            yield f"`{resource_type}`"
    if re.fullmatch(TAGS, name):
        yield "CloudFormation: the tags of a stack"
    definitions = (ROOT / "pipeline" / "definitions").glob("*.json")
    steps = {step for file in definitions for step in re.findall(r'"Type": ?"(\w+)"', file.read_text())}
    for step in sorted(steps & STEPS.keys()):
        if re.fullmatch(f"(Create|Describe|Stop){STEPS[step]}", name):
            yield f"the definition: {step}"


def page() -> str:
    """The document: one line an operation."""
    lines = [
        "# The operations of the embedded cloud",
        "",
        "What `local/cloud` implements itself, and who calls it; whatever else is asked of these services there answers",
        "that it is unsupported (Glue's catalog and definitions are MiniStack's). Written by `make operations`.",
        "",
        "| Service | Operation | Called by |",
        "|---|---|---|",
    ]
    found = callers(implemented())
    lines += [f"| {service} | {name} | {', '.join(by)} |" for (service, name), by in found.items()]
    return "\n".join(lines) + "\n"


def orphans(operations: Sequence[Operation]) -> list[str]:
    """What nobody calls, and has no place here."""
    return [f"{service}: {name}" for (service, name), by in callers(operations).items() if not by]


def main() -> None:
    """Write the document."""
    TABLE.write_text(page())
    print(f"Written: {TABLE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
