"""Environment variables as one typed, frozen value, read once a cold start."""

import dataclasses
import os
from collections.abc import Mapping
from typing import TypeVar

Settings = TypeVar("Settings")


class SettingsError(Exception):
    """A function deployed without what it needs: the message names every variable that is missing."""


def read(cls: type[Settings], environment: Mapping[str, str] = os.environ) -> Settings:
    """Fill the dataclass `cls` (all fields are strings): field `endpoint_name` from `ENDPOINT_NAME`."""
    names = {field.name: field.name.upper() for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    if missing := sorted(name for name in names.values() if not environment.get(name)):
        raise SettingsError(f"environment variables not set: {', '.join(missing)}. Set them on the function.")
    return cls(**{field: environment[name] for field, name in names.items()})
