"""The model registry: groups, their versions, approval; each change is an event that the release function hears."""

from __future__ import annotations

from collections import Counter

from local.cloud import events
from local.cloud.protocol import Caller, Operation, arn
from local.cloud.sagemaker.store import (
    Record,
    Store,
    authorize_create,
    invalid,
    iso,
    now,
    page,
)

_UNSUPPORTED = ("ModelPackageName", "SourceAlgorithmSpecification", "ValidationSpecification")


def operations(store: Store) -> dict[str, Operation]:
    """The registry's part of the API."""
    registry = _Registry(store)
    return {
        "CreateModelPackageGroup": registry.create_group,
        "DescribeModelPackageGroup": registry.describe_group,
        "ListModelPackageGroups": registry.list_groups,
        "DeleteModelPackageGroup": registry.delete_group,
        "CreateModelPackage": registry.create,
        "DescribeModelPackage": registry.describe,
        "ListModelPackages": registry.list_versions,
        "UpdateModelPackage": registry.update,
        "DeleteModelPackage": registry.delete,
    }


def group_arn(name: str) -> str:
    """The ARN of a group, given its name or its ARN."""
    return name if name.startswith("arn:") else arn("sagemaker", f"model-package-group/{name}")


class _Registry:
    """Versions are numbered per group and never again, even if one is deleted."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._versions: Counter[str] = Counter()
        self._by_token: dict[str, str] = {}

    def create_group(self, caller: Caller, request: Record) -> Record:
        tags, resource = request.pop("Tags", []), group_arn(request["ModelPackageGroupName"])
        authorize_create(caller, "CreateModelPackageGroup", resource, tags)
        record = request | {
            "ModelPackageGroupArn": resource,
            "CreatedBy": {},
            "ModelPackageGroupStatus": "Completed",
        }
        self._store.add(resource, record, tags, exists=f"Model Package Group already exists: {resource}")
        self._versions.pop(request["ModelPackageGroupName"], None)
        return {"ModelPackageGroupArn": resource}

    def describe_group(self, caller: Caller, request: Record) -> Record:
        resource = group_arn(request["ModelPackageGroupName"])
        caller.authorize("sagemaker:DescribeModelPackageGroup", resource)
        return self._group(resource)

    def list_groups(self, caller: Caller, request: Record) -> Record:
        caller.authorize("sagemaker:ListModelPackageGroups", "*")
        named = request.get("NameContains", "")
        groups = self._store.all("model-package-group").values()
        found, token = page(
            [it for it in groups if named in it["ModelPackageGroupName"]], request, order="Ascending"
        )
        return {
            "ModelPackageGroupSummaryList": [_without(it, "CreatedBy") for it in found],
            "NextToken": token,
        }

    def delete_group(self, caller: Caller, request: Record) -> None:
        resource = group_arn(request["ModelPackageGroupName"])
        caller.authorize("sagemaker:DeleteModelPackageGroup", resource)
        with self._store.lock:
            group = self._group(resource)
            if self._store.all(f"model-package/{group['ModelPackageGroupName']}"):
                raise invalid(
                    f"Model Package Group {resource} cannot be deleted because it still contains Model Packages."
                )
            self._store.remove(resource)

    def create(self, caller: Caller, request: Record) -> Record:
        for name in _UNSUPPORTED:
            if name in request:
                raise invalid(f"{name} is unsupported in the embedded cloud.")
        if "ModelPackageGroupName" not in request:
            raise invalid("Only versions of a group are supported here: give ModelPackageGroupName.")
        resource, tags = group_arn(request["ModelPackageGroupName"]), request.pop("Tags", [])
        caller.authorize("sagemaker:CreateModelPackage", resource)
        group, token = resource.rsplit("/", 1)[1], request.pop("ClientToken", "")
        with self._store.lock:
            if known := self._by_token.get(token):  # a client's own retry
                return {"ModelPackageArn": known}
            version = self._versions[group] + 1
            package = arn("sagemaker", f"model-package/{group}/{version}")
            authorize_create(caller, "CreateModelPackage", package, tags)
            self._group(resource)
            record = {
                "ModelApprovalStatus": "PendingManualApproval",
                "CertifyForMarketplace": False,
                "CreatedBy": {},
                **request,
                "ModelPackageGroupName": group,
                "ModelPackageVersion": version,
                "ModelPackageArn": package,
                "ModelPackageStatus": "Completed",
                "ModelPackageStatusDetails": {"ValidationStatuses": [], "ImageScanStatuses": []},
            }
            self._store.add(package, record, tags)
            self._versions[group] = version
            if token:
                self._by_token[token] = package
        self._tell(package, {})
        return {"ModelPackageArn": package}

    def describe(self, caller: Caller, request: Record) -> Record:
        package = request["ModelPackageName"]
        caller.authorize("sagemaker:DescribeModelPackage", package)
        return self._package(package)

    def list_versions(self, caller: Caller, request: Record) -> Record:
        caller.authorize("sagemaker:ListModelPackages", "*")
        group = request.get("ModelPackageGroupName")
        if group is None:
            raise invalid("Only versions of a group are supported here: give ModelPackageGroupName.")
        self._group(group_arn(group))
        status = request.get("ModelApprovalStatus")
        records = self._store.all(f"model-package/{group.rsplit('/', 1)[-1]}").values()
        found, token = page(
            [it for it in records if status in {None, it["ModelApprovalStatus"]}],
            request,
            order="Ascending",
            supported=("ModelPackageGroupName", "ModelApprovalStatus"),
        )
        return {"ModelPackageSummaryList": [_summary(it) for it in found], "NextToken": token}

    def update(self, caller: Caller, request: Record) -> Record:
        package = request.pop("ModelPackageArn")
        status = request.get("ModelApprovalStatus")
        caller.authorize(
            "sagemaker:UpdateModelPackage",
            package,
            {"sagemaker:ModelApprovalStatus": status} if status else {},
        )
        request.pop("ClientToken", None)  # the same update twice is the same
        removed = request.pop("CustomerMetadataPropertiesToRemove", [])
        unknown = set(request) - {"ModelApprovalStatus", "ApprovalDescription", "CustomerMetadataProperties"}
        if unknown:
            raise invalid(f"{min(unknown)} is unsupported in the embedded cloud.")
        with self._store.lock:
            old = self._package(package).get("CustomerMetadataProperties", {})
            if removed or "CustomerMetadataProperties" in request:
                kept = {**old, **request.get("CustomerMetadataProperties", {})}
                request["CustomerMetadataProperties"] = {
                    key: value for key, value in kept.items() if key not in removed
                }
            self._store.change(package, {**request, "LastModifiedBy": {}})
        self._tell(package, {"UpdatedModelPackageFields": sorted(request)})
        return {"ModelPackageArn": package}

    def delete(self, caller: Caller, request: Record) -> None:
        package = request["ModelPackageName"]
        caller.authorize("sagemaker:DeleteModelPackage", package)
        self._package(package)
        self._store.remove(package)

    def _group(self, resource: str) -> Record:
        return self._store.get(resource, missing=f"ModelPackageGroup {resource} does not exist.")

    def _package(self, resource: str) -> Record:
        return self._store.get(resource, missing=f"ModelPackage {resource} does not exist.")

    def _tell(self, package: str, more: Record) -> None:
        """The event "SageMaker Model Package State Change", in the shape of the SageMaker Developer Guide."""
        record = {"LastModifiedTime": now(), **self._package(package)}
        detail = iso(_without(record, "CreatedBy", "LastModifiedBy")) | more
        events.emit("aws.sagemaker", "SageMaker Model Package State Change", detail, [package])


def _without(record: Record, *names: str) -> Record:
    return {name: value for name, value in record.items() if name not in names}


def _summary(record: Record) -> Record:
    names = ("GroupName", "Version", "Arn", "Description", "Status")
    summary = {f"ModelPackage{name}": record.get(f"ModelPackage{name}") for name in names}
    summary |= {name: record[name] for name in ("CreationTime", "ModelApprovalStatus")}
    return {name: value for name, value in summary.items() if value is not None}
