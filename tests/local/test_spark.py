"""The launcher gives a Glue script its files, takes back what it changed, and takes back nothing when it fails."""

from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from local import spark
from local.runner import process

SCRIPT = """
import os, pathlib, sys
source, target, report = map(pathlib.Path, sys.argv[1:4])
print("read", sorted(path.name for path in source.rglob("*.csv")))
(target / "old.txt").unlink()
(target / "part").mkdir()
(target / "part" / "new.txt").write_text("new")
(target / ".new.txt.crc").write_text("checksum")
report.parent.mkdir(parents=True, exist_ok=True)
report.write_text(os.environ["JAVA_HOME"])
sys.exit(int(sys.argv[4]))
"""


@pytest.fixture
def s3(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        for bucket in ("raw", "curated"):
            client.create_bucket(Bucket=bucket)
        for key in ("batch/a.csv", "batch/deep/b.csv", "batches/not-mine.csv"):
            client.put_object(Bucket="raw", Key=key, Body=b"1")
        for key in ("flights/old.txt", "flights/kept.txt"):
            client.put_object(Bucket="curated", Key=key, Body=b"old")
        yield client


def keys(s3):
    return {item["Key"] for item in s3.list_objects_v2(Bucket="curated").get("Contents", [])}


def run(s3, tmp_path, code=0, **options):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    lines = []
    arguments = ["s3://raw/batch/", "s3://curated/flights", "s3://curated/reports/report.json", str(code)]
    spark.run(
        script, arguments, s3=s3, work=tmp_path / "work", packages=[tmp_path], on_line=lines.append, **options
    )
    return lines


def test_a_job_reads_its_folder_only_and_what_it_changed_comes_back(s3, tmp_path):
    assert run(s3, tmp_path) == ["read ['a.csv', 'b.csv']"]
    assert keys(s3) == {"flights/kept.txt", "flights/part/new.txt", "reports/report.json"}
    report = s3.get_object(Bucket="curated", Key="reports/report.json")["Body"].read().decode()
    assert (Path(report) / "bin" / "java").exists()


def test_a_failed_job_changes_nothing_and_says_what_it_last_said(s3, tmp_path):
    with pytest.raises(spark.SparkJobError, match=r"script.py: exit code 3:\nread \['a.csv', 'b.csv'\]"):
        run(s3, tmp_path, code=3)
    assert keys(s3) == {"flights/old.txt", "flights/kept.txt"}


def test_a_job_that_takes_too_long_is_ended_and_changes_nothing(s3, tmp_path):
    script = tmp_path / "slow.py"
    script.write_text("import time; time.sleep(60)")
    limits = process.Limits(seconds=0.2, stop=lambda: False, grace_seconds=1)
    with pytest.raises(spark.SparkJobError, match="ended by the time limit"):
        spark.run(script, ["s3://curated/flights"], s3=s3, work=tmp_path / "w", packages=[], limits=limits)
    assert keys(s3) == {"flights/old.txt", "flights/kept.txt"}


def test_a_schema_by_path_is_the_one_of_this_folder_and_a_name_stays_a_name(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(spark, "run", lambda _, arguments, **__: given.append(arguments[:2]))
    monkeypatch.chdir(tmp_path)
    for schema in ("my/m.json", "flights"):
        assert spark.main(["--raw", "raw", "--out", "out", "--schema", schema]) == 0
    assert given == [["--schema", str(tmp_path / "my" / "m.json")], ["--schema", "flights"]]


@pytest.mark.parametrize(
    ("lines", "shown"),
    [
        (["at java.lang", "curate: a.csv: no header"], "curate: a.csv: no header"),
        (["at java.lang"], "exit code 1"),
    ],
    ids=["it said why", "it did not"],
)
def test_a_job_that_said_why_it_failed_is_quoted_without_spark_s_log(lines, shown, monkeypatch, capsys):
    def fail(*_, on_line, **__):
        for line in lines:
            on_line(line)
        raise spark.SparkJobError("exit code 1")

    monkeypatch.setattr(spark, "run", fail)
    assert spark.main(["--raw", "raw", "--out", "out"]) == 1
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("", f"{shown}\n")
