"""The pipeline's prepared flights, for the models that are rolled out."""

from tests.pipeline.conftest import curated_dir, flights, flights_schema, prepared

__all__ = ["curated_dir", "flights", "flights_schema", "prepared"]
