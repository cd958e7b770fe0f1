"""The page of one version: all that the store knows of it, in one answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import date

from sbr_tasks.clicks.catalog import ClickCatalog, DayState
from sbr_tasks.days import parse_day
from sbr_tasks.errors import DamagedError, DayError, RegistryError
from sbr_tasks.evaluation.metrics import KNOWLEDGE, KNOWN_INPUTS, KNOWN_TARGETS, METRICS, metric_title
from sbr_tasks.evaluation.slices import LENGTHS
from sbr_tasks.registry.log import Decision, Entry, PromotionLog, fold
from sbr_tasks.registry.mlflow_projection import model_url
from sbr_tasks.registry.versions import ModelVersion, load_version
from sbr_tasks.report.models.overview import decision_rows, describe, may_return
from sbr_tasks.report.profile.build import Profile, find_profile, key_numbers
from sbr_tasks.settings import Settings
from sbr_tasks.store import Json, Store, kinds
from sbr_tasks.window.record import window_record


def version_page(store: Store, settings: Settings, name: str) -> Json:
    """What the page of a version shows.

    If files of the version are lost, `facts` is None and `fault` says why; what the log knows is still shown.

    Raises:
        RegistryError: Neither the store nor the log knows such a version.
        DamagedError: The log can't be read.
    """
    entries = PromotionLog(store).entries()
    state = fold(entries)
    if name not in state.days:
        load_version(store, name)
    facts, fault = describe(store, name)
    version = load_version(store, name) if facts else None
    promotion = state.decisions.get(name)
    revisions: Mapping[date, str] = version.lineage.revisions if version else {}
    days = ClickCatalog(store).days()
    return {
        "version": name,
        "day": name[:10],
        "is_champion": name == state.champion,
        "is_retired": name in state.retired,
        "may_return": name in may_return(state),
        "champion": state.champion,
        "decisions": decision_rows(_about(entries, name)),
        "facts": facts,
        "fault": fault,
        "settings": _settings(version) if version else {},
        "curve": [asdict(epoch) for epoch in version.curve] if version else [],
        "best_epoch": version.best_epoch if version else None,
        "comparison": _comparison(promotion) if promotion else [],
        "by_length": _by_length(promotion) if promotion else [],
        "profile": _profile(store, version) if version else None,
        "warnings": _warnings(days, revisions),
        "data_docs": [str(day) for day, rev in sorted(revisions.items()) if _data_docs_key(days, day, rev)],
        "report": store.exists(promotion.page if promotion else kinds.UNDECIDED_PAGE.key(day=name[:10], version=name)),
        "mlflow": model_url(settings),
        "mlflow_model": settings.mlflow.model_name,
    }


def data_docs_page(store: Store, name: str, day: str) -> bytes:
    """What Great Expectations said of the clicks of a day that a version's window was built from.

    Raises:
        RegistryError: There is no such version.
        DayError: Its window doesn't hold that day, or no validation of it is kept.
        DamagedError: The page is missing.
    """
    at = parse_day(day)
    rev = load_version(store, name).lineage.revisions.get(at)
    key = _data_docs_key(ClickCatalog(store).days(), at, rev) if rev else None
    if key is None:
        raise DayError(
            f"There are no Data Docs of {day} for the clicks that {name} was trained on; `sbr store gc` may have removed them."
        )
    return store.get(key)


def profile_plot(store: Store, name: str, plot: str) -> bytes:
    """A plot (SVG) of the clicks of a version's window.

    Raises:
        RegistryError: There is no such version or plot.
        DamagedError: The plot's file is missing or damaged.
    """
    profile = _find(store, load_version(store, name))
    if profile is None or plot not in profile.plots:
        raise RegistryError(f"There is no plot {plot!r} of the clicks that {name} was trained on.")
    return store.read(profile.plots[plot].svg)


def _about(entries: Sequence[Entry], name: str) -> list[Entry]:
    """The entries that decided on a version, or moved the champion to or away from it."""
    return [one for one in entries if name in (one.version, one.before) and (one.version == name or one.champion != name)]


def _settings(version: ModelVersion) -> dict[str, Json]:
    """Settings that the version was made with, by section."""
    return version.lineage.settings.model_dump(mode="json", include={"model", "training", "window"})


def _comparison(promotion: Decision) -> list[Json]:
    """One row a metric: what the challenger, its opponent and the baselines scored on the same events."""
    return [
        {
            "metric": metric,
            "title": metric_title(metric),
            "is_share": metric in (KNOWN_TARGETS, KNOWN_INPUTS),
            "scores": {who: scored.get(metric) for who, scored in promotion.scored.items()},
        }
        for metric in (*METRICS, *KNOWLEDGE)
        if promotion.challenger_metrics.get(metric) is not None
    ]


def _by_length(promotion: Decision) -> list[Json]:
    """One row a slice of sessions by their length."""
    challenger = promotion.by_length.get(promotion.version, {})
    champion = promotion.by_length.get(promotion.opponent or "", {})
    return [
        {"clicks": length, "challenger": dict(challenger[length]), "champion": dict(champion[length]) if champion else None}
        for length in LENGTHS
        if length in challenger
    ]


def _profile(store: Store, version: ModelVersion) -> Json | None:
    try:
        profile = _find(store, version)
    except DamagedError as error:
        return {"fault": str(error), "numbers": {}, "plots": {}}
    if profile is None:
        return None
    plots = {name: plot.title for name, plot in profile.plots.items()}
    return {"fault": None, "numbers": key_numbers(profile.numbers), "plots": plots}


def _find(store: Store, version: ModelVersion) -> Profile | None:
    window = window_record(store, version.as_of, version.window)
    return find_profile(store, window)


def _warnings(days: Mapping[date, DayState], revisions: Mapping[date, str]) -> list[Json]:
    """What validation found odd about the clicks of the window, by day."""
    found = [(str(day), days.get(day, DayState()).warnings_of(rev)) for day, rev in sorted(revisions.items())]
    return [{"day": day, "warnings": list(warnings)} for day, warnings in found if warnings]


def _data_docs_key(days: Mapping[date, DayState], day: date, rev: str) -> str | None:
    judged = days.get(day, DayState()).decided.get(rev)
    return judged.data_docs if judged else None
