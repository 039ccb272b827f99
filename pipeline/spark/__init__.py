"""Spark scripts for Glue and EMR: plain `SparkSession`, so that they run unchanged on a laptop."""
