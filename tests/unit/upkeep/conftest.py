from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sbr_tasks.settings import Settings
from sbr_tasks.store import Store

from .shop import new_shop, settings_of


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_of(tmp_path)


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a source and a store in which six runs were decided on."""
    folder = tmp_path_factory.mktemp("shop")
    settings = settings_of(folder)
    new_shop(folder, Store.open(settings), settings)
    return folder


@pytest.fixture
def store(shop: Path, tmp_path: Path, settings: Settings) -> Store:
    """A local store in which six runs were decided on."""
    shutil.copytree(shop, tmp_path, dirs_exist_ok=True)
    return Store.open(settings)


@pytest.fixture
def s3_settings(
    tmp_path: Path, s3_options: dict[str, str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> Settings:
    """The settings of a shop whose store is in a bucket; the keys to it come from the environment."""
    options = dict(s3_options)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", options.pop("access_key_id"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", options.pop("secret_access_key"))
    words = [f"store_options.{name}={value!r}".replace("'", '"') for name, value in options.items()]
    return settings_of(tmp_path, f"store=s3://clicks/upkeep-{request.node.name}", *words)
