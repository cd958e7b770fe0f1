"""The parameters of `daily_retrain`: its trigger form, and what the values of a run ask for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from airflow.sdk import Param

from sbr_tasks.errors import SettingsError
from sbr_tasks.settings import Settings, load_settings
from sbr_tasks.wish import Promote, Wish

_AS_SET = "Default (from the settings)"
_DAY = "Day to retrain for. Required for a single run (the logical date above is ignored); leave empty in a backfill."
_PROMOTE = (
    "If better: the gate compares it with the champion. Never: only train, score and report. Force: regardless of the metrics, "
    "unless the champion is from a newer day or pinned."
)
_REASON = "Reason for a forced promotion (kept in the promotion log). Required with Force, otherwise leave empty."
_LABELS = {"gate": "If better", "never": "Never", "force": "Force, with a reason"}


@dataclass(frozen=True)
class Field:
    """A field of the form.

    Attributes:
        title: What the form calls it.
        setting: The setting that it overrides for one run.
        bounds: Tighter JSON Schema bounds than the setting's own, so that a typo can't occupy a machine for days.
    """

    title: str
    setting: str
    bounds: Mapping[str, float]


FIELDS: Mapping[str, Field] = {
    "n_epochs": Field("Maximum epochs", "model.n_epochs", {"maximum": 100}),
    "batch_size": Field("Batch size", "model.batch_size", {"maximum": 4096}),
    "learning_rate": Field("Learning rate", "model.learning_rate", {"minimum": 0.0001, "maximum": 1}),
    "loss": Field("Loss", "model.loss", {}),
    "seed": Field("Seed", "training.seed", {"maximum": 999_999}),
    "warm_start": Field("Warm start", "training.warm_start", {}),
    "window_days": Field("Window days", "window.days", {"maximum": 366}),
}
"""By name of the parameter."""


@dataclass(frozen=True)
class RunRequest:
    """What the parameters of a run ask for.

    Attributes:
        overrides: Settings of this run only, by dotted name (`model.n_epochs`).
        wish: Whether its version is to be promoted, why, and which run says so.
    """

    overrides: Mapping[str, Any]
    wish: Wish


def trigger_form() -> dict[str, Param]:
    """The parameters of a run; null keeps the setting."""
    section = "Settings for this run only"
    return {
        "day": Param(None, type=["null", "string"], format="date", title="Day", description=_DAY),
        "promote": Param(
            "gate", type="string", enum=list(_LABELS), values_display=_LABELS, title="Promote", description=_PROMOTE
        ),
        "reason": Param(None, type=["null", "string"], minLength=1, maxLength=500, title="Reason", description=_REASON),
        **{name: Param(None, section=section, **schema_of(name)) for name in FIELDS},
    }


def schema_of(name: str) -> dict[str, Any]:
    """The JSON Schema of a field, from that of its setting; null, or nothing, keeps the setting."""
    field = FIELDS[name]
    section, leaf = field.setting.split(".")
    settings_type = Settings.model_fields[section].annotation
    assert settings_type is not None  # noqa: S101 (narrows the type)
    schema: dict[str, Any] = settings_type.model_json_schema()["properties"][leaf]
    description = f"{schema['description']} Default: {field.setting}."
    common = {"type": ["null", schema["type"]], "title": field.title}
    if "enum" in schema:
        return {**common, "description": description, "enum": [None, *schema["enum"]], "values_display": {"null": _AS_SET}}
    bounds = {word: schema[word] for word in ("minimum", "maximum") if word in schema} | dict(field.bounds)
    description = f"{description} From {bounds['minimum']:g} to {bounds['maximum']:g}."
    return {**common, "description": description, "allOf": [bounds]}  # beside the type, bounds would silently change the input


def read_form(parameters: Mapping[str, Any], run: str | None = None) -> RunRequest:
    """What the parameters of a run ask for, checked as far as the form can't.

    Args:
        parameters: By name: the parameters of `FIELDS`, `promote`, `reason` and `day`, which is read by `days.resolve_day`.
        run: The name of the run.

    Raises:
        SettingsError: A parameter is unknown, a setting is out of bounds, or a reason is given and nothing is forced.
        ReasonError: A forced promotion has no reason.
    """
    names = ("day", "promote", "reason", *FIELDS)
    for name in parameters:
        if name not in names:
            raise SettingsError(f"Unknown parameter {name!r}: expected {', '.join(names)}. Trigger the DAG again without it.")
    promote: Promote = parameters.get("promote") or "gate"
    reason = (parameters.get("reason") or "").strip() or None
    if promote not in get_args(Promote):
        raise SettingsError(f"Expected promote to be one of {', '.join(get_args(Promote))}; found {promote!r}.")
    wish = Wish(promote, reason, run)
    if reason and promote != "force":
        raise SettingsError(
            f"The parameter 'reason' is for a forced promotion, but promote is {promote!r}. "
            "Trigger the DAG again with promote 'force', or without a reason."
        )
    overrides = {field.setting: parameters[name] for name, field in FIELDS.items() if parameters.get(name) is not None}
    settings = load_settings(overrides)
    if "model.n_epochs" in overrides and settings.training.warm_start == "parent":
        overrides["training.warm_epochs"] = overrides["model.n_epochs"]  # the limit for a warm start
    return RunRequest(overrides, wish)
