"""Crawls: what lies in S3 becomes tables and partitions of the catalog, read and written as the crawler's role.

One include path is one table (`CombineCompatibleSchemas`), changed in place, never taken away: what our templates ask
for. A crawler that asks for anything else does not start.
Sources: "Crawler" (API Reference), "Crawler configuration", "Glue Crawler State Change" (EventBridge Events Reference).
"""

from __future__ import annotations

import datetime as dt
import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import ClientError

from local.cloud import events, roles, seams
from local.cloud.glue import work
from local.cloud.glue.work import Work
from local.cloud.place import ACCOUNT
from local.cloud.protocol import ApiError

Table = dict[str, Any]

_starting = threading.Lock()
PARTITIONS_A_CALL = 100  # "BatchCreatePartition"
_COUNTS = ("tablesCreated", "tablesUpdated", "partitionsCreated", "partitionsUpdated")
# Setting → what it must be for one path to be one table that stays.
_SUPPORTED: Mapping[str, tuple[Callable[[Mapping[str, Any]], Any], Any]] = {
    "targets other than S3": (lambda c: [kind for kind, of in c["Targets"].items() if of], ["S3Targets"]),
    "Classifiers": (lambda c: c.get("Classifiers") or [], []),
    "RecrawlPolicy.RecrawlBehavior": (
        lambda c: c.get("RecrawlPolicy", {}).get("RecrawlBehavior", "CRAWL_EVERYTHING"),
        "CRAWL_EVERYTHING",
    ),
    "SchemaChangePolicy.UpdateBehavior": (
        lambda c: c.get("SchemaChangePolicy", {}).get("UpdateBehavior", "UPDATE_IN_DATABASE"),
        "UPDATE_IN_DATABASE",
    ),
    "SchemaChangePolicy.DeleteBehavior": (
        lambda c: c.get("SchemaChangePolicy", {}).get("DeleteBehavior", "DEPRECATE_IN_DATABASE"),
        "LOG",
    ),
    "Configuration.Grouping.TableGroupingPolicy": (
        lambda c: _configuration(c).get("Grouping", {}).get("TableGroupingPolicy"),
        "CombineCompatibleSchemas",
    ),
}
# Format → input format, output format, SerDe ("Built-in classifiers"; Hive's names).
_HIVE = "org.apache.hadoop.hive.ql.io"
_TEXT = ("org.apache.hadoop.mapred.TextInputFormat", f"{_HIVE}.HiveIgnoreKeyTextOutputFormat")
_FORMATS = {
    "csv": (*_TEXT, "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe"),
    "json": (*_TEXT, "org.openx.data.jsonserde.JsonSerDe"),
    "parquet": (
        f"{_HIVE}.parquet.MapredParquetInputFormat",
        f"{_HIVE}.parquet.MapredParquetOutputFormat",
        f"{_HIVE}.parquet.serde.ParquetHiveSerDe",
    ),
}


class CrawlError(Exception):
    """A crawl that fails by the crawler's own rules."""


def start(of: Work, name: str, ended: Callable[[str], None] = lambda _: None) -> None:
    """Begin a crawl; `ended` is told SUCCEEDED, FAILED or CANCELLED when it is over and the crawler is READY."""
    crawler = known(name)
    if beyond := [
        f"{setting}: {value!r} is unsupported in the embedded cloud, set {supported!r}."
        for setting, (given, supported) in _SUPPORTED.items()
        if (value := given(crawler)) != supported
    ]:
        raise ApiError("InvalidInputException", " ".join(beyond))
    with _starting:
        if crawler["State"] != "READY":
            raise ApiError("CrawlerRunningException", f"Crawler with name {name} has already started")
        crawler["State"] = "RUNNING"
    of.start(f"crawl {name}", _crawl, of, crawler, ended)


def stop(name: str) -> None:
    """Ask a running crawl to end."""
    crawler = known(name)
    if crawler["State"] != "RUNNING":
        raise ApiError("CrawlerNotRunningException", f"Crawler with name {name} isn't running")
    crawler["State"] = "STOPPING"


def known(name: str) -> dict[str, Any]:
    """MiniStack's record of the crawler."""
    return work.known(seams.glue._crawlers, name, f"Crawler with name {name} does not exist")


def _crawl(of: Work, crawler: dict[str, Any], ended: Callable[[str], None]) -> None:
    name, began = crawler["Name"], time.time()
    _tell(name, "Started", {})
    stream = f"{name}-{dt.datetime.now(dt.UTC):%Y%m%dT%H%M%S}"
    last = {"StartTime": began, "LogGroup": _log_group(crawler), "LogStream": name, "MessagePrefix": stream}
    counts = dict.fromkeys(_COUNTS, 0)
    try:
        _catalog(of, crawler, last, counts)
        last["Status"] = "SUCCEEDED"
    except work.StoppedError:
        last["Status"] = "CANCELLED"
    except Exception as error:  # noqa: BLE001 - whatever happens, a crawl ends and says why
        last |= {"Status": "FAILED", "ErrorMessage": str(error)}
    elapsed = time.time() - began
    # READY last: whoever waits for it finds the crawl's end.
    crawler |= {"LastCrawl": last, "CrawlElapsedTime": round(elapsed * 1000)}
    crawler["State"] = "READY"
    if last["Status"] == "SUCCEEDED":
        more = {key: str(count) for key, count in counts.items()} | {"runningTime": f"{elapsed:.0f} (sec)"}
        _tell(name, "Succeeded", more)
    elif last["Status"] == "FAILED":
        _tell(name, "Failed", {"errorMessage": last["ErrorMessage"]})
    ended(last["Status"])


def _catalog(of: Work, crawler: dict[str, Any], last: Mapping[str, Any], counts: dict[str, int]) -> None:
    """Infer and write; everything with the rights of the crawler's role."""
    session = roles.assume(work.role_arn(crawler["Role"]), "glue", "AWS-Crawler")
    glue = session.client("glue", of.cloud.place)
    log = of.log(session, last["LogGroup"], last["LogStream"], crawler.get("CrawlerSecurityConfiguration"))
    try:
        log.write(f"[{last['MessagePrefix']}] BENCHMARK : Running Start Crawl for Crawler {crawler['Name']}")
        targets = crawler["Targets"]["S3Targets"]
        found = of.ask(
            "infer", {"targets": targets}, session, stop=lambda: bool(crawler["State"] == "STOPPING")
        )
        tables = [_table(crawler, table) | {"found": table} for table in found if table]
        _stay_below(_configuration(crawler), len(tables))
        database = crawler["DatabaseName"]
        glue.get_database(Name=database)
        for table in tables:
            inferred = table.pop("found")
            for object_and_reason in inferred["left_out"]:
                log.write(f"[{last['MessagePrefix']}] WARN : Left out {object_and_reason}")
            _write_table(glue, database, table, counts)
            _write_partitions(glue, database, table, inferred, counts)
            log.write(
                f"[{last['MessagePrefix']}] INFO : Table {table['Name']} in database {database} is current"
            )
        log.write(f"[{last['MessagePrefix']}] BENCHMARK : Crawler has finished running and is in state READY")
    except Exception as error:
        log.write(f"[{last['MessagePrefix']}] ERROR : {error}")
        raise
    finally:
        log.close()


def _stay_below(configuration: Mapping[str, Any], tables: int) -> None:
    limit = configuration.get("CrawlerOutput", {}).get("Tables", {}).get("TableThreshold")
    if limit is not None and tables > limit:
        raise CrawlError(
            f"The number of tables detected by crawler: {tables} is greater than the table threshold value "
            f"provided: {limit}. Failing crawler without committing changes."
        )


def _table(crawler: Mapping[str, Any], found: Mapping[str, Any]) -> Table:
    """A table of the catalog as a crawler writes it."""
    folder = found["path"].rstrip("/").rpartition("/")[2]
    parameters = {
        "UPDATED_BY_CRAWLER": crawler["Name"],
        "CrawlerSchemaDeserializerVersion": "1.0",
        "CrawlerSchemaSerializerVersion": "1.0",
        "classification": found["format"],
        "compressionType": "gzip" if found["compressed"] else "none",
        "typeOfData": "file",
        "objectCount": str(found["objects"]),
        "sizeKey": str(found["size"]),
        "averageRecordSize": str(found["average"]),
        "recordCount": str(found["size"] // found["average"]),
    }
    reading, writing, library = _FORMATS[found["format"]]
    details = {"serialization.format": "1"}
    if found["format"] == "csv":
        details = {"field.delim": found["delimiter"]}
        parameters |= {
            "areColumnsQuoted": "false",
            "columnsOrdered": "true",
            "delimiter": found["delimiter"],
            "skip.header.line.count": "1",
        }
    elif found["format"] == "json":
        details = {"paths": ",".join(column["Name"] for column in found["columns"])}
    return {
        "Name": crawler.get("TablePrefix", "") + re.sub(r"[^0-9a-z_]", "_", folder.lower()),
        "Owner": "owner",
        "TableType": "EXTERNAL_TABLE",
        "PartitionKeys": [{"Name": key, "Type": "string"} for key in found["keys"]],
        "Parameters": parameters,
        "StorageDescriptor": {
            "Columns": found["columns"],
            "Location": found["path"],
            "InputFormat": reading,
            "OutputFormat": writing,
            "Compressed": found["compressed"],
            "NumberOfBuckets": -1,
            "SerdeInfo": {"SerializationLibrary": library, "Parameters": details},
            "Parameters": parameters,
            "StoredAsSubDirectories": False,
        },
    }


def _write_table(glue: Any, database: str, table: Table, counts: dict[str, int]) -> None:
    try:
        old = glue.get_table(DatabaseName=database, Name=table["Name"])["Table"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "EntityNotFoundException":
            raise
        glue.create_table(DatabaseName=database, TableInput=table)
        counts["tablesCreated"] += 1
    else:
        if any(old.get(key) != value for key, value in table.items()):
            glue.update_table(DatabaseName=database, TableInput=table)
            counts["tablesUpdated"] += 1


def _write_partitions(
    glue: Any, database: str, table: Table, found: Mapping[str, Any], counts: dict[str, int]
) -> None:
    """Add what is new; a partition inherits everything but its place from the table (`InheritFromTable`)."""
    wanted = {
        tuple(partition["values"]): {
            "Values": partition["values"],
            "Parameters": table["Parameters"],
            "StorageDescriptor": table["StorageDescriptor"]
            | {"Location": found["path"].rstrip("/") + "/" + partition["folder"]},
        }
        for partition in found["partitions"]
    }
    if not wanted:
        return
    name = {"DatabaseName": database, "TableName": table["Name"]}
    pages = glue.get_paginator("get_partitions").paginate(**name)
    old = {tuple(item["Values"]): item for page in pages for item in page["Partitions"]}
    new = [partition for values, partition in wanted.items() if values not in old]
    changed = [
        partition
        for values, partition in wanted.items()
        if values in old and old[values]["StorageDescriptor"] != partition["StorageDescriptor"]
    ]
    for at in range(0, len(new), PARTITIONS_A_CALL):
        glue.batch_create_partition(**name, PartitionInputList=new[at : at + PARTITIONS_A_CALL])
    for at in range(0, len(changed), PARTITIONS_A_CALL):
        entries = [
            {"PartitionValueList": partition["Values"], "PartitionInput": partition}
            for partition in changed[at : at + PARTITIONS_A_CALL]
        ]
        glue.batch_update_partition(**name, Entries=entries)
    counts["partitionsCreated"] += len(new)
    counts["partitionsUpdated"] += len(changed)


def _configuration(crawler: Mapping[str, Any]) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(crawler.get("Configuration") or "{}")
    return read


def _log_group(crawler: Mapping[str, Any]) -> str:
    """As for jobs: a security configuration gives a role's logs a group of their own."""
    if not (configuration := crawler.get("CrawlerSecurityConfiguration")):
        return "/aws-glue/crawlers"
    return f"/aws-glue/crawlers-{crawler['Role'].rpartition('/')[2]}-{configuration}"


def _tell(name: str, state: str, more: Mapping[str, str]) -> None:
    detail = {
        "accountId": ACCOUNT,
        "crawlerName": name,
        "state": state,
        "message": f"Crawler {state}",
    }
    if state != "Started":
        detail["completionDate"] = f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
    events.emit("aws.glue", "Glue Crawler State Change", detail | dict(more))
