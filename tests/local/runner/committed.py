"""The committed definitions, filled with samples of what only a deployment knows."""

import json
import re
from typing import Any

from pipeline.schema import SCHEMAS

FOLDER = SCHEMAS.parent / "definitions"
FILES = sorted(path.name for path in FOLDER.glob("*.json"))
PLACEHOLDER = re.compile(r"\$\{([^}]+)\}")
SAMPLES = {
    "AWS::Region": "us-east-1",
    **{
        f"{job}RoleArn": f"arn:aws:iam::123456789012:role/{job}"
        for job in ("Prepare", "Train", "TrainBaseline", "Evaluate", "Model")
    },
    "ImageUri": "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:3.2-0",
    "CodeUri": "s3://assets/0a1b.tar.gz",
    "CuratedUri": "s3://curated/flights",
    "ArtifactsUri": "s3://artifacts/pipeline",
    "KmsKeyArn": "arn:aws:kms:us-east-1:123456789012:key/00000000-0000-0000-0000-000000000000",
    "ModelPackageGroupName": "flights-sandbox",
    "SubnetIds": 'subnet-0a","subnet-0b',  # as CDK joins them
    "SecurityGroupId": "sg-0a",
}


def text(file: str) -> str:
    return (FOLDER / file).read_text()


def filled(file: str) -> dict[str, Any]:
    """The definition in `file` as CloudFormation would hand it to SageMaker."""
    body = PLACEHOLDER.sub(lambda match: SAMPLES[match[1]], text(file))
    definition: dict[str, Any] = json.loads(body)["definition"]
    return definition
