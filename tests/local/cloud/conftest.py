"""One embedded cloud for all tests of this folder, on a free port, in a folder of its own."""

import socket
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest

from local.cloud import lifecycle
from local.cloud.place import REGION, Place


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with lifecycle.running(Place(tmp_path_factory.mktemp("cloud"), port)) as place:
        yield place


@pytest.fixture(scope="session")
def client(cloud: Place) -> Callable[[str], Any]:
    """`client("s3")`: as the root user, from outside."""

    def get(service: str) -> Any:
        return boto3.client(
            service,
            region_name=REGION,
            endpoint_url=cloud.url,
            verify=str(cloud.certificate),
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    return get
