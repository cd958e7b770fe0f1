"""Recommendations for one session, by the NumPy forward pass of a stored version."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from sbr_tasks.errors import RegistryError
from sbr_tasks.evaluation.scorer import best_items
from sbr_tasks.readout.placement import SHOW_ALL, PlacementRule
from sbr_tasks.registry.log import PromotionLog
from sbr_tasks.registry.versions import load_model, load_version
from sbr_tasks.store import FileRecord, Store, kinds, to_parquet
from sbr_tasks.summary import Result
from sbr_tasks.window.sessions import UNKNOWN

_ITEMS_AT_ONCE = 512


class Recommendation(Result):
    """The best next items of a session.

    Attributes:
        model_version: The version that recommends them.
        items: Raw item ids, best first.
        scores: The model's score of each; the support where `is_fallback`.
        unknown: Items of the session that the model doesn't know; they were skipped.
        is_fallback: No item of the session is known, so these are the most clicked ones.
    """

    model_version: str
    items: tuple[int | str, ...]
    scores: tuple[float, ...]
    unknown: tuple[str, ...]
    is_fallback: bool


def recommend_items(
    store: Store, session: list[str], *, k: int, name: str | None = None, rule: PlacementRule = SHOW_ALL
) -> Recommendation:
    """The `k` items that a model expects next.

    Args:
        store: The store with the models.
        session: Item ids as text, oldest first.
        k: How many items; fewer are returned when the model knows fewer, or the rule hides the others.
        name: A version; None: the champion.
        rule: Which items are hidden.

    Raises:
        RegistryError: The session is empty, there is no champion yet, no such version, or an id isn't of the model's type.
    """
    if not session or not all(session):
        raise RegistryError(f"Expected the session's item ids, such as 1,2,3; found {','.join(session)!r}.")
    name = name or _champion(store)
    scorer = load_model(store, load_version(store, name)).scorer()
    index = scorer.index
    is_integer = np.issubdtype(index.ids.dtype, np.integer)
    try:
        ids = np.array([int(item) if is_integer else item for item in session], dtype=np.int64 if is_integer else object)
    except (ValueError, OverflowError):
        ids = None
    if ids is None or (is_integer and (ids < 0).any()):
        raise RegistryError(f"Expected non-negative 64-bit integers as item ids, such as 1,2,3; found {','.join(session)!r}.")
    codes = index.encode(ids)
    unknown = [item for item, code in zip(session, codes, strict=True) if code == UNKNOWN]
    scores, is_known = rule.session_scores(scorer, codes)
    best = best_items(scores, k)
    return Recommendation(
        model_version=name,
        items=index.decode(best).tolist(),
        scores=scores[best].tolist(),
        unknown=tuple(unknown),
        is_fallback=not is_known,
    )


def write_next_items(store: Store, rule: PlacementRule, *, k: int = 20) -> tuple[str, FileRecord]:
    """Writes what the champion recommends after a session of one click, for every item that it knows.

    The file has the columns `item_id`, `rank` (from 1), `next_item_id` and `score`, and `k` rows an item; fewer where fewer
    items may be shown. Items that the rule excludes have next items, too: their own pages may still be visited.

    Args:
        store: The store with the champion.
        rule: Which items are hidden.
        k: Next items of each item.

    Returns:
        The version, and the file.

    Raises:
        RegistryError: There is no champion yet.
    """
    name = _champion(store)
    scorer = rule.applied_to(load_model(store, load_version(store, name)).scorer())
    n_items = len(scorer.index)
    k = min(k, n_items)
    best, scores = np.empty((n_items, k), np.int32), np.empty((n_items, k), np.float32)
    for start in range(0, n_items, _ITEMS_AT_ONCE):
        codes = np.arange(start, min(start + _ITEMS_AT_ONCE, n_items), dtype=np.int32)
        rows = np.arange(len(codes))
        state = scorer.start(len(codes))
        scorer.advance(state, codes, rows)
        scored = scorer.scores(state, rows)
        best[codes] = np.argsort(-scored, axis=1, kind="stable")[:, :k]
        scores[codes] = np.take_along_axis(scored, best[codes].astype(np.intp), axis=1)
    table = pa.table(
        {
            "item_id": pa.array(np.repeat(scorer.index.ids, k)),
            "rank": pa.array(np.tile(np.arange(1, k + 1, dtype=np.int32), n_items)),
            "next_item_id": pa.array(scorer.index.decode(best.ravel())),
            "score": pa.array(scores.ravel()),
        }
    )
    is_shown = pa.array(~np.isneginf(scores.ravel()))
    return name, store.replace(kinds.NEXT_ITEMS.key(version=name), to_parquet(table.filter(is_shown)))


def _champion(store: Store) -> str:
    state = PromotionLog(store).state()
    if state.champion:
        return state.champion
    if not state.decisions:
        raise RegistryError("There is no champion yet. Train one with `sbr retrain --day DAY`.")
    last = max(state.decisions.values(), key=lambda decision: decision.number)
    raise RegistryError(
        f"There is no champion yet: the last decision, on {last.version}, was {last.outcome} (log entry {last.number}). "
        f"`sbr log` shows why. `sbr retrain --day {last.day} --force REASON` promotes a model regardless of its scores."
    )
