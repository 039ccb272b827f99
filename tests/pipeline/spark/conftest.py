"""One Spark session for all tests, on the settings that a local run has."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pyspark.sql import SparkSession

from local.spark import environment
from pipeline import schema as schemas
from pipeline.spark.curate import curate
from tests.pipeline.spark.raw import Raw


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    work = tmp_path_factory.mktemp("spark")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment(work, []).items():
            if name.startswith(("JAVA", "PYSPARK")):
                patch.setenv(name, value)
        session = SparkSession.builder.getOrCreate()
        gateway = session.sparkContext._gateway
        yield session
        session.stop()
        # The JVM ends with its input; wait for it, so that no process outlives the tests.
        gateway.shutdown()
        gateway.proc.stdin.close()
        gateway.proc.wait(timeout=30)


@pytest.fixture(scope="session")
def run(spark: SparkSession) -> Callable[[Raw], dict[str, Any]]:
    """Run the ETL on a raw bucket; returns its report."""
    schema = schemas.load("flights")
    return lambda raw: curate(spark, schema, raw.places)


@pytest.fixture
def raw(tmp_path: Path) -> Raw:
    return Raw(tmp_path)
