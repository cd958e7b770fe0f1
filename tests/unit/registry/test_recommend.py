"""Recommendations of a stored version."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from sbr_tasks.cli import app
from sbr_tasks.errors import RegistryError
from sbr_tasks.registry.recommend import recommend_items
from tests.unit.registry.two_days import (
    BEFORE,
    Copied,
    D,
    Inject,
    promote,
)

pytestmark = pytest.mark.slow


def test_session_of_unknown_items_gets_the_popular_ones(
    copied: Copied,
) -> None:
    store, _, of = copied
    found = recommend_items(store, ["998"], k=3, name=of(D)[1])
    assert found.is_fallback
    assert list(found.scores) == sorted(found.scores, reverse=True)


def test_recommend_without_champion_or_with_a_wrong_id_says_so(
    copied: Copied,
) -> None:
    store, _, of = copied
    with pytest.raises(RegistryError) as caught:
        recommend_items(store, ["1"], k=3)
    assert "no champion" in str(caught.value) and "`sbr retrain --day DAY`" in str(caught.value)
    for wrong in ("sku", "-5"):
        with pytest.raises(RegistryError, match=rf"non-negative 64-bit integers .*; found '{wrong}'"):
            recommend_items(store, [wrong], k=3, name=of(D)[1])


def test_session_is_given_item_by_item_and_what_is_unknown_is_said(copied: Copied) -> None:
    store, _, of = copied
    ask = ("recommend", "--model", of(D)[1], "-k", "3", "--set", f"store={store.url}")

    def sbr(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, [*ask, *words])
        return done.exit_code, done.stdout

    assert sbr("--item", "3", "--item", "4") == sbr("--session", "3,4")
    code, text = sbr("--item", "3", "--item", "999")
    assert (code, "999" in text.splitlines()[0]) == (0, True)
    assert "No item of the session is known" not in text
    code, text = sbr("--item", "999")
    assert "No item of the session is known" in text.splitlines()[1]
    assert text.splitlines()[2].split() == ["rank", "item", "clicks"]
    assert sbr("--item", "3,4")[0] == 1, "an item is taken as it is, commas and blanks included"
    assert sbr()[0] == sbr("--session", "3", "--item", "4")[0] == 2


def test_recommend_names_the_last_decision_where_none_made_a_champion(copied: Copied, inject: Inject) -> None:
    store, settings, of = copied
    inject(d05=0.0, d06=0.0)
    for day in (D, BEFORE):
        promote(store, settings, *of(day), run="1")
    with pytest.raises(RegistryError) as caught:
        recommend_items(store, ["1"], k=3)
    facts = (of(BEFORE)[1], "below_baseline", "log entry 2", "`sbr log`", f"`sbr retrain --day {BEFORE} --force REASON`")
    assert [fact for fact in facts if fact not in str(caught.value)] == []
