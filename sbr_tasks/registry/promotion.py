"""Promotion: the gate asked against the champion that stands, and the answer committed to the log."""

from __future__ import annotations

import logging
from datetime import UTC, date, datetime

from sbr_tasks.errors import AlreadyExistsError
from sbr_tasks.registry.gate import Contender, Metrics, decide
from sbr_tasks.registry.log import (
    Promotion,
    PromotionLog,
    day_of,
    decision_on,
    live_champion,
    opponent_for,
)
from sbr_tasks.registry.mlflow_projection import MlflowProjection
from sbr_tasks.registry.scoring import BASELINES, score_models
from sbr_tasks.registry.versions import load_version, version_names
from sbr_tasks.settings import Settings
from sbr_tasks.store import Store
from sbr_tasks.window.build import Window

logger = logging.getLogger(__name__)


def opponents(store: Store, as_of: date) -> list[str]:
    """The version that a challenger of `as_of` would be compared with now; empty when there is none."""
    name = opponent_for(PromotionLog(store).entries(), as_of)
    return [name] if name else []


def promote_if_better(store: Store, settings: Settings, window: Window, name: str, *, run: str) -> Promotion:
    """Decides on a challenger, commits the decision and brings MLflow level with the log.

    When another run commits first, the challenger is compared again with the champion that then stands. A version that
    was decided on keeps its decision.

    Args:
        store: Where models, evaluations and the log lie.
        settings: Margin and floors of the gate.
        window: The window whose test day both are scored on.
        name: The challenger.
        run: What is deciding, for the log.

    Raises:
        RegistryError: Nothing can be decided.
    """
    log = PromotionLog(store)
    while True:
        entries = log.entries()
        promotion = decision_on(entries, name)
        if promotion:
            logger.info("%s was decided on before (log entry %d): %s.", name, promotion.number, promotion.outcome)
            break
        promotion = _decide(store, settings, window, name, entries, run)
        try:
            log.create(promotion)
        except AlreadyExistsError:
            logger.info("Another run wrote log entry %d first; comparing again.", promotion.number)
            continue
        entries = [*entries, promotion]
        break
    project(store, settings, promotion)
    logger.info("%s: %s. %s", name, promotion.outcome, " ".join(promotion.reasons))
    return promotion


def repair(store: Store, settings: Settings) -> dict[str, int]:
    """Makes MLflow again from the store: every version, every decision, and the champion's alias.

    Returns:
        How many `versions` and `decisions` it shows now.
    """
    projection = MlflowProjection(store, settings)
    names = version_names(store)
    for name in names:
        projection.show_version(load_version(store, name))
    entries = PromotionLog(store).entries()
    for promotion in entries:
        projection.show_decision(promotion, _metrics_of(promotion))
    projection.show_champion(entries)
    return {"versions": len(names), "decisions": len(entries)}


def project(store: Store, settings: Settings, promotion: Promotion) -> None:
    """Shows one decision, and the champion that now stands, in MLflow."""
    projection = MlflowProjection(store, settings)
    projection.show_version(load_version(store, promotion.version))
    projection.show_decision(promotion, _metrics_of(promotion))
    log = PromotionLog(store)
    entries = log.entries()
    while True:
        champion = live_champion(entries)
        if champion:
            projection.show_version(load_version(store, champion))
        projection.show_champion(entries)
        shown, entries = len(entries), log.entries()
        if len(entries) == shown:
            return


def _metrics_of(promotion: Promotion) -> dict[str, Metrics]:
    metrics = {promotion.version: promotion.challenger_metrics}
    if promotion.opponent_metrics:
        metrics["champion"] = promotion.opponent_metrics
    return metrics | promotion.baselines


def _decide(store: Store, settings: Settings, window: Window, name: str, entries: list[Promotion], run: str) -> Promotion:
    opponent = opponent_for(entries, window.as_of)
    scores = score_models(store, settings, window, [name, *([opponent] if opponent else [])])
    champion = live_champion(entries)
    opponent_day = day_of(entries, opponent)
    decision = decide(
        Contender(name, window.as_of, scores[name]),
        Contender(opponent, opponent_day, scores[opponent]) if opponent and opponent_day else None,
        popularity=scores["popularity"],
        live_day=day_of(entries, champion),
        settings=settings.gate,
    )
    return Promotion(
        number=len(entries) + 1,
        version=name,
        as_of=window.as_of,
        outcome=decision.outcome,
        reasons=decision.reasons,
        opponent=opponent,
        champion=name if decision.outcome.moves_champion else champion,
        challenger_metrics=scores[name],
        opponent_metrics=scores[opponent] if opponent else None,
        baselines={baseline: scores[baseline] for baseline in BASELINES},
        window=window.fingerprint,
        run=run,
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )
