"""What SageMaker remembers: one record a resource, by ARN, in the words of the API's own Describe answers."""

from __future__ import annotations

import copy
import datetime as dt
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from local.cloud.place import REGION
from local.cloud.protocol import ApiError, Caller, arn

Record = dict[str, Any]
Tags = Sequence[Mapping[str, str]]


class Store:
    """Records and tags of every kind; whoever reads and then writes holds `lock`, which is for short work only."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._records: dict[str, Record] = {}
        self._tags: dict[str, dict[str, str]] = {}

    def add(self, resource: str, record: Record, tags: Tags = (), *, exists: str = "") -> None:
        """Remember a new resource with its times; `ApiError` with the text `exists` if there is one of this ARN."""
        with self.lock:
            if resource in self._records:
                raise invalid(exists or f"{resource} exists already.")
            self._records[resource] = {"CreationTime": now(), **copy.deepcopy(record)}
            self._tags[resource] = {tag["Key"]: tag["Value"] for tag in tags}

    def find(self, resource: str) -> Record | None:
        """A copy of the resource's record, or None."""
        with self.lock:
            return copy.deepcopy(self._records.get(resource))

    def get(self, resource: str, *, missing: str = "") -> Record:
        """A copy of the resource's record; `ApiError` with the text `missing` if there is none."""
        record = self.find(resource)
        if record is None:
            raise invalid(missing or f"{resource} does not exist.")
        return record

    def change(self, resource: str, values: Record) -> Record:
        """Set some of a record's values, None removes one; what is gone meanwhile stays gone. The changed record."""
        with self.lock:
            record = self._records.get(resource, {})
            record.update(copy.deepcopy(values), LastModifiedTime=now())
            for name in [name for name, value in record.items() if value is None]:
                del record[name]
            return copy.deepcopy(record)

    def remove(self, resource: str) -> None:
        """Forget a resource."""
        with self.lock:
            self._records.pop(resource, None)
            self._tags.pop(resource, None)

    def all(self, kind: str) -> dict[str, Record]:
        """Copies of all records of a kind ("model", "endpoint" …) by ARN, oldest first."""
        prefix = arn("sagemaker", f"{kind}/")
        with self.lock:
            return {name: copy.deepcopy(it) for name, it in self._records.items() if name.startswith(prefix)}

    def tags(self, resource: str) -> dict[str, str]:
        """A resource's tags."""
        with self.lock:
            return dict(self._tags.get(resource, {}))

    def tag(self, resource: str, tags: Tags, remove: Iterable[str] = ()) -> None:
        """Set and remove tags; `ApiError` if there is no such resource."""
        with self.lock:
            self.get(resource)
            self._tags[resource].update({tag["Key"]: tag["Value"] for tag in tags})
            for key in remove:
                self._tags[resource].pop(key, None)

    def tagged(self) -> Iterator[tuple[str, list[dict[str, str]]]]:
        """Every resource with its tags, as the tagging API and `aws:ResourceTag` want them."""
        with self.lock:
            found = {resource: dict(tags) for resource, tags in self._tags.items()}
        for resource, tags in found.items():
            yield resource, as_list(tags)


def operations(store: Store) -> dict[str, Any]:
    """AddTags, DeleteTags, ListTags: the same for every kind."""

    def add(caller: Caller, request: Record) -> Record:
        resource = request["ResourceArn"]
        caller.authorize("sagemaker:AddTags", resource, tag_context(request["Tags"]))
        store.tag(resource, request["Tags"])
        return {"Tags": as_list(store.tags(resource))}

    def delete(caller: Caller, request: Record) -> None:
        caller.authorize(
            "sagemaker:DeleteTags", request["ResourceArn"], {"aws:TagKeys": list(request["TagKeys"])}
        )
        store.tag(request["ResourceArn"], (), request["TagKeys"])

    def list_tags(caller: Caller, request: Record) -> Record:
        caller.authorize("sagemaker:ListTags", request["ResourceArn"])
        store.get(request["ResourceArn"])
        return {"Tags": as_list(store.tags(request["ResourceArn"]))}

    return {"AddTags": add, "DeleteTags": delete, "ListTags": list_tags}


def authorize_create(caller: Caller, action: str, resource: str, tags: Tags) -> None:
    """Raise unless the caller may create the resource with these tags, which needs `AddTags` for this action, too."""
    caller.authorize(f"sagemaker:{action}", resource, tag_context(tags))
    if tags:
        caller.authorize(
            "sagemaker:AddTags", resource, tag_context(tags) | {"sagemaker:TaggingAction": action}
        )


def page(
    found: Sequence[Record],
    request: Mapping[str, Any],
    *,
    order: Literal["Ascending", "Descending"],
    supported: Sequence[str] = (),
) -> tuple[list[Record], str | None]:
    """One page of a listing by time, and the token of the next; `order` is the operation's own unless asked otherwise.

    The defaults of `SortOrder` differ from operation to operation (API Reference). What the request asks beyond order,
    name, size and `supported` is refused.
    """
    known = ("MaxResults", "NextToken", "SortBy", "SortOrder", "NameContains")
    if unknown := sorted(set(request) - {*known, *supported}):
        raise invalid(f"{unknown[0]} is unsupported in the embedded cloud.")
    if request.get("SortBy", "CreationTime") != "CreationTime":
        raise invalid(f"SortBy {request['SortBy']} is unsupported in the embedded cloud: use CreationTime.")
    ordered = sorted(
        found,
        key=lambda record: record["CreationTime"],
        reverse=request.get("SortOrder", order) == "Descending",
    )
    try:
        start = int(request.get("NextToken", "0"))
    except ValueError:
        raise invalid("Invalid NextToken.") from None
    end = start + request.get("MaxResults", 100)
    return ordered[start:end], str(end) if end < len(ordered) else None


def tag_context(tags: Tags) -> dict[str, Any]:
    """The condition keys of a request that sets tags."""
    keys = {f"aws:RequestTag/{tag['Key']}": tag["Value"] for tag in tags}
    return keys | ({"aws:TagKeys": [tag["Key"] for tag in tags]} if tags else {})


def as_list(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags in the API's form."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def invalid(message: str) -> ApiError:
    """The error that SageMaker answers to almost everything."""
    return ApiError("ValidationException", message)


def only(given: Mapping[str, Any], known: Iterable[str], where: str = "") -> None:
    """Raise `ApiError` for a member that is not implemented here."""
    if unknown := set(given) - set(known):
        raise invalid(f"{where}{min(unknown)} is unsupported in the embedded cloud.")


def authorize_volume_key(caller: Caller, key: str) -> None:
    """Volumes are encrypted by a grant of the caller's; a key without an ARN is SageMaker's own."""
    if key.startswith("arn:"):
        for action in ("kms:DescribeKey", "kms:CreateGrant"):
            caller.authorize(action, key, {"kms:ViaService": f"sagemaker.{REGION}.amazonaws.com"})


def now() -> dt.datetime:
    """The present, in whole milliseconds as the API has it."""
    return dt.datetime.now(dt.UTC)


def iso(record: Mapping[str, Any]) -> Record:
    """A record as an event carries it: times as text."""
    return {
        name: value.strftime("%Y-%m-%dT%H:%M:%SZ") if isinstance(value, dt.datetime) else value
        for name, value in record.items()
    }
