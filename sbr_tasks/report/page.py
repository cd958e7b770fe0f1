"""The page of a run: one HTML file that says what was decided and on what grounds, and needs nothing from elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import date
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sbr_tasks.clicks.catalog import ClickCatalog
from sbr_tasks.days import describe_days
from sbr_tasks.errors import DamagedError, RegistryError
from sbr_tasks.evaluation.slices import LENGTHS
from sbr_tasks.registry.gate import Metrics
from sbr_tasks.registry.log import Promotion, PromotionLog
from sbr_tasks.registry.staleness import staleness
from sbr_tasks.registry.versions import ModelVersion, load_version, parameters_of
from sbr_tasks.report.profile.build import Profile, inline_plots, key_numbers, profile_of_window
from sbr_tasks.settings import Settings
from sbr_tasks.store import Store
from sbr_tasks.window.build import PARTS, Window, window_record

logger = logging.getLogger(__name__)

_METRICS = tuple(f"{metric}_at_{k}" for metric in ("recall", "mrr") for k in (1, 5, 10, 20))
_CURVE_WIDTH, _CURVE_HEIGHT = 460, 150


def write_report(store: Store, settings: Settings, as_of: date) -> str:
    """Writes the page of the last decision on `as_of`, whatever it was.

    Returns:
        The page's key in the store.

    Raises:
        RegistryError: Nothing was decided for that day.
    """
    decided = [e for e in PromotionLog(store).entries() if isinstance(e, Promotion) and e.as_of == as_of]
    if not decided:
        raise RegistryError(
            f"Nothing was decided for {as_of} yet, so there is nothing to report. Run `sbr retrain --as-of {as_of}`."
        )
    promotion = decided[-1]
    version = load_version(store, promotion.version)
    window = window_record(store, as_of, promotion.window)
    page = _render(store, promotion, version, window, settings)
    key = f"reports/as_of={as_of}/{promotion.number:08d}.html"
    store.replace(key, page.encode())
    logger.info("Report: %s", store.where(key))
    return key


def _render(store: Store, promotion: Promotion, version: ModelVersion, window: Window, settings: Settings) -> str:
    environment = Environment(loader=PackageLoader("sbr_tasks.report"), autoescape=True, undefined=StrictUndefined)
    days = ClickCatalog(store).days()
    revisions = window.manifest["inputs"]["revisions"]
    warnings = {str(day): found for day, state in days.items() if (found := state.warnings_of(revisions.get(str(day), "")))}
    stale = staleness(store, [version.name], days)[version.name]
    profile = _profile(store, window)
    return environment.get_template("run.html").render(
        promotion=promotion,
        passed=promotion.outcome.passed,
        version=version.manifest,
        parameters=parameters_of(version),
        window=window.manifest,
        parts=PARTS,
        metrics=_METRICS,
        compared=_compared(promotion),
        by_length=_by_length(promotion),
        curve=version.manifest["curve"],
        points=_points([epoch["validation_recall_at_20"] for epoch in version.manifest["curve"]]),
        size=(_CURVE_WIDTH, _CURVE_HEIGHT),
        warnings=warnings,
        stale=describe_days(stale.days),
        stale_ancestors={name: describe_days(of_ancestor) for name, of_ancestor in stale.ancestors.items()},
        too_long=window.manifest.get("too_long"),
        key_numbers=key_numbers(profile.numbers) if profile else {},
        plots=[(title, Markup(svg)) for title, svg in inline_plots(store, profile)] if profile else [],  # noqa: S704
        timezone=settings.timezone,
    )


def _profile(store: Store, window: Window) -> Profile | None:
    """The profile of the window's clicks; None where they are gone, as may be of an old run."""
    try:
        return profile_of_window(store, window.as_of, window.manifest["inputs"])
    except DamagedError as error:
        logger.warning("The page of %s has no profile of the data: %s", window.as_of, error)
        return None


def _compared(promotion: Promotion) -> list[tuple[str, dict[str, Any]]]:
    columns = [("challenger", dict(promotion.challenger_metrics))]
    if promotion.opponent_metrics:
        columns.append(("champion", dict(promotion.opponent_metrics)))
    return columns + [(name, dict(values)) for name, values in promotion.baselines.items()]


def _by_length(promotion: Promotion) -> list[tuple[str, list[tuple[str, Metrics]]]]:
    """For each length of session, what challenger and champion scored, by column."""
    columns = [("challenger", promotion.version), ("champion", promotion.opponent or "")]
    scored = [(label, promotion.by_length[name]) for label, name in columns if name in promotion.by_length]
    return [(length, [(label, found[length]) for label, found in scored if length in found]) for length in LENGTHS]


def _points(values: Sequence[float | None]) -> list[tuple[float, float]]:
    """Positions of the learning curve's points in the picture; empty where there is nothing to draw."""
    known = [value for value in values if value is not None]
    if not known or len(known) < len(values):
        return []
    top = max(known) or 1.0
    step = _CURVE_WIDTH / max(len(known) - 1, 1)
    return [(round(i * step, 1), round(_CURVE_HEIGHT * (1 - value / top), 1)) for i, value in enumerate(known)]
