import dataclasses

import pytest

from lambdas import settings


@dataclasses.dataclass(frozen=True)
class Two:
    one_name: str
    other_name: str


def test_settings_come_from_the_environment_by_name() -> None:
    assert settings.read(Two, {"ONE_NAME": "a", "OTHER_NAME": "b", "PATH": "/"}) == Two("a", "b")


def test_every_missing_variable_is_named_at_once() -> None:
    with pytest.raises(settings.SettingsError, match=r"ONE_NAME, OTHER_NAME\. Set them"):
        settings.read(Two, {"OTHER_NAME": ""})
