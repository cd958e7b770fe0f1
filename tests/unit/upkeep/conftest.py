from __future__ import annotations

from pathlib import Path

import pytest

from sbr_tasks.settings import Settings
from sbr_tasks.store import Store

from .shop import new_shop, settings_of


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(tmp_path)


@pytest.fixture
def store(tmp_path: Path, settings: Settings) -> Store:
    """A local store in which six runs were decided on."""
    found = Store.open(settings)
    new_shop(tmp_path, found, settings)
    return found


@pytest.fixture
def s3_settings(
    tmp_path: Path, s3_options: dict[str, str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Settings:
    """The settings of a shop whose store lies in a bucket; the keys to it come from the environment."""
    options = dict(s3_options)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", options.pop("access_key_id"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", options.pop("secret_access_key"))
    words = [f"store_options.{name}={value!r}".replace("'", '"') for name, value in options.items()]
    return settings_of(tmp_path, f"store=s3://clicks/upkeep-{request.node.name}", *words)
