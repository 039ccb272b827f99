"""An archive is unpacked whole and inside its folder, or not at all."""

import io
import tarfile

import numpy as np
import pytest

from pipeline.archive import unpack


def archive(path, *members):
    with tarfile.open(path, "w:gz") as tar:
        for member in members:
            info = member if isinstance(member, tarfile.TarInfo) else tarfile.TarInfo(member)
            info.size = 0 if info.issym() else 1
            tar.addfile(info, io.BytesIO(b"x"))
    return path


def link():
    info = tarfile.TarInfo("link")
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return info


@pytest.mark.parametrize("opened", [False, True])
def test_files_and_folders_come_out_as_they_were_packed(tmp_path, opened):
    packed = archive(tmp_path / "a.tar.gz", "model.json", "code/inference.py")
    unpack(io.BytesIO(packed.read_bytes()) if opened else packed, tmp_path / "out")
    assert (tmp_path / "out" / "code" / "inference.py").read_text() == "x"


def test_a_broken_archive_is_an_error_of_the_archive_and_leaves_nothing(tmp_path):
    """Cut short anywhere, or with one byte behind the header spoiled, in a member's content as in the tables of the compression."""
    noise = tarfile.TarInfo("model.json")
    noise.size = 2000
    packed = tmp_path / "a.tar.gz"
    with tarfile.open(packed, "w:gz") as tar:
        tar.addfile(noise, io.BytesIO(np.random.default_rng(0).bytes(noise.size)))
    whole = packed.read_bytes()
    spoiled = [whole[:i] + bytes([whole[i] ^ 0xFF]) + whole[i + 1 :] for i in range(16, len(whole), 37)]
    for broken in [whole[:i] for i in range(0, len(whole), 37)] + spoiled:
        with pytest.raises(tarfile.TarError):
            unpack(io.BytesIO(broken), tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "bad", ["../outside", "/absolute", "in/../../outside", pytest.param(link(), id="link")], ids=str
)
def test_a_member_that_would_leave_the_folder_stops_everything(tmp_path, bad):
    packed = archive(tmp_path / "a.tar.gz", "good", bad)
    with pytest.raises(tarfile.TarError, match="not a plain file inside"):
        unpack(packed, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz"]
