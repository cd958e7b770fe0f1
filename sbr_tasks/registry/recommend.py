"""Recommendations for one session, by the NumPy forward pass of a stored version."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from sbr_tasks.errors import RegistryError
from sbr_tasks.registry.log import PromotionLog, live_champion
from sbr_tasks.registry.versions import load_scorer, load_version
from sbr_tasks.store import Json, Store
from sbr_tasks.window.sessions import UNKNOWN


@dataclass(frozen=True)
class Recommendation:
    """The best next items of a session.

    Attributes:
        model_version: The version that was asked.
        items: Raw item ids, best first.
        scores: The model's score of each; the support where `is_fallback`.
        unknown: Items of the session that the model doesn't know; they were skipped.
        is_fallback: No item of the session is known, so these are the most clicked ones.
    """

    model_version: str
    items: list[int | str]
    scores: list[float]
    unknown: list[str]
    is_fallback: bool

    def as_dict(self) -> Json:
        return asdict(self)


def recommend(store: Store, session: list[str], *, k: int, name: str | None = None) -> Recommendation:
    """The `k` items that a model expects next.

    Args:
        store: Where the models lie.
        session: Item ids as text, oldest first.
        k: How many items; fewer are returned when the model knows fewer.
        name: A version; None asks the champion.

    Raises:
        RegistryError: There is no champion yet, no such version, or an id isn't of the type of the model's ids.
    """
    name = name or live_champion(PromotionLog(store).entries())
    if name is None:
        raise RegistryError("There is no champion yet. Train one with `sbr retrain --as-of DAY`.")
    scorer = load_scorer(store, load_version(store, name))
    index = scorer.index
    is_integer = np.issubdtype(index.ids.dtype, np.integer)
    try:
        ids = np.array([int(item) if is_integer else item for item in session], dtype=np.int64 if is_integer else object)
    except ValueError:
        raise RegistryError(f"Expected integer item ids, such as --session 1,2,3; found {','.join(session)!r}.") from None
    codes = index.encode(ids)
    unknown = [item for item, code in zip(session, codes, strict=True) if code == UNKNOWN]
    is_fallback = len(unknown) == len(session)
    if is_fallback:
        scores = index.support.astype(np.float32)
    else:
        rows = np.zeros(1, np.int64)
        state = scorer.start(1)
        for code in codes:
            scorer.advance(state, np.array([code], np.int32), rows)
        scores = scorer.scores(state, rows)[0]
    best = np.argsort(-scores, kind="stable")[:k]
    return Recommendation(
        name, index.decode(best.astype(np.int32)).tolist(), [float(scores[i]) for i in best], unknown, is_fallback
    )
