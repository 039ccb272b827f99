"""Where the embedded cloud lives: its folder, its port, and the environment in which any AWS client finds it."""

from __future__ import annotations

import dataclasses
import os
import socket
import sys
import threading
from pathlib import Path
from typing import Any, Literal, Self, get_args

ROOT = Path(__file__).resolve().parents[2]
ACCOUNT, REGION = "000000000000", "us-east-1"
PORT = 4566
Rollback = Literal["told", "silent"]
ROLLBACKS = get_args(Rollback)
ROOT_KEYS = ("test", "test", None)  # the cloud takes them from anybody
_making = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Place:
    """One cloud: everything it writes lies under `folder`, and it listens on 127.0.0.1:`port` only.

    `factor` scales time: a wait of ten minutes takes 600 / factor seconds (see `local.cloud.clock`). `rollback` says
    whether CloudFormation is told when SageMaker rolls an endpoint back, or believes that its update succeeded: both
    happen on AWS.
    """

    folder: Path
    port: int = PORT
    factor: float = 60.0
    rollback: Rollback = "told"

    @property
    def url(self) -> str:
        """The endpoint for every service."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def certificate(self) -> Path:
        """The self-signed certificate, which is its own authority."""
        return self.folder / "tls" / "certificate.pem"

    @property
    def private_key(self) -> Path:
        """The certificate's key."""
        return self.folder / "tls" / "key.pem"

    @property
    def pid_file(self) -> Path:
        """Locked by the server while it lives; holds its process id."""
        return self.folder / "pid"

    @property
    def log(self) -> Path:
        """What the server prints."""
        return self.folder / "server.log"

    @classmethod
    def on_free_port(cls, folder: Path, factor: float = 60.0, rollback: Rollback = "told") -> Self:
        """A place on a port of 127.0.0.1 that nobody listens on."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return cls(folder, probe.getsockname()[1], factor, rollback)

    def client(self, service: str, keys: tuple[str, str, str | None] = ROOT_KEYS, config: Any = None) -> Any:
        """A boto3 client of this cloud: the root user's, or of access key id, secret and token."""
        import boto3  # noqa: PLC0415 - starting and stopping a cloud needs no client

        with _making:  # threads may share a client, but not the session that makes it
            return boto3.client(
                service,
                region_name=REGION,
                endpoint_url=self.url,
                verify=str(self.certificate),
                aws_access_key_id=keys[0],
                aws_secret_access_key=keys[1],
                aws_session_token=keys[2],
                config=config,
            )

    def environment(self) -> dict[str, str]:
        """What a client needs, and nothing of the caller's AWS settings: keys, region, endpoint, certificate, home."""
        home = self.folder / "home"  # the CDK CLI and boto3 read and write theirs there
        authority = str(self.certificate)
        path = [
            str(ROOT / "local" / "cloud" / "bin"),  # aws
            str(Path(sys.executable).parent),
            os.environ.get("PATH", os.defpath),
        ]
        return {
            "PATH": os.pathsep.join(path),
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "AWS_ACCESS_KEY_ID": ROOT_KEYS[0],  # for the person at the keyboard, never for a job
            "AWS_SECRET_ACCESS_KEY": ROOT_KEYS[1],
            "AWS_DEFAULT_REGION": REGION,
            "AWS_REGION": REGION,
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_ENDPOINT_URL": self.url,
            "AWS_CA_BUNDLE": authority,
            "REQUESTS_CA_BUNDLE": authority,
            "NODE_EXTRA_CA_CERTS": authority,
            "CDK_DISABLE_CLI_TELEMETRY": "true",
            # Else jsii would unpack aws-cdk-lib (100 MB) into every cloud's empty home.
            "JSII_RUNTIME_PACKAGE_CACHE_ROOT": os.environ.get(
                "JSII_RUNTIME_PACKAGE_CACHE_ROOT", str(Path.home() / ".cache/aws/jsii/package-cache")
            ),
        }
