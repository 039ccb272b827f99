"""What a month may cost, and a warning before it does."""

from aws_cdk import aws_budgets as budgets
from aws_cdk import aws_sns as sns
from constructs import Construct

from stacks.config import Config

_Budget = budgets.CfnBudget


class MonthlyBudget(Construct):
    """A warning at a share of the limit, and one as soon as the forecast exceeds it (Task 4.2: cost).

    Only what carries the deployment's tag counts, from the day on that somebody activates it as a cost allocation tag
    ("Activating user-defined cost allocation tags"). A budget warns; it stops nothing. Its name is the account's, not
    the region's, so CloudFormation makes one up: the same deployment may stand in two regions.
    """

    def __init__(self, scope: Construct, id: str, *, config: Config, topic: sns.ITopic) -> None:
        super().__init__(scope, id)
        settings = config.monitoring
        tag, deployment = config.deployment_tag
        budget = _Budget(
            self,
            "Budget",
            budget=_Budget.BudgetDataProperty(
                budget_type="COST",
                time_unit="MONTHLY",
                budget_limit=_Budget.SpendProperty(amount=settings.monthly_budget_usd, unit="USD"),
                cost_filters={"TagKeyValue": [f"user:{tag}${deployment}"]},
            ),
            notifications_with_subscribers=[
                _Budget.NotificationWithSubscribersProperty(
                    notification=_Budget.NotificationProperty(
                        notification_type=kind,
                        comparison_operator="GREATER_THAN",
                        threshold=threshold,
                        threshold_type="PERCENTAGE",
                    ),
                    subscribers=[
                        _Budget.SubscriberProperty(subscription_type="SNS", address=topic.topic_arn)
                    ],
                )
                for kind, threshold in (("ACTUAL", settings.budget_alert_percent), ("FORECASTED", 100))
            ],
        )
        # The policy that lets Budgets publish comes with the topic.
        budget.node.add_dependency(topic)
