"""Time runs faster here: one factor for every wait that a template or an API names; the templates keep real values.

Bakes, cool-downs, alarm periods, metric windows, buffers, retries and schedules all ask `scaled`. Timestamps stay real.
"""

from __future__ import annotations

import time

from local.cloud.extensions import Cloud

_factor = 1.0
_origin = 0.0


def install(cloud: Cloud) -> None:
    """Take the factor of this cloud; the calendar of schedules runs faster from this moment on."""
    set_factor(cloud.place.factor, time.time())


def set_factor(factor: float, origin: float) -> None:
    """Let `factor` seconds of AWS pass in one of ours, counted from `origin` (seconds of the epoch)."""
    global _factor, _origin
    _factor, _origin = factor, origin


def scaled(seconds: float) -> float:
    """How long a wait of `seconds` takes here."""
    return seconds / _factor


def calendar(moment: float) -> float:
    """What a schedule's calendar shows at a real moment."""
    return _origin + (moment - _origin) * _factor


def moment(calendar: float) -> float:
    """The real moment at which a schedule's calendar shows this."""
    return _origin + (calendar - _origin) / _factor
