"""One embedded cloud for all tests of this folder, on a free port, in a folder of its own."""

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from local.cloud import lifecycle
from local.cloud.place import ROOT, Place
from tools.assembly import Assembly

Clients = Callable[[str], Any]


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with lifecycle.running(Place.on_free_port(tmp_path_factory.mktemp("cloud"))) as place:
        yield place


@pytest.fixture(scope="session")
def client(cloud: Place) -> Clients:
    """`client("s3")`: as the root user of the shared cloud, from outside."""
    return cloud.client


class Cdk:
    """`cdk("deploy", "--all")`: the real CLI on a prebuilt assembly, in the environment that `make shell` gives."""

    def __init__(self, place: Place, assembly: Assembly) -> None:
        # The CLI writes into the assembly it deploys, and the tests share theirs.
        copy = Path(tempfile.mkdtemp(dir=place.folder)) / "cdk.out"
        self.place, self.assembly = place, Assembly(assembly.stage, shutil.copytree(assembly.path, copy))

    def __call__(self, *arguments: str, succeeds: bool = True) -> str:
        """What it printed, on both streams; fails the test if it does not end as expected."""
        completed = subprocess.run(
            [
                str(ROOT / "node_modules/.bin/cdk"),
                *arguments,
                "--app",
                str(self.assembly.path),
                "--no-notices",
            ],
            cwd=self.place.folder / "work",
            env=self.place.environment() | {"CI": "true", "NO_COLOR": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert (completed.returncode == 0) == succeeds, completed.stdout
        return completed.stdout

    def deploy(self, *stacks: str) -> str:
        """Deploy these stacks, or all."""
        return self("deploy", *(stacks or ["--all"]), "--require-approval", "never")


@pytest.fixture(scope="session")
def deployed(cloud: Place, assembly: Callable[[str], Assembly]) -> Cdk:
    """The sandbox, deployed once into the shared cloud: whoever changes a stack puts it back."""
    cdk = Cdk(cloud, assembly("sandbox"))
    cdk("bootstrap")
    cdk.deploy()
    return cdk
