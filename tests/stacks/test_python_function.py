"""Facts of every function of the app, and of the archive they run from."""

import importlib
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stacks import python_function
from tools.assembly import Assembly, Resource, Template


def functions(assembly: Assembly) -> Iterator[tuple[Template, Resource]]:
    for template in assembly.templates.values():
        for resource in template.resources("AWS::Lambda::Function").values():
            yield template, resource


def archive(assembly: Assembly) -> Path:
    """The unpacked asset that the functions run from: one for all of them."""
    (key,) = {function["Properties"]["Code"]["S3Key"] for _, function in functions(assembly)}
    return assembly.path / f"asset.{key.removesuffix('.zip')}"


def test_every_handler_exists(each_assembly: Assembly) -> None:
    handlers = [function["Properties"]["Handler"] for _, function in functions(each_assembly)]
    assert len(handlers) >= 3
    for handler in handlers:
        module, name = handler.rsplit(".", 1)
        assert callable(getattr(importlib.import_module(module), name)), handler


def test_functions_are_traced_on_one_runtime(each_assembly: Assembly) -> None:
    for _, function in functions(each_assembly):
        properties = function["Properties"]
        assert (properties["Runtime"], properties["Architectures"]) == ("python3.13", ["arm64"])
        assert properties["TracingConfig"] == {"Mode": "Active"}


def test_powertools_comes_from_the_public_layer_for_runtime_and_architecture(each_assembly: Assembly) -> None:
    for _, function in functions(each_assembly):
        (layer,) = function["Properties"]["Layers"]
        arn = "".join(part if isinstance(part, str) else f"<{part['Ref']}>" for part in layer["Fn::Join"][1])
        assert arn == (
            "arn:<AWS::Partition>:lambda:<AWS::Region>:017000801446:layer:"
            "AWSLambdaPowertoolsPythonV3-python313-arm64:37"
        )


def test_the_layer_is_of_the_major_version_the_tests_run_with() -> None:
    installed = version("aws-lambda-powertools").split(".")[0]
    assert f"PythonV{installed}-" in python_function.POWERTOOLS_LAYER


def test_a_function_writes_to_its_own_log_group_and_to_no_other(each_assembly: Assembly) -> None:
    for template, function in functions(each_assembly):
        group = function["Properties"]["LoggingConfig"]["LogGroup"]["Ref"]
        assert template.resources()[group]["Type"] == "AWS::Logs::LogGroup"
        role = function["Properties"]["Role"]["Fn::GetAtt"][0]
        writes = [
            statement["Resource"]
            for policy in template.resources("AWS::IAM::Policy").values()
            if {"Ref": role} in policy["Properties"]["Roles"]
            for statement in policy["Properties"]["PolicyDocument"]["Statement"]
            if "logs:PutLogEvents" in statement["Action"]
        ]
        assert writes == [{"Fn::GetAtt": [group, "Arn"]}]


def test_functions_are_in_the_network_where_the_stage_is_isolated(
    assembly: Callable[[str], Assembly],
) -> None:
    assert all("VpcConfig" not in function["Properties"] for _, function in functions(assembly("sandbox")))
    for _, function in functions(assembly("production")):
        network = function["Properties"]["VpcConfig"]
        assert len(network["SubnetIds"]) == 3
        assert len(network["SecurityGroupIds"]) == 1


def test_no_function_reserves_concurrency(each_assembly: Assembly) -> None:
    assert all("ReservedConcurrentExecutions" not in f["Properties"] for _, f in functions(each_assembly))


def test_the_archive_holds_the_functions_and_what_they_import_and_nothing_else(
    assembly: Callable[[str], Assembly],
) -> None:
    root = archive(assembly("sandbox"))
    found = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    outside = {name for name in found if not name.startswith("lambdas/")}
    assert outside == {"pipeline/__init__.py", "pipeline/schema.py", "pipeline/schemas/flights.json"}
    assert all(name.endswith((".py", ".json")) for name in found), "bytecode would change the hash"


def test_the_archive_alone_is_enough_to_import_every_handler(
    assembly: Callable[[str], Assembly], tmp_path: Path
) -> None:
    root = archive(assembly("sandbox"))
    modules = sorted(
        {f["Properties"]["Handler"].rsplit(".", 1)[0] for _, f in functions(assembly("sandbox"))}
    )
    program = (
        f"import sys, json; sys.path.insert(0, {str(root)!r})\n"
        f"import {', '.join(modules)}, pipeline.schema\n"
        "pipeline.schema.load('flights')\n"
        "print(json.dumps([module.__file__ for name, module in sys.modules.items()"
        " if name.split('.')[0] in ('lambdas', 'pipeline')]))"
    )
    completed = subprocess.run(
        [sys.executable, "-P", "-B", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    files: list[Any] = json.loads(completed.stdout)
    assert all(Path(file).is_relative_to(root) for file in files)


def test_a_functions_own_code_touches_no_network_interface(assembly: Callable[[str], Assembly]) -> None:
    for template, function in functions(assembly("production")):
        role = function["Properties"]["Role"]["Fn::GetAtt"][0]
        statements = [
            statement
            for policy in template.resources("AWS::IAM::Policy").values()
            if {"Ref": role} in policy["Properties"]["Roles"]
            for statement in policy["Properties"]["PolicyDocument"]["Statement"]
            if "ec2:CreateNetworkInterface" in statement["Action"]
        ]
        allowed, denied = sorted(statements, key=lambda statement: str(statement["Effect"]))
        assert (allowed["Effect"], denied["Effect"]) == ("Allow", "Deny")
        network = {action for action in allowed["Action"] if action.startswith("ec2:")}
        assert set(denied["Action"]) == network
        assert list(denied["Condition"]["ArnLike"]) == ["lambda:SourceFunctionArn"]
