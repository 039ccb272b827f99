"""What a crawler makes of files, without a cloud."""

import gzip
import io
import json
from typing import Any

import boto3
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from moto import mock_aws

from local.cloud.glue import infer


@pytest.mark.parametrize(
    ("lines", "columns"),
    [
        (["a,b", "1,x", "2,"], {"a": "bigint", "b": "string"}),
        (["a|b", "1|1.5", "2|3"], {"a": "bigint", "b": "double"}),
        (["A key,b-2", "1,", "noon,"], None),
        (['name,"n"', '"x, y",1'], {"name": "string", "n": "bigint"}),
        (["a,b", "NA,1e3", "nan,2"], {"a": "string", "b": "double"}),
    ],
    ids=["integers and empty fields", "another delimiter", "no number", "quotes", "what is no number"],
)
def test_csv_has_types_and_a_header(lines: list[str], columns: dict[str, str] | None) -> None:
    if columns is None:
        with pytest.raises(infer.InferError, match="no header tells itself from the rows"):
            infer.csv_columns(lines)
    else:
        found = infer.csv_columns(lines)
        assert found
        assert found[1] == columns


def test_one_column_is_no_csv() -> None:
    assert infer.csv_columns(["a", "1"]) is None


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([1, None], "int"),
        ([1, 2**31], "bigint"),
        ([1, 1.5], "double"),
        ([1, "noon"], "string"),
        ([True], "boolean"),
        ([[1, 2.5]], "array<double>"),
        ([{"A": 1, "b": None}], "struct<a:int,b:string>"),
        ([None], ""),
    ],
    ids=str,
)
def test_json_values_have_the_type_that_holds_all(values: list[Any], kind: str) -> None:
    assert infer.merge([{"c": infer.json_type(value)} for value in values]) == {"c": kind}


def test_folders_are_partitions() -> None:
    keys, partitions = infer.folders(["Year=2013/01/a.csv", "Year=2013/02/b.csv", "Year=2013/02/c.csv"])
    assert keys == ["year", "partition_1"]
    assert partitions == [
        {"values": ["2013", "01"], "folder": "Year=2013/01/"},
        {"values": ["2013", "02"], "folder": "Year=2013/02/"},
    ]
    assert infer.folders(["a.csv"]) == ([], [])
    with pytest.raises(infer.InferError, match="different depths"):
        infer.folders(["a.csv", "deep/b.csv"])


@pytest.mark.parametrize(
    ("glob", "matched", "kept"),
    [
        ("_*", "_SUCCESS", "month=1/_SUCCESS"),
        ("_*/**", "_staging/next/a.parquet", "month=1/a.parquet"),
        ("**.txt", "deep/a.txt", "a.csv"),
        ("a?.csv", "a1.csv", "a/.csv"),
    ],
)
def test_exclusions_stay_within_a_folder_unless_doubled(glob: str, matched: str, kept: str) -> None:
    import re  # noqa: PLC0415

    assert re.fullmatch(infer.pattern(glob), matched)
    assert not re.fullmatch(infer.pattern(glob), kept)


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with mock_aws():
        client = boto3.client("s3", region_name="us-east-1")
        client.create_bucket(Bucket="raw")
        yield client


def parquet(**columns: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer)
    return buffer.getvalue()


def test_an_empty_folder_is_no_table(s3) -> None:
    s3.put_object(Bucket="raw", Key="batch/", Body=b"")
    s3.put_object(Bucket="raw", Key="batch/_SUCCESS", Body=b"1")
    assert infer.infer(s3, "s3://raw/batch/", ["_*"]) is None


@pytest.mark.parametrize("path", ["s3://raw/t", "s3://raw/t/"])
def test_a_folder_is_meant_with_and_without_its_slash(s3, path: str) -> None:
    s3.put_object(Bucket="raw", Key="t/month=1/a.csv", Body=b"a,b\n1,x\n")
    s3.put_object(Bucket="raw", Key="t2/a.json", Body=b"{}")
    found = infer.infer(s3, path, ["_*"])
    assert found
    assert (found["path"], found["keys"], found["objects"]) == ("s3://raw/t/", ["month"], 1)
    assert found["partitions"] == [{"values": ["1"], "folder": "month=1/"}]


@pytest.mark.parametrize(
    ("path", "location"), [("s3://raw", "s3://raw/"), ("s3://raw/a.csv", "s3://raw/a.csv")]
)
def test_a_bucket_is_a_folder_and_an_object_a_table(s3, path: str, location: str) -> None:
    s3.put_object(Bucket="raw", Key="a.csv", Body=b"a,b\n1,x\n")
    found = infer.infer(s3, path, [])
    assert found
    assert (found["path"], found["keys"], found["objects"]) == (location, [], 1)


def test_parquet_is_read_by_its_footer(s3) -> None:
    stamp = pa.array([0], pa.timestamp("us"))
    body = parquet(Time=stamp, name=["x"], n=pa.array([1], pa.int32()), parts=[[1.5]])
    s3.put_object(Bucket="raw", Key="t/month=2013-01/a.parquet", Body=body)
    found = infer.infer(s3, "s3://raw/t/", [])
    assert found
    assert found["columns"] == [
        {"Name": "time", "Type": "timestamp"},
        {"Name": "name", "Type": "string"},
        {"Name": "n", "Type": "int"},
        {"Name": "parts", "Type": "array<double>"},
    ]
    assert (found["format"], found["keys"]) == ("parquet", ["month"])


def test_json_lines_of_many_files_make_one_schema(s3) -> None:
    for key, rows in {"a.gz": [{"x": 1}, {"x": None, "y": "z"}], "b.gz": [{"x": 1.5}]}.items():
        text = "".join(json.dumps(row) + "\n" for row in rows) + '{"torn": '
        s3.put_object(Bucket="raw", Key=f"stream/day=1/{key}", Body=gzip.compress(text.encode()))
    found = infer.infer(s3, "s3://raw/stream/", [])
    assert found
    assert found["columns"] == [{"Name": "x", "Type": "double"}, {"Name": "y", "Type": "string"}]
    assert (found["format"], found["compressed"], found["objects"]) == ("json", True, 2)


def test_a_large_file_is_judged_by_its_whole_first_lines(s3) -> None:
    rows = b"1,2\n" * (infer.SAMPLE_BYTES // 4)
    for key, body in {
        "plain/a.csv": b"a,b\n" + rows + b"x,y\n",
        "packed/a.gz": gzip.compress(b"a,b\n" + rows * 3),
    }.items():
        s3.put_object(Bucket="raw", Key=key, Body=body)
        found = infer.infer(s3, f"s3://raw/{key.split('/')[0]}/", [])
        assert found
        assert {column["Type"] for column in found["columns"]} == {"bigint"}


def test_two_formats_in_one_folder_are_an_error_that_names_both(s3) -> None:
    s3.put_object(Bucket="raw", Key="batch/a.csv", Body=b"a,b\n1,2\n")
    s3.put_object(Bucket="raw", Key="batch/b.json", Body=b'{"a": 1}\n')
    with pytest.raises(infer.InferError, match=r"b\.json is of another format than s3://raw/batch/a\.csv"):
        infer.infer(s3, "s3://raw/batch/", [])


@pytest.mark.parametrize("body", [b"PAR1 of no file", b"\x1f\x8b of no stream", b"\n"])
def test_a_broken_object_is_left_out_and_named(s3, body: bytes) -> None:
    s3.put_object(Bucket="raw", Key="stream/broken", Body=body)
    s3.put_object(Bucket="raw", Key="stream/good", Body=b'{"x": 1}\n')
    found = infer.infer(s3, "s3://raw/stream/", [])
    assert found
    assert found["objects"] == 1
    [left_out] = found["left_out"]
    assert left_out.startswith("s3://raw/stream/broken: ")


@pytest.mark.parametrize("poison", ["no flight", "null", '{"torn": ', "a,b\nc,d", "x" * 200_000])
def test_poison_does_not_keep_the_rest_from_its_table(s3, poison: str) -> None:
    rows = "".join(f'{{"x": {number}}}\n' for number in range(200))
    s3.put_object(Bucket="raw", Key="stream/alone", Body=poison.encode())
    s3.put_object(Bucket="raw", Key="stream/good", Body=rows.encode())
    s3.put_object(Bucket="raw", Key="stream/mixed", Body=f"{poison}\n{rows}".encode())
    found = infer.infer(s3, "s3://raw/stream/", [])
    assert found
    assert (found["format"], found["columns"]) == ("json", [{"Name": "x", "Type": "int"}])
    [left_out] = found["left_out"]
    assert left_out.startswith("s3://raw/stream/alone: ")


def test_what_no_classifier_knows_is_an_error(s3) -> None:
    s3.put_object(Bucket="raw", Key="batch/a.txt", Body=b"words\n")
    with pytest.raises(infer.InferError, match=r"a\.txt: neither CSV"):
        infer.infer(s3, "s3://raw/batch/", [])
