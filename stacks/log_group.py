"""A log group that is encrypted and keeps nothing for ever."""

from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from constructs import Construct

from stacks.config import FoundationConfig
from stacks.removal_policy import removal_policy


class LogGroup(logs.CfnLogGroup):
    """Our key, an explicit retention and an explicit removal policy (Task 4.1: logs; Task 4.3: encryption).

    A group that Lambda or Firehose makes by itself has none of the three ("Working with log groups and log streams").
    """

    def __init__(self, scope: Construct, id: str, *, settings: FoundationConfig, key: kms.IKey) -> None:
        super().__init__(scope, id, retention_in_days=settings.log_retention_days, kms_key_id=key.key_arn)
        self.apply_removal_policy(removal_policy(settings))
