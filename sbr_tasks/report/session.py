"""What versions recommend for the same session, side by side."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sbr_tasks.errors import RegistryError, SbrError
from sbr_tasks.readout import PlacementRule
from sbr_tasks.registry.log import PromotionLog
from sbr_tasks.registry.recommend import Recommendation, recommend_items
from sbr_tasks.store import Store

MAX_ITEMS = 200
_SEPARATORS = re.compile(r"[\s,;]+")


@dataclass(frozen=True)
class Column:
    """What one version recommends; or, if it can't be used (unknown, or its files are lost), why: `fault`."""

    version: str
    recommendation: Recommendation | None
    fault: str = ""


def side_by_side(store: Store, text: str, other: str | None, rule: PlacementRule, *, k: int) -> list[Column]:
    """What the champion and another version expect next in a session, by the NumPy forward pass.

    Args:
        store: Has the models.
        text: Item ids, oldest first, separated by commas or spaces.
        other: The version beside the champion; None or the champion itself: the champion alone.
        rule: Which items are hidden.
        k: Items of each.

    Raises:
        RegistryError: There is no item or too many, or no champion yet.
    """
    session = parse_session(text)
    champion = PromotionLog(store).state().champion
    if champion is None:
        raise RegistryError("There is no champion yet. The first version that passes the gate becomes champion.")
    names = [champion] if other in (None, "", champion) else [champion, str(other)]
    return [_column(store, session, name, rule, k) for name in names]


def parse_session(text: str) -> list[str]:
    """The item ids of a session, from free text.

    Raises:
        RegistryError: There is none, or more than `MAX_ITEMS`.
    """
    session = [item for item in _SEPARATORS.split(text) if item]
    if not 0 < len(session) <= MAX_ITEMS:
        raise RegistryError(f"Expected the items of a session, from 1 to {MAX_ITEMS} ids such as 1,2,3; found {len(session)}.")
    return session


def _column(store: Store, session: list[str], name: str, rule: PlacementRule, k: int) -> Column:
    try:
        return Column(name, recommend_items(store, session, k=k, name=name, rule=rule))
    except SbrError as error:
        return Column(name, None, str(error))
