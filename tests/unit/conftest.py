import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path

import numpy as np
import pytest

from sbr_tasks.cli import main
from sbr_tasks.registry import mlflow_projection
from sbr_tasks.window.ragged import offsets_of
from sbr_tasks.window.sessions import Sessions


@pytest.fixture(autouse=True, scope="session")
def shared_mlflow_tables(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """New MLflow databases are copies of an empty one: creating the tables takes MLflow a second each time."""
    empty, original = tmp_path_factory.mktemp("mlflow") / "empty.db", mlflow_projection._alone_with

    def with_tables(uri: str) -> AbstractContextManager[None]:
        file = Path(uri.removeprefix("sqlite:///"))
        if uri.startswith("sqlite:///") and file.parent.is_dir() and not file.exists():
            if not empty.exists():
                from mlflow import MlflowClient

                MlflowClient(tracking_uri=f"sqlite:///{empty}").search_experiments(max_results=1)
            with closing(sqlite3.connect(empty)) as source, closing(sqlite3.connect(file)) as target:
                source.backup(target)
        return original(uri)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mlflow_projection, "_alone_with", with_tables)
        yield


@pytest.fixture
def sessions_of() -> Callable[..., Sessions]:
    """Builds `Sessions` from lists of item ids; every click is a target unless `is_target` says otherwise."""

    def build(clicks: Sequence[Sequence[int]], is_target: Sequence[Sequence[bool]] | None = None) -> Sessions:
        flat = np.array([item for session in clicks for item in session], np.int64)
        targets = None if is_target is None else np.array([flag for s in is_target for flag in s], bool)
        return Sessions.of_ids(offsets_of(np.array([*map(len, clicks)], np.int64)), flat, is_target=targets)

    return build


@pytest.fixture
def command_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs `sbr` in this process; returns its exit code, output and messages."""

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sbr", *words])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return run
