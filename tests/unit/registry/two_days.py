"""What tests of the registry share: two days of clicks, and settings under which training them takes a second."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

from sbr_tasks.registry.log import Decision
from sbr_tasks.registry.mlflow_projection import MlflowProjection
from sbr_tasks.registry.promotion import commit_decision
from sbr_tasks.registry.versions import ModelVersion
from sbr_tasks.settings import Settings
from sbr_tasks.store import Store
from sbr_tasks.window.record import Window
from sbr_tasks.wish import Wish
from tests.unit.days import Click, at, parquet_settings

D = date(2020, 6, 6)
BEFORE = D - timedelta(days=1)
N_ITEMS = 12
NO_DATABASE = b"this is no database, but a text that is longer than a header" * 20

Trained = tuple[Path, dict[date, tuple[Window, ModelVersion]]]
Copied = tuple[Store, Settings, Callable[[date], tuple[Window, str]]]
Promoted = tuple[Store, Settings, str]
Inject = Callable[..., None]


def ring(day: date) -> list[Click]:
    """Sessions that walk around a ring of items."""
    return [(int(f"{day:%m%d}{s:02d}"), (s + step) % N_ITEMS, at(day, 100 * s + step)) for s in range(40) for step in range(4)]


def promote(store: Store, settings: Settings, window: Window, name: str, *, run: str, force: str | None = None) -> Decision:
    """The decision on a challenger."""
    wish = Wish(actor=run) if force is None else Wish("force", force, run)
    return commit_decision(store, settings, window, name, wish)[0]


def with_mlflow(settings: Settings, database: Path) -> Settings:
    """The settings with another database of MLflow's."""
    return settings.model_copy(update={"mlflow": settings.mlflow.model_copy(update={"tracking_uri": f"sqlite:///{database}"})})


def settings_of(folder: Path) -> Settings:
    return parquet_settings(
        folder,
        "window.days=5",
        "window.least_click=1",
        "model.layers=[8]",
        "model.batch_size=16",
        "model.n_sample=8",
        "model.n_epochs=2",
        "gate.min_events=1",
        "gate.min_sessions=1",
    )


def alias_of(store: Store, settings: Settings) -> str | None:
    return MlflowProjection(store, settings).champion()


def with_training(settings: Settings, **changes: object) -> Settings:
    """The settings with other ones of the training."""
    return settings.model_copy(update={"training": settings.training.model_copy(update=changes)})
