"""From a registered model package to a model directory, by the calls an endpoint's creation makes.

The clients are handed in: the functions know neither an account nor an emulator.
"""

import json
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline import archive
from pipeline import schema as schemas

EXAMPLES: Mapping[str, Any] = {
    "int": 1,
    "float": 1.0,
    "string": "example",
    "timestamp": "2013-01-01 12:00:00",
}


class PackageError(Exception):
    """A model package that cannot be served: the message names it, what is wrong, and the remedy."""


@dataclass(frozen=True)
class ModelPackage:
    """What an endpoint needs of a registered version (DescribeModelPackage), and its approval."""

    arn: str
    version: int
    approval: str
    image: str
    model_data_url: str
    environment: Mapping[str, str]


def latest(sagemaker: Any, group: str) -> str:
    """The ARN of the newest version in a model package group; `PackageError` if there is none."""
    found = sagemaker.list_model_packages(
        ModelPackageGroupName=group, SortBy="CreationTime", SortOrder="Descending", MaxResults=1
    )["ModelPackageSummaryList"]
    if not found:
        raise PackageError(
            f"{group}: no model package is registered. Run the pipeline until its gate passes."
        )
    arn: str = found[0]["ModelPackageArn"]
    return arn


def describe(sagemaker: Any, arn: str) -> ModelPackage:
    """Read one version; `PackageError` if AWS's serving image could not serve it by the program it ships."""
    answer = sagemaker.describe_model_package(ModelPackageName=arn)
    containers = answer.get("InferenceSpecification", {}).get("Containers", [])
    if len(containers) != 1:
        raise PackageError(f"{arn}: has {len(containers)} containers. Register it with exactly one.")
    environment = containers[0].get("Environment", {})
    for name in ("SAGEMAKER_PROGRAM", "SAGEMAKER_SUBMIT_DIRECTORY"):
        if name not in environment:
            raise PackageError(
                f"{arn}: its environment lacks {name}: AWS's image would then ignore the model's own program. "
                f"Set {name} where the package is registered."
            )
    return ModelPackage(
        arn=arn,
        version=answer.get("ModelPackageVersion", 0),
        approval=answer.get("ModelApprovalStatus", "unknown"),
        image=containers[0]["Image"],
        model_data_url=containers[0]["ModelDataUrl"],
        environment=environment,
    )


def download(s3: Any, package: ModelPackage, directory: Path) -> None:
    """Unpack the package's model.tar.gz into `directory`; an archive that reaches outside it is refused."""
    url = urlsplit(package.model_data_url)
    with tempfile.TemporaryFile() as file:
        try:
            s3.download_fileobj(url.netloc, url.path.lstrip("/"), file)
        except s3.exceptions.ClientError as error:
            raise PackageError(f"{package.model_data_url}: {error}. Register the model again.") from error
        file.seek(0)
        try:
            archive.unpack(file, directory)
        except tarfile.TarError as error:
            raise PackageError(f"{package.model_data_url}: cannot be unpacked ({error}).") from error


def probe(model: Path) -> bytes:
    """A JSON request that the model in `model` must answer, made from the schema it ships.

    Each column gets its first allowed value, its minimum, or an example of its type.
    """
    path = model / "schema.json"
    schema = schemas.parse(path.read_text(), source=str(path))
    record = {
        column.name: column.allowed[0]
        if column.allowed
        else EXAMPLES[column.type]
        if column.minimum is None
        else column.minimum
        for column in schema.request_columns
    }
    return json.dumps({"instances": [record]}).encode()
