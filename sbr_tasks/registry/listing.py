"""The model versions as a list."""

from __future__ import annotations

from sbr_tasks.registry.log import PromotionLog, decision_on, live_champion
from sbr_tasks.registry.versions import load_version, version_names
from sbr_tasks.store import Json, Store


def model_rows(store: Store) -> list[Json]:
    """One row a version, oldest day first: what it scored on its test day, the outcome, and whether it is champion."""
    entries = PromotionLog(store).entries()
    champion = live_champion(entries)
    rows = []
    for name in version_names(store):
        version = load_version(store, name)
        promotion = decision_on(entries, name)
        metrics = promotion.challenger_metrics if promotion else {}
        rows.append(
            {
                "version": name,
                "day": str(version.as_of),
                "recall_at_20": metrics.get("recall_at_20"),
                "mrr_at_20": metrics.get("mrr_at_20"),
                "n_events": metrics.get("n_events"),
                "outcome": promotion.outcome.value if promotion else None,
                "champion": name == champion,
            }
        )
    return rows
