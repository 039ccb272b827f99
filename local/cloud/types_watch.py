"""What watches the rest and CloudFormation lacks here: budgets, and alarms on metric math."""

from __future__ import annotations

import contextlib
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
        delete=_delete_budget,
        required=("Budget",),
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


def _update_budget(name: str, request: Request, old: Properties) -> str:
    """Its name: a budget of another name is a new one."""
    client, budget = request.client("budgets"), _budget(request)
    if budget["BudgetName"] != name:
        return _create_budget(request)
    client.update_budget(AccountId=ACCOUNT, NewBudget=budget)
    arn, tags = f"arn:aws:budgets::{ACCOUNT}:budget/{name}", request.properties.get("ResourceTags", [])
    kept = {tag["Key"] for tag in tags}
    if gone := [tag["Key"] for tag in old.get("ResourceTags", []) if tag["Key"] not in kept]:
        client.untag_resource(ResourceARN=arn, ResourceTagKeys=gone)
    if tags:
        client.tag_resource(ResourceARN=arn, ResourceTags=tags)
    return name


def _delete_budget(name: str, request: Request) -> None:
    client = request.client("budgets")
    with contextlib.suppress(client.exceptions.NotFoundException):
        client.delete_budget(AccountId=ACCOUNT, BudgetName=name)


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
