"""The model registry as the release functions see it: which version should serve, and what became of each."""

import datetime as dt
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

APPROVED, REJECTED = "Approved", "Rejected"

# What can become of an approval; each stands in the version's metadata until the next result replaces it.
IN_SERVICE, WITHDRAWN = "in service", "withdrawn"
ROLLED_BACK, NOT_RELEASED, STUCK = "rolled back", "not released", "stuck"
FAILED = frozenset({ROLLED_BACK, NOT_RELEASED, STUCK})
# Approved, and not tried yet: an alarm that would take it back rings already.
WAITING = "waiting"
# No version's result, and written beside none: the endpoint runs what its stack does not believe, and nobody mends it.
DIFFERS = "differs"

# The keys of `CustomerMetadataProperties` that are ours.
RESULT_KEY, AT_KEY, REASON_KEY = "rollout", "rollout-at", "rollout-reason"


@dataclass(frozen=True)
class Version:
    """A version of the group; `result` is one of the words above, or empty; `at` its UTC time in ISO 8601, `reason` its why."""

    arn: str
    status: str
    result: str
    at: str
    reason: str

    @property
    def group(self) -> str:
        """The name of its model package group."""
        return self.arn.split("/")[-2]

    @property
    def number(self) -> int:
        """Its number in the group."""
        return int(self.arn.rsplit("/", 1)[-1])

    def after(self, time: str) -> str:
        """`time`, or a second after what is written already: what waited for a result counts from that result on."""
        if time > self.at:
            return time
        return f"{dt.datetime.fromisoformat(self.at) + dt.timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}"

    @property
    def releasable(self) -> bool:
        """Approved, and not failed since: an approval is tried once, or a bad model would come back for ever."""
        return self.status == APPROVED and self.result not in FAILED


def find(sagemaker: Any, arn: str) -> Version | None:
    """The version as it is now, or None if there is no such version (any more)."""
    if not arn:
        return None
    try:
        found = sagemaker.describe_model_package(ModelPackageName=arn)
    except ClientError as error:
        # DescribeModelPackage has no error of its own for a version that does not exist.
        if error.response["Error"]["Code"] == "ValidationException":
            return None
        raise
    written = found.get("CustomerMetadataProperties", {})
    result, at, reason = (written.get(key, "") for key in (RESULT_KEY, AT_KEY, REASON_KEY))
    return Version(arn, found["ModelApprovalStatus"], result, at, reason)


def withdrawn(package: str, version: Version | None) -> bool:
    """Whether `package`, which is `version` if there still is one, has been rejected or deleted; "" never was."""
    return bool(package) and (version is None or version.status == REJECTED)


def wanted(sagemaker: Any, group: str, *, named: Iterable[str] = ()) -> Version | None:
    """What should serve: the newest version of the group that is approved and has not failed since, or None.

    A listing may lag behind a change: versions that an event has `named` are looked at even if it misses them.
    """
    pages = sagemaker.get_paginator("list_model_packages").paginate(
        ModelPackageGroupName=group, ModelApprovalStatus=APPROVED
    )
    listed = {item["ModelPackageArn"] for page in pages for item in page["ModelPackageSummaryList"]}
    newest_first = sorted({*listed, *named}, key=lambda arn: -int(arn.rsplit("/", 1)[-1]))
    found = (find(sagemaker, arn) for arn in newest_first)
    return next((version for version in found if version and version.releasable), None)


def superseded(wanted: Version | None, in_service: str, serving: Version | None) -> str | None:
    """Why `wanted` must not be released, or None. `serving` is the version in service as it is now, if it exists."""
    if wanted is None:
        return "nothing is approved that has not failed since"
    if wanted.arn == in_service:
        return "already in service"
    # Numbers count within a group: a version of another one is neither older nor newer.
    if (
        serving
        and serving.status != REJECTED
        and serving.group == wanted.group
        and wanted.number < serving.number
    ):
        return "older than the version in service, which nobody has rejected"
    return None
