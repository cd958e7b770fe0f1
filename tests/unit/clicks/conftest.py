from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sbr_tasks.settings import Settings, load_settings, parse_overrides
from sbr_tasks.store import Store

WriteSource = Callable[..., Settings]


@pytest.fixture
def write_source(tmp_path: Path) -> WriteSource:
    """Writes a source file and returns settings that read it into a store of the test's own."""

    def write(content: str | bytes, *overrides: str, name: str = "clicks.dat", format: str = "yoochoose") -> Settings:
        file = tmp_path / "in" / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(content.encode() if isinstance(content, str) else content)
        places = {"store": str(tmp_path / "store"), "source.path": str(file)}
        return load_settings({**places, "source.format": format, "source.settle_seconds": 0, **parse_overrides(overrides)})

    return write


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))
