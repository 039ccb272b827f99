"""What watches the rest and CloudFormation lacks here: budgets, and alarms on metric math."""

from __future__ import annotations

from typing import Any

from local.cloud import resources, seams
from local.cloud.place import ACCOUNT
from local.cloud.resources import Properties, Request


def install(_cloud: object) -> None:
    """Register them."""
    resources.register(
        "AWS::Budgets::Budget",
        create=_create_budget,
        update=_update_budget,
        delete=lambda name, request: request.client("budgets").delete_budget(
            AccountId=ACCOUNT, BudgetName=name
        ),
        replacing=("NotificationsWithSubscribers",),
        tags=("ResourceTags", "list"),
    )
    seams.replace(seams.provisioners, "_cw_metric_alarm_record", _Alarm)


def _create_budget(request: Request) -> str:
    budget = _budget(request)
    request.client("budgets").create_budget(
        AccountId=ACCOUNT,
        Budget=budget,
        NotificationsWithSubscribers=request.properties.get("NotificationsWithSubscribers", []),
        ResourceTags=request.properties.get("ResourceTags", []),
    )
    return str(budget["BudgetName"])


def _update_budget(_name: str, request: Request, _old: Properties) -> None:
    request.client("budgets").update_budget(AccountId=ACCOUNT, NewBudget=_budget(request))


def _budget(request: Request) -> dict[str, Any]:
    given = dict(request.properties["Budget"])
    given.setdefault("BudgetName", request.name(limit=100))
    if limit := given.get("BudgetLimit"):
        given["BudgetLimit"] = {**limit, "Amount": str(limit["Amount"])}  # a number in a template
    return given


class _Alarm:
    """The record of an alarm; of one on metric math with all its `Metrics`, which MiniStack refuses."""

    def __init__(self, original: Any) -> None:
        self._original = original

    def __call__(self, name: str, properties: Properties) -> dict[str, Any]:
        metrics = properties.get("Metrics")
        if not metrics:
            plain: dict[str, Any] = self._original(name, properties)
            return plain
        single = {key: value for key, value in properties.items() if key != "Metrics"}
        record = self._original(name, {**single, "MetricName": "-", "Namespace": "-"})
        for absent in ("MetricName", "Namespace", "Statistic", "ExtendedStatistic", "Period", "Unit"):
            del record[absent]
        return {**record, "Dimensions": [], "Metrics": metrics}
