"""Unpacking a tar archive without leaving the folder, on every Python 3.11.

`tarfile`'s own `filter="data"` came with 3.11.4; Debian 12 ships 3.11.2.
"""

from __future__ import annotations

import gzip
import tarfile
import zlib
from pathlib import Path, PurePosixPath
from typing import IO


def unpack(archive: Path | IO[bytes], folder: Path) -> None:
    """Unpack `archive` below `folder`; nothing is written if a member is no plain file or folder inside it.

    Raises `tarfile.TarError` for such a member, or if it is no tar archive, or not a whole one.
    """
    source = {"name": archive} if isinstance(archive, Path) else {"fileobj": archive}
    try:
        with tarfile.open(**source) as tar:
            for member in tar:
                path = PurePosixPath(member.name)
                if path.is_absolute() or ".." in path.parts or not (member.isfile() or member.isdir()):
                    raise tarfile.TarError(f"{member.name}: not a plain file inside the archive")
            # Behind the last member, where tarfile stops, lies the checksum of everything before.
            while tar.fileobj.read(1 << 20):
                continue
            tar.extractall(folder)  # noqa: S202 - every member was checked above
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise tarfile.ReadError(str(error)) from error
