"""What validation chose for a version, in words and as its page shows it."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from benchmarks.records import version_record_of
from benchmarks.seeded_history import MIXTURE, seed_history
from sbr_tasks.registry.listing import describe_version
from sbr_tasks.registry.log import Decision, PromotionLog
from sbr_tasks.registry.versions import Choice, load_version
from sbr_tasks.report.choice import gru4rec_gain, own_item_rows, readout_in_words, share_rows, training_in_words
from sbr_tasks.report.render import version_html
from sbr_tasks.report.version import version_page
from sbr_tasks.settings import ModelSettings, load_settings
from sbr_tasks.store import Store, kinds
from tests.unit.report.pages import Page

NAME = "2020-06-30-1a2b3c4d"
EARLIER = Choice(day=date(2020, 6, 28), n_epochs=1, mixture=MIXTURE)


def gain(value: float, lower: float, upper: float) -> dict[str, float]:
    return {"value": value, "lower": lower, "upper": upper, "probability": 0.9}


BETTER, UNSURE, WORSE = gain(0.021, 0.011, 0.031), gain(0.002, -0.001, 0.005), gain(-0.034, -0.048, -0.02)


@pytest.mark.parametrize(
    ("recall", "mrr", "sentence"),
    [
        (
            BETTER,
            gain(0.034, 0.02, 0.048),
            "GRU4Rec adds 0.021 to Recall@20 and 0.034 to MRR@20 over counting alone "
            "(95% intervals +0.011 to +0.031 and +0.020 to +0.048).",
        ),
        (
            BETTER,
            UNSURE,
            "GRU4Rec adds 0.021 to Recall@20 over counting alone (95% interval +0.011 to +0.031). "
            "What GRU4Rec adds to MRR@20 over counting alone could be chance (95% interval -0.0010 to +0.0050).",
        ),
        (
            UNSURE,
            WORSE,
            "GRU4Rec lowers MRR@20 by 0.034 compared with counting alone (95% interval -0.048 to -0.020). "
            "What GRU4Rec adds to Recall@20 over counting alone could be chance (95% interval -0.0010 to +0.0050).",
        ),
    ],
)
def test_gain_of_the_neural_part_is_said_for_each_metric(
    recall: dict[str, float], mrr: dict[str, float], sentence: str
) -> None:
    assert gru4rec_gain({"recall_at_20": recall, "mrr_at_20": mrr}) == sentence


def test_gain_whose_interval_touches_zero_is_chance() -> None:
    assert "could be chance" in gru4rec_gain({"recall_at_20": gain(0.01, 0.0, 0.02)})
    assert gru4rec_gain({}) == ""


@pytest.mark.parametrize(
    ("choice", "note", "sentence"),
    [
        (
            Choice(day=date(2020, 6, 29), n_epochs=5, mixture=None),
            None,
            "The clicks of 29 June 2020 chose 5 epochs; the version was then trained for 5 epochs on all clicks before "
            "30 June 2020.",
        ),
        (
            Choice(day=None, n_epochs=10, mixture=None),
            "The validation day has too few events. Trained for 10 epochs, the maximum.",
            "The validation day has too few events. Trained for 10 epochs, the maximum.",
        ),
    ],
    ids=["chosen", "maximum"],
)
def test_training_says_who_chose_the_epochs(choice: Choice, note: str | None, sentence: str) -> None:
    assert training_in_words(version_record_of(NAME, choice=choice, note=note)) == sentence


def test_numbers_of_a_readout_in_words_and_rows() -> None:
    back, temperature, factors = readout_in_words(MIXTURE)
    assert back.startswith(
        "31% of the next clicks go back to the item before the current one; 4% are on the current item again."
    )
    assert "divided by 1.25" in temperature and "flattens" in temperature
    assert "the factors in the table" in factors
    plain = MIXTURE.model_copy(update={"biases": (), "temperature": 0.8})
    assert "sharpens" in readout_in_words(plain)[1] and "no factors" in readout_in_words(plain)[2]
    assert own_item_rows(MIXTURE)[:2] == [("current", "4%", "\u00d7 0.41"), ("1 back", "31%", "\u00d7 2.01")]
    assert own_item_rows(plain)[0] == ("current", "4%", "\u2013")
    assert [row[0] for row in share_rows(MIXTURE)] == ["1", "2", "3", "4", "5 or more"]
    assert share_rows(MIXTURE)[0][1:] == pytest.approx((0.58, 0.38, 0.04))


def test_gain_is_listed_with_the_decisions_on_a_version(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    seed_history(store, date(2026, 11, 27), 1)
    (decision,) = PromotionLog(store).entries()
    details = describe_version(store, decision.version).model_dump(mode="json")
    assert isinstance(decision, Decision) and decision.neural_gain.keys() == {"recall_at_20", "mrr_at_20"}
    assert details["log"][0]["neural_gain"] == decision.neural_gain
    assert details["choice"]["mixture"]["temperature"] == 1.25


def page_of(tmp_path: Path, **changes: Any) -> str:
    """The text of the last version's page, with its record changed."""
    store = Store(str(tmp_path / "store"))
    seed_history(store, date(2026, 11, 27), 3)
    name = PromotionLog(store).entries()[-1].version
    version = load_version(store, name)
    key = kinds.VERSION.key(version=name)
    store.delete(key)
    store.create_record(key, version.model_copy(update=changes).as_dict())
    return Page(version_html(version_page(store, name), load_settings({"store": str(tmp_path / "store")}))).text


def test_page_shows_the_gain_and_the_readout(tmp_path: Path) -> None:
    text = page_of(tmp_path, choice=EARLIER)
    assert "over counting alone (95% interval" in text
    assert "events of 28 June 2020, with a model that was trained on earlier days" in text
    assert "Runs of 3 consecutive days share their epochs and read-out" in text


@pytest.mark.parametrize("readout", ["plain", "mixture"])
def test_page_of_a_version_without_a_readout_says_so_and_claims_no_gain(tmp_path: Path, readout: str) -> None:
    inputs = version_record_of(NAME, model=ModelSettings(readout=readout)).inputs
    text = page_of(tmp_path, choice=EARLIER.model_copy(update={"mixture": None}), inputs=inputs)
    assert "Plain GRU4Rec: no read-out" in text and "over counting alone" not in text
    assert ("no validation events to fit one" in text) is (readout == "mixture")
