"""AWS's XGBoost image, in whatever region the stack is deployed to."""

import json
from pathlib import Path

import aws_cdk as cdk
from constructs import Construct

from stacks.foundation.model_role import IMAGE_REPOSITORY

# Derived from the SageMaker SDK (`image_uri_config/xgboost.json`, version 3.2-0); a test compares it with the SDK's.
REGISTRIES = Path(__file__).parent / "registries.json"
TAG = "3.2-0"


class XGBoostImage(Construct):
    """AWS keeps the image in an account of its own in each region: a mapping finds it (Tasks 2.2 and 3.2: ECR).

    A mapping and no look-up at synth: the template holds for every region, and one that AWS does not serve fails at
    deploy with its name. The tag is pinned, because `latest` would change a model without a commit.
    """

    def __init__(self, scope: Construct, id: str) -> None:
        super().__init__(scope, id)
        accounts: dict[str, str] = json.loads(REGISTRIES.read_text())
        mapping = cdk.CfnMapping(
            self, "Registries", mapping={region: {"Account": account} for region, account in accounts.items()}
        )
        self._account = mapping.find_in_map(cdk.Aws.REGION, "Account")
        self.uri = f"{self._account}.dkr.ecr.{cdk.Aws.REGION}.{cdk.Aws.URL_SUFFIX}/{IMAGE_REPOSITORY}:{TAG}"

    @property
    def repository_arn(self) -> str:
        """The repository, for the permission to pull from it."""
        return cdk.Stack.of(self).format_arn(
            service="ecr", account=self._account, resource="repository", resource_name=IMAGE_REPOSITORY
        )
