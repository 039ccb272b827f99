"""The app as people run it: through the CDK CLI, offline, from any directory, with one line for what went wrong."""

import json
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import aws_cdk
import pytest

from stacks import cli
from tests.support.synth import offline_environment
from tools.assembly import ROOT, Assembly, context, run_app

CDK = ROOT / "node_modules" / ".bin" / "cdk"
STACKS = ["Foundation", "Ingestion", "Processing", "Training", "Serving", "Release", "Monitoring"]
Environment = dict[str, str]


@pytest.fixture
def connections(tmp_path: Path) -> Path:
    return tmp_path / "connections"


@pytest.fixture
def cage(connections: Path) -> Iterator[Environment]:
    """No network, no AWS setting, an empty home: whoever tries to connect is written down."""
    with offline_environment(connections) as environment:
        yield {**environment, "CDK_DISABLE_CLI_TELEMETRY": "true"}


def cdk(environment: Environment, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The pinned CLI, as `npx cdk` runs it."""
    return subprocess.run(
        [str(CDK), *arguments, "--no-notices"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_finding_that_nobody_accepted_fails_the_synth_and_says_what_to_do(
    cage: Environment, tmp_path: Path
) -> None:
    script = tmp_path / "open_bucket.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "import app, aws_cdk as cdk\n"
        "from aws_cdk import aws_s3 as s3\n"
        "app.build = lambda scope: s3.Bucket(cdk.Stack(scope, 'Open'), 'Bucket')\n"
        "app.main()\n"
    )
    completed = run_app(context("sandbox"), tmp_path / "out", environment=cage, app=script)
    assert completed.returncode == 1
    assert "Acknowledge with 'AwsSolutions::AwsSolutions-S1'" in completed.stderr
    assert completed.stderr.rstrip().endswith("accept each with its reason (stacks/acknowledge.py).")
    assert "Traceback" not in completed.stderr


def test_the_app_makes_every_stack(each_assembly: Assembly) -> None:
    assert list(each_assembly.templates) == STACKS


def test_stacks_deploy_in_the_order_that_the_readme_states(each_assembly: Assembly) -> None:
    """Foundation → Ingestion, Processing, Training, Serving → Release → Monitoring."""
    artifacts = each_assembly.manifest["artifacts"]

    def before(stack: str) -> set[str]:
        direct = set(artifacts[stack]["dependencies"]) & set(STACKS)
        return direct.union(*map(before, direct))

    assert before("Foundation") == set()
    assert all("Foundation" in before(stack) for stack in STACKS[1:])
    assert not any({"Release", "Monitoring"} & before(stack) for stack in STACKS[1:5])
    assert "Serving" in before("Release")
    assert before("Monitoring") == set(STACKS) - {"Monitoring"}


def test_stack_names_carry_the_stage(each_assembly: Assembly) -> None:
    names = [
        artifact["properties"]["stackName"]
        for artifact in each_assembly.manifest["artifacts"].values()
        if artifact["type"] == "aws:cloudformation:stack"
    ]
    assert names == [f"flights-{each_assembly.stage}-{stack.lower()}" for stack in STACKS]


def test_cdk_synth_with_another_stage_works_without_network_account_or_home(
    cage: Environment, connections: Path, tmp_path: Path, assembly: Callable[[str], Assembly]
) -> None:
    out = tmp_path / "cdk.out"
    completed = cdk(
        cage, "synth", "--quiet", "--no-validation", "-c", "stage=production", "--output", str(out)
    )
    assert completed.returncode == 0, completed.stderr
    assert connections.read_text() == ""
    through_cli = Assembly("production", out)
    for stack, template in assembly("production").templates.items():
        added = {"CDKMetadata"}  # the CLI asks for this resource, `python app.py` alone does not
        assert through_cli.template(stack).resources().keys() - added == template.resources().keys()


def test_cdk_synth_of_a_wrong_stage_is_one_line_and_fails(cage: Environment) -> None:
    completed = cdk(cage, "synth", "--quiet", "-c", "stage=staging")
    assert completed.returncode == 1
    assert completed.stderr.splitlines() == [
        'cdk.json: stage = "staging": must be one of sandbox, production. Use -c stage=sandbox.',
        f"{json.loads((ROOT / 'cdk.json').read_text())['app']}: Subprocess exited with error 1",
    ]


@pytest.mark.parametrize(
    "attempt",
    [
        (sys.executable, "-c", "import socket; socket.create_connection(('127.0.0.1', 9))"),
        (str(Path(sys.executable).parent / "node"), "-e", "require('net').connect(9)"),
        (str(Path(sys.executable).parent / "node"), "-e", "fetch('http://127.0.0.1:8999')"),
    ],
    ids=["python", "node", "fetch"],
)
def test_the_cage_notices_a_connection(attempt: list[str], cage: Environment, connections: Path) -> None:
    completed = subprocess.run(attempt, env=cage, capture_output=True, text=True, check=False)
    assert completed.returncode != 0
    assert len(connections.read_text().splitlines()) >= 1


def test_the_cli_says_in_one_line_that_an_assembly_is_too_new_for_it(
    cage: Environment, tmp_path: Path, assembly: Callable[[str], Assembly]
) -> None:
    newer = shutil.copytree(assembly("sandbox").path, tmp_path / "newer")
    manifest = json.loads((newer / "manifest.json").read_text())
    (newer / "manifest.json").write_text(json.dumps({**manifest, "version": "999.0.0"}))
    completed = cdk(cage, "list", "--app", str(newer))
    assert completed.returncode == 1
    assert "This CDK CLI is not compatible with the CDK library" in completed.stderr
    assert "    at " not in completed.stderr


def test_the_app_says_which_cli_fits_before_it_builds_anything(cage: Environment, tmp_path: Path) -> None:
    older = {**cage, "CDK_CLI_VERSION": "3.0.0", "CDK_CLI_ASM_VERSION": "43.0.0"}
    completed = run_app(context("sandbox"), tmp_path / "out", environment=older)
    assert completed.returncode == 1
    assert completed.stderr.strip() == (
        f"CDK CLI 3.0.0 reads assembly schema 43.0.0, but aws-cdk-lib {version('aws-cdk-lib')} writes "
        f"{aws_cdk.cloud_assembly_schema.Manifest.version()}. Use the CLI pinned in package.json: npm ci, then npx cdk."
    )
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize("environment", [{}, {"CDK_CLI_ASM_VERSION": "999.1.0"}])
def test_a_cli_that_fits_and_no_cli_at_all_are_fine(environment: Environment) -> None:
    assert cli.complaint(environment) is None


def test_the_pinned_cli_and_library_fit() -> None:
    package = json.loads((ROOT / "package.json").read_text())
    installed = json.loads((ROOT / "node_modules" / "aws-cdk" / "package.json").read_text())
    assert package["devDependencies"]["aws-cdk"] == installed["version"]
    pins = (ROOT / "requirements.txt").read_text()
    assert f"aws-cdk-lib=={version('aws-cdk-lib')} " in pins


def test_cdk_json_sets_every_feature_flag_that_the_library_recommends() -> None:
    """Unlisted, a flag would change templates with an upgrade, unseen."""
    (archive,) = (Path(aws_cdk.__file__).parent / "_jsii").glob("*.tgz")
    with tarfile.open(archive) as contents:
        member = contents.extractfile("package/recommended-feature-flags.json")
        assert member is not None
        recommended = json.load(member)
    listed = context("sandbox")
    assert [flag for flag in recommended if flag not in listed] == []
    # Where we differ, on purpose: one partition, and cross-stack references that CloudFormation protects.
    assert {flag for flag in recommended if listed[flag] != recommended[flag]} == {
        "@aws-cdk/core:target-partitions",
        "@aws-cdk/core:defaultCrossStackReferences",
    }
