"""Files on whatever Spark reads (a disk, S3, HDFS), through Hadoop's own file system classes.

Glue, EMR and a laptop name the same operations the same way here; boto3 would only know S3.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from py4j.protocol import Py4JJavaError
from pyspark.sql import SparkSession

# Spark, Athena and pyarrow skip a folder that starts with an underscore: a table can hold its own staging.
HIDDEN = "_staging"
STAGING = f"{HIDDEN}/next"
SUCCESS = "_SUCCESS"


class Storage:
    """One file system per location, as the session is configured to reach it."""

    def __init__(self, spark: SparkSession) -> None:
        # PySpark has no public door to Hadoop's file systems; the JVM gateway is the usual one.
        self._java: Any = spark._jvm  # noqa: SLF001
        self._configuration = spark._jsc.hadoopConfiguration()  # noqa: SLF001

    def path(self, location: str) -> str:
        """The location as `_metadata.file_path` spells it, without the scheme."""
        path, system = self._at(location)
        uri = system.makeQualified(path).toUri()
        bucket = uri.getAuthority()
        return f"//{bucket}{uri.getRawPath()}" if bucket else str(uri.getRawPath())

    def files(self, location: str) -> list[str]:
        """All files below a folder (or the one file) that are not empty and in no way hidden, sorted by path.

        Nothing there is an empty list: a bucket has no folders, only keys.
        """
        path, system = self._at(location)
        if not system.exists(path):
            return []
        root = system.makeQualified(path).toString()
        found = {
            status.getPath().toString(): status.getLen() for status in _each(system.listFiles(path, True))
        }
        return sorted(
            file
            for file, size in found.items()
            if size > 0 and not any(name.startswith(("_", ".")) for name in file[len(root) :].split("/"))
        )

    def first_line(self, location: str) -> bytes:
        """The first line of a text file, decompressed by its extension."""
        stream = self._opened(location)
        # Latin-1 is one letter a byte.
        reader = self._java.java.io.BufferedReader(self._java.java.io.InputStreamReader(stream, "ISO-8859-1"))
        try:
            return str(reader.readLine() or "").encode("latin-1")
        finally:
            reader.close()

    def damage(self, location: str) -> str | None:
        """Why a file cannot be read to its end, or None if it can be; only a compressed file can be damaged so."""
        try:
            stream = self._opened(location)
            try:
                stream.transferTo(self._java.java.io.OutputStream.nullOutputStream())
            finally:
                stream.close()
        except Py4JJavaError as error:
            return str(error.java_exception.getMessage())
        return None

    def write_text(self, location: str, text: str) -> None:
        """Write one file, replacing it: on S3 an object appears whole or not at all."""
        path, system = self._at(location)
        stream = system.create(path, True)
        try:
            stream.write(bytearray(text.encode()))
        finally:
            stream.close()

    def delete(self, location: str) -> None:
        """Delete a file or a folder; nothing there is no error."""
        path, system = self._at(location)
        system.delete(path, True)

    def publish(self, staged: str, final: str) -> None:
        """Move what stands in `staged` over `final`, child by child, and remove what `final` had besides.

        The job has finished its work by now, so the window is short. On a disk each child is swapped whole; on
        S3 a rename is a copy and a delete, so a reader may meet a half-swapped table: `_SUCCESS` is missing
        from before the first change until after the last, and a rerun puts everything right.
        """
        self.delete(f"{final}/{SUCCESS}")
        path, system = self._at(staged)
        fresh = [status.getPath().getName() for status in system.listStatus(path)]
        children = [name for name in fresh if not name.startswith("_")]
        for name in children:
            self.delete(f"{final}/{name}")
            if not system.rename(self._path(f"{staged}/{name}"), self._path(f"{final}/{name}")):
                raise OSError(f"{staged}/{name} could not be moved to {final}/{name}. Run the job again.")
        for status in system.listStatus(self._path(final)):
            name = status.getPath().getName()
            if name not in children:
                self.delete(f"{final}/{name}")
        self.write_text(f"{final}/{SUCCESS}", "")

    def _opened(self, location: str) -> Any:
        path, system = self._at(location)
        codecs = self._java.org.apache.hadoop.io.compress.CompressionCodecFactory(self._configuration)
        codec = codecs.getCodec(path)
        stream = system.open(path)
        return stream if codec is None else codec.createInputStream(stream)

    def _path(self, location: str) -> Any:
        return self._java.org.apache.hadoop.fs.Path(location)

    def _at(self, location: str) -> tuple[Any, Any]:
        path = self._path(location)
        return path, path.getFileSystem(self._configuration)


def _each(remote: Any) -> Iterator[Any]:
    while remote.hasNext():
        yield remote.next()
