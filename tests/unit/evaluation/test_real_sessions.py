"""The baselines on real sessions score what independent implementations of them do.

The literature's protocol: clicks on items unseen in training are dropped, then sessions of one click; ties count against the
model.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sbr_tasks.evaluation.neighbours import VSTAN, VSkNN
from sbr_tasks.evaluation.ranking import evaluate
from sbr_tasks.evaluation.rules import SequentialRules
from sbr_tasks.evaluation.scorer import Scorer
from sbr_tasks.window.sessions import ItemIndex, Sessions

Split = tuple[Sessions, ItemIndex, Sessions]


def read(folder: Path, *names: str) -> pd.DataFrame:
    return pd.concat([pd.read_csv(folder / name, sep="\t") for name in names])


def sessions_of_clicks(clicks: pd.DataFrame) -> Sessions:
    of_session = clicks.groupby("SessionId")["Time"]
    clicks = clicks.assign(First=of_session.transform("min")).sort_values(["First", "SessionId", "Time", "ItemId"])
    starts = np.flatnonzero(clicks["SessionId"].diff())
    offsets = np.append(starts, len(clicks))
    last_click_us = clicks["Time"].to_numpy()[offsets[1:] - 1].astype(np.int64) * 1_000_000
    return Sessions(offsets, clicks["ItemId"].to_numpy(), np.ones(len(clicks), bool), last_click_us)


@pytest.fixture
def serenade(shared_data: Path) -> Split:
    folder = shared_data / "bolcom-serenade"
    train, test = read(folder, "train.txt"), read(folder, "valid.txt", "test.txt")
    test = test[test["ItemId"].isin(train["ItemId"])]
    test = test[test.groupby("SessionId")["ItemId"].transform("size") > 1]
    index = ItemIndex(*np.unique(train["ItemId"], return_counts=True))
    return sessions_of_clicks(train), index, sessions_of_clicks(test)


@pytest.mark.parametrize(
    ("model", "recall_at_20", "mrr_at_20"),
    [(SequentialRules, 0.474, 0.270), (VSkNN, 0.662, 0.255)],
)
def test_baselines_reach_the_reference(
    model: Callable[[Sessions, ItemIndex], Scorer], recall_at_20: float, mrr_at_20: float, serenade: Split
) -> None:
    train, index, test = serenade
    found = evaluate(model(train, index), test, batch_size=512)
    assert found.n_events == 2052
    assert found.recall_at(20) > 0.98 * recall_at_20
    assert found.mrr_at(20) > 0.98 * mrr_at_20


def test_vstan_finds_about_as_much_as_vsknn(serenade: Split) -> None:
    train, index, test = serenade
    vstan, vsknn = (evaluate(model(train, index), test, batch_size=512) for model in (VSTAN, VSkNN))
    assert vstan.recall_at(20) > 0.95 * vsknn.recall_at(20)
