"""The one place where everything that needs a person arrives."""

import aws_cdk as cdk
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from stacks.config import MonitoringConfig


class AlertTopic(sns.Topic):
    """Encrypted, TLS only, open to three publishers of this account (Tasks 4.2 and 4.3).

    A topic policy replaces the default one, so CloudWatch, EventBridge and Budgets are named. EventBridge sends no
    account with its calls to SNS, therefore it has no condition ("Using resource-based policies for EventBridge").
    """

    def __init__(self, scope: Construct, id: str, *, settings: MonitoringConfig, key: kms.IKey) -> None:
        super().__init__(scope, id, master_key=key, enforce_ssl=True)
        account = {"StringEquals": {"aws:SourceAccount": cdk.Aws.ACCOUNT_ID}}
        for service, conditions in (("cloudwatch", account), ("budgets", account), ("events", None)):
            self.add_to_resource_policy(
                iam.PolicyStatement(
                    sid=f"Publish{service.capitalize()}",
                    principals=[iam.ServicePrincipal(f"{service}.amazonaws.com")],
                    actions=["sns:Publish"],
                    resources=[self.topic_arn],
                    conditions=conditions,
                )
            )
        if settings.alarm_email:
            self.add_subscription(subscriptions.EmailSubscription(settings.alarm_email))
