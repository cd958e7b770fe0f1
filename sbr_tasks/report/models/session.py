"""What versions recommend for the same session, side by side."""

from __future__ import annotations

import re
from collections.abc import Sequence

from sbr_tasks.errors import RegistryError, SbrError
from sbr_tasks.registry.log import PromotionLog
from sbr_tasks.registry.recommend import recommend
from sbr_tasks.store import Json, Store

MOST_ITEMS = 200
_SEPARATORS = re.compile(r"[\s,;]+")


def side_by_side(store: Store, text: str, other: str | None, *, k: int) -> list[Json]:
    """What the champion and another version expect next in a session, by the NumPy forward pass.

    Args:
        store: Holds the models.
        text: Item ids, oldest first, between commas or blanks.
        other: The version beside the champion; None or the champion itself: the champion alone.
        k: Items of each.

    Returns:
        See `registry.recommend.Recommendation`, with `fault` None. A version that can't be asked (it is unknown, its files are
        lost, its ids are of another type) has only its `model_version` and the sentence `fault`.

    Raises:
        RegistryError: There is no item or too many, or no champion yet.
    """
    session = parse_session(text)
    champion = PromotionLog(store).state().champion
    if champion is None:
        raise RegistryError(
            "There is no champion yet, so there is nothing to ask: the first run that passes the gate makes one."
        )
    names = [champion] if other in (None, "", champion) else [champion, str(other)]
    return [_ask(store, session, name, k) for name in names]


def parse_session(text: str) -> list[str]:
    """The item ids of a session as somebody wrote them.

    Raises:
        RegistryError: There is none, or more than `MOST_ITEMS`.
    """
    session = [item for item in _SEPARATORS.split(text) if item]
    if not 0 < len(session) <= MOST_ITEMS:
        raise RegistryError(f"Expected the items of a session, from 1 to {MOST_ITEMS} ids such as 1,2,3; found {len(session)}.")
    return session


def _ask(store: Store, session: Sequence[str], name: str, k: int) -> Json:
    try:
        return recommend(store, list(session), k=k, name=name).as_dict() | {"fault": None}
    except SbrError as error:
        return {"model_version": name, "fault": str(error)}
