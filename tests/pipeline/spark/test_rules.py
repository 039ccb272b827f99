"""The numeric rules' SQL, run by Spark as Glue would: a cell that is no number costs its share and nothing else."""

import re

import pytest
from pyspark.sql import SparkSession

from pipeline import schema as schemas
from pipeline.rules import dqdl


@pytest.mark.parametrize(
    ("months", "share"),
    [(["1", "12", "7", "noon"], 0.75), ([1, 12, 0, 13], 0.5), (["1", None], 0.5), ([12.0], 1.0)],
    ids=["strings", "numbers", "nulls", "fractions"],
)
def test_a_range_counts_the_rows_within_whatever_type_the_crawler_found(
    spark: SparkSession, months: list[object], share: float
) -> None:
    found = re.search(
        r'CustomSql "([^"]*`month`[^"]*)"', dqdl(schemas.load("flights"), maximum_quarantined_percent=5.0)
    )
    assert found
    spark.createDataFrame([(month,) for month in months], ["month"]).createOrReplaceTempView("primary")
    ((measured,),) = spark.sql(found[1]).collect()
    assert float(measured) == share
