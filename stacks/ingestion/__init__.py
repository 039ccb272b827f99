"""Ingestion: how flights arrive, one by one through Kinesis or as files in the raw bucket."""
