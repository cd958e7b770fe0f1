"""Records of windows, versions and validations that nothing was built, trained or looked at for."""

from __future__ import annotations

from datetime import UTC, date
from typing import Any

import pyarrow as pa

from sbr_tasks.clicks.commits import ImportSource, Judgement, Revision
from sbr_tasks.clicks.ledger import Ledger
from sbr_tasks.registry.versions import Choice, Lineage, ModelVersion, UsedSettings, VersionInputs
from sbr_tasks.report.profile.build import Profile, ProfileInputs
from sbr_tasks.report.profile.numbers import ProfileBuilder
from sbr_tasks.settings import ModelSettings, ServingSettings, Settings, TrainingSettings, WindowSettings
from sbr_tasks.store import FileRecord
from sbr_tasks.window.cleanse import Counts
from sbr_tasks.window.record import PARTS, CleansingRecord, LevelRecord, PartRecord, Window, WindowInputs, WindowRules

NO_FILE = FileRecord(key="", size=0, sha256="")


def window_record_of(day: date, fingerprint: str = "f") -> Window:
    """An empty window, on which nothing is to be noted."""
    part = PartRecord(clicks=0, events=0, sessions=0, items=0, first=None, last=None, file=NO_FILE)
    rules = WindowRules.of(WindowSettings())
    inputs = WindowInputs(day=day, revisions={}, window=rules, timezone="UTC", code="c")
    level = LevelRecord(least_click=1, clicks=0, items=0, test_clicks=0)
    cleansing = CleansingRecord(before=Counts(0, 0, 0), too_long=None, passes=(), fair_items=None, levels=(level,))
    return Window(
        fingerprint=fingerprint,
        inputs=inputs,
        validation_day=day,
        missing_days=(),
        clicks=0,
        cleansing=cleansing,
        parts=dict.fromkeys(PARTS, part),
        items=NO_FILE,
        n_items=0,
    )


def version_record_of(name: str, **changes: Any) -> ModelVersion:
    """A version without a file; its inputs say its parent.

    Args:
        name: Day and fingerprint.
        changes: Fields that differ, and of inputs and lineage `parent`, `model`, `training`, `window_days` and `revisions`.
    """
    day = date.fromisoformat(name[:10])
    model, training = changes.pop("model", ModelSettings()), changes.pop("training", TrainingSettings())
    rules = WindowRules.of(WindowSettings(days=changes.pop("window_days", 30)))
    window = changes.pop("window", name)
    inputs = VersionInputs(
        window=window,
        model=model,
        training=training,
        serving=ServingSettings(),
        parent=changes.pop("parent", None),
        code="c",
        choice="c",
        fallback=None,
    )
    lineage = Lineage(
        revisions=changes.pop("revisions", {}),
        settings=UsedSettings(timezone="UTC", window=rules, model=model, training=training),
        git_revision="0123456789abcdef0123456789abcdef01234567",
        python="3.11.7",
        packages={"tensorflow": "2.21.0", "numpy": "2.4.0"},
    )
    fields: dict[str, Any] = {
        "name": name,
        "fingerprint": name[11:] * 2,
        "day": day,
        "window": window,
        "inputs": inputs,
        "curve": (),
        "choice": Choice(day=day, n_epochs=1, mixture=None),
        "note": None,
        "n_events": 0,
        "n_items": 0,
        "took_s": 1.5,
        "trained_at": "2020-06-01T00:00:00+00:00",
        "lineage": lineage,
        "files": {},
        "optimizer": NO_FILE,
        "saved_model": {},
    }
    return ModelVersion.model_validate(fields | changes)


def profile_record_of(window: Window) -> Profile:
    """The profile of a window with one click."""
    inputs = ProfileInputs(
        day=window.day, days=1, shortest=2, revisions=window.inputs.revisions, missing_days=(), timezone="UTC", code="c"
    )
    clicks = pa.table({"session_id": [1], "item_id": [1], "clicked_at": pa.array([0], pa.timestamp("us", tz="UTC"))})
    builder = ProfileBuilder(UTC)
    builder.add(date(1970, 1, 1), clicks)
    return Profile(
        fingerprint=window.fingerprint,
        inputs=inputs,
        missing_days=(),
        numbers=builder.numbers(),
    )


def accepted_unseen(revision: Revision) -> Judgement:
    """The acceptance of clicks that nobody looked at."""
    return Judgement(rev=revision.rev, accepted=True, result="", data_docs="")


def source_record_of(settings: Settings, fingerprint: str = "f") -> ImportSource:
    """What an import of nothing read."""
    return ImportSource(
        path=str(settings.source.path),
        format=settings.source.format,
        fingerprint=fingerprint,
        settings="s",
        timezone=settings.timezone,
        id_type=settings.source.id_type,
        changed_days=settings.ingest.changed_days,
        for_day=None,
        ledger=Ledger(read=0, stored=0, rejected=0, left_out={}),
        rows=0,
        rejected=0,
        rejects=None,
    )
