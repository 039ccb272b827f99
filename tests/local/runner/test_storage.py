"""Between S3 and folders: nothing lost, nothing outside, the same bytes every time."""

from pathlib import Path

import pytest

from local.runner import storage
from local.runner.storage import StorageError
from tests.local.runner.conftest import Cloud
from tests.local.runner.written import BUCKET


def test_a_prefix_is_copied_with_its_folders(cloud: Cloud, tmp_path: Path) -> None:
    cloud.put("table/month=1/a.csv", "1")
    cloud.put("table/month=2/a.csv", "2")
    cloud.put("table/", "")  # what the console makes of an empty folder
    cloud.put("other/b.csv", "3")
    for number, uri in enumerate((f"s3://{BUCKET}/table", f"s3://{BUCKET}/table/")):
        folder = tmp_path / str(number)
        storage.download(cloud.s3, uri, folder)
        files = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.csv")}
        assert files == {"month=1/a.csv": "1", "month=2/a.csv": "2"}


def test_one_object_keeps_its_name(cloud: Cloud, tmp_path: Path) -> None:
    storage.download(cloud.s3, cloud.put("code/abc.tar.gz", "x"), tmp_path / "code")
    assert [path.name for path in (tmp_path / "code").iterdir()] == ["abc.tar.gz"]


def test_an_object_whose_name_leaves_the_folder_is_refused(cloud: Cloud, tmp_path: Path) -> None:
    cloud.put("table/../../evil.csv", "x")
    with pytest.raises(StorageError, match=r"evil\.csv: its name leaves the input's folder"):
        storage.download(cloud.s3, f"s3://{BUCKET}/table", tmp_path / "in")
    assert not list(tmp_path.rglob("evil.csv"))


@pytest.mark.parametrize(
    "uri", ["table", "https://bucket/table", "s3:///table", "s3://no bucket/table", "s3://UP/table"]
)
def test_what_is_no_s3_uri_is_refused(uri: str) -> None:
    with pytest.raises(StorageError, match="not an S3 URI"):
        storage.split(uri)


def test_an_upload_is_read_back_by_a_download(cloud: Cloud, tmp_path: Path) -> None:
    source = tmp_path / "out" / "deep"
    source.mkdir(parents=True)
    (source / "a.bin").write_bytes(b"\0\1")
    (tmp_path / "out" / "b.txt").write_text("b")
    storage.upload(cloud.s3, tmp_path / "out", f"s3://{BUCKET}/up", None)
    storage.download(cloud.s3, f"s3://{BUCKET}/up", tmp_path / "back")
    assert (tmp_path / "back" / "deep" / "a.bin").read_bytes() == b"\0\1"
    assert (tmp_path / "back" / "b.txt").read_text() == "b"


def test_an_archive_depends_on_names_and_bytes_alone(tmp_path: Path) -> None:
    for name, stamp in (("one", 1), ("two", 2)):
        folder = tmp_path / name
        folder.mkdir()
        for file in ("b", "a") if stamp == 1 else ("a", "b"):
            (folder / file).write_text(file)
            (folder / file).touch()
        storage.pack(folder, tmp_path / f"{name}.tar.gz")
    assert (tmp_path / "one.tar.gz").read_bytes() == (tmp_path / "two.tar.gz").read_bytes()
    storage.unpack(tmp_path / "one.tar.gz", tmp_path / "back")
    assert sorted(path.name for path in (tmp_path / "back").iterdir()) == ["a", "b"]
