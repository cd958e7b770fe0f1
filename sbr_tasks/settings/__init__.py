"""All settings of the platform, in one typed tree that rejects unknown keys.

Sources in rising order: the file `sbr.toml` (or the one that `SBR_SETTINGS` names), the environment (`SBR_STORE`,
`SBR_WINDOW__DAYS`, ...), and explicit overrides (`--set window.days=7`). Relative paths are relative to the folder of the
settings file, or to the working folder when there is no file.
"""

from __future__ import annotations

from sbr_tasks.settings.formats import OTHER_NAMES, ClickFormat, Condition, parse_where
from sbr_tasks.settings.loading import absolute_place, is_url, load_settings, parse_overrides, settings_file
from sbr_tasks.settings.schema import (
    SMTP_NOTIFIER,
    AlertSettings,
    Baseline,
    ChangedDays,
    EvaluationSettings,
    GateSettings,
    IngestSettings,
    ModelSettings,
    OwnItems,
    RecommendSettings,
    ServingSettings,
    Settings,
    SourceSettings,
    TrainingSettings,
    ValidationSettings,
    VSkNNSettings,
    VSTANSettings,
    WindowSettings,
)

__all__ = [
    "OTHER_NAMES",
    "SMTP_NOTIFIER",
    "AlertSettings",
    "Baseline",
    "ChangedDays",
    "ClickFormat",
    "Condition",
    "EvaluationSettings",
    "GateSettings",
    "IngestSettings",
    "ModelSettings",
    "OwnItems",
    "RecommendSettings",
    "ServingSettings",
    "Settings",
    "SourceSettings",
    "TrainingSettings",
    "VSTANSettings",
    "VSkNNSettings",
    "ValidationSettings",
    "WindowSettings",
    "absolute_place",
    "is_url",
    "load_settings",
    "parse_overrides",
    "parse_where",
    "settings_file",
]
