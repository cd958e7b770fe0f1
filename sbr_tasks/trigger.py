"""What a person may ask of one run: other settings than usual, and what becomes of its model. The trigger form shows it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from sbr_tasks.errors import SettingsError
from sbr_tasks.settings import Settings, load_settings

Promote = Literal["gate", "never", "force"]

_AS_SET = "as the settings say"


@dataclass(frozen=True)
class Field:
    """A field of the form.

    Attributes:
        title: What the form calls it.
        setting: The setting that it overrides for one run.
        bounds: JSON Schema beyond what the setting itself says: a slip of the hand mustn't hold a machine for days.
    """

    title: str
    setting: str
    bounds: Mapping[str, float]


FIELDS: Mapping[str, Field] = {
    "n_epochs": Field("Epochs", "model.n_epochs", {"maximum": 100}),
    "batch_size": Field("Batch size", "model.batch_size", {"maximum": 4096}),
    "learning_rate": Field("Learning rate", "model.learning_rate", {"minimum": 0.0001, "maximum": 1}),
    "loss": Field("Loss", "model.loss", {}),
    "seed": Field("Seed", "training.seed", {"maximum": 999_999}),
    "warm_start": Field("Warm start", "training.warm_start", {}),
    "window_days": Field("Days of the window", "window.days", {"maximum": 366}),
}
"""By name of the parameter."""


@dataclass(frozen=True)
class Asked:
    """What a run was asked for.

    Attributes:
        overrides: Settings of this run only, as on the command line (`model.n_epochs=3`).
        promote: `gate`: the gate decides; `never`: the model is trained, scored and reported, and nothing is promoted;
            `force`: the model is promoted whatever its metrics.
        reason: Why, for `force`; None otherwise.
    """

    overrides: tuple[str, ...] = ()
    promote: Promote = "gate"
    reason: str | None = None


def schema_of(name: str) -> dict[str, Any]:
    """The JSON Schema of a field, from that of its setting; null, or nothing, leaves the setting as it is."""
    field = FIELDS[name]
    section, leaf = field.setting.split(".")
    known = Settings.model_fields[section].annotation
    assert known is not None  # noqa: S101 (narrows the type)
    schema: dict[str, Any] = known.model_json_schema()["properties"][leaf]
    said = f"{schema['description']} Empty: the setting {field.setting}."
    found = {"type": ["null", schema["type"]], "title": field.title}
    if "enum" in schema:
        return {**found, "description": said, "enum": [None, *schema["enum"]], "values_display": {"null": _AS_SET}}
    bounds = {word: schema[word] for word in ("minimum", "maximum") if word in schema} | dict(field.bounds)
    said = f"{said} From {bounds['minimum']:g} to {bounds['maximum']:g}."
    return {**found, "description": said, "allOf": [bounds]}  # bounds beside the type would silently change what somebody types


def read_form(given: Mapping[str, Any]) -> Asked:
    """What the parameters of a run ask for, checked as far as the form can't.

    Args:
        given: By name: the parameters of `FIELDS`, `promote`, `reason` and `day`, which is read by `days.resolve_as_of`.

    Raises:
        SettingsError: A parameter is unknown, a setting is out of bounds, a forced promotion has no reason, or a reason is
            given and nothing is forced.
    """
    known = ("day", "promote", "reason", *FIELDS)
    for name in given:
        if name not in known:
            raise SettingsError(f"A run has no parameter {name!r}, only {', '.join(known)}. Trigger the DAG again without it.")
    promote: Promote = given.get("promote") or "gate"
    reason = (given.get("reason") or "").strip()
    if promote not in get_args(Promote):
        raise SettingsError(f"Expected promote to be one of {', '.join(get_args(Promote))}; found {promote!r}.")
    if promote == "force" and not reason:
        raise SettingsError(
            "A forced promotion needs the parameter 'reason', which is kept in the promotion log; none was given. "
            "Trigger the DAG again with a reason."
        )
    if reason and promote != "force":
        raise SettingsError(
            f"The parameter 'reason' is for a forced promotion, but promote is {promote!r}. "
            "Trigger the DAG again with promote 'force', or without a reason."
        )
    asked = {field.setting: given[name] for name, field in FIELDS.items() if given.get(name) is not None}
    if "model.n_epochs" in asked and load_settings(_as_overrides(asked)).training.warm_start == "parent":
        asked["training.warm_epochs"] = asked["model.n_epochs"]  # which bounds a training that starts from a parent
    overrides = _as_overrides(asked)
    load_settings(overrides)
    return Asked(overrides, promote, reason or None)


def _as_overrides(asked: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(f"{setting}={json.dumps(value)}" for setting, value in asked.items())
