"""The baselines on real sessions score what independent implementations of them do.

The literature's protocol: clicks on items unseen in training are dropped, then sessions of one click; ties count against the
model.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from sbr_tasks.evaluation.neighbours import VSTAN, VSkNN
from sbr_tasks.evaluation.ranking import evaluate
from sbr_tasks.evaluation.rules import SequentialRules
from sbr_tasks.evaluation.scorer import Scorer
from sbr_tasks.experiments.offline import apply_protocol, read_sessions
from sbr_tasks.settings import SourceSettings
from sbr_tasks.window.sessions import ItemIndex, Sessions

Split = tuple[Sessions, ItemIndex, Sessions]


@pytest.fixture
def serenade(shared_data: Path) -> Split:
    train, valid, test = (str(shared_data / "bolcom-serenade" / name) for name in ("train.txt", "valid.txt", "test.txt"))
    source = SourceSettings(format="gru4rec")
    sessions, tested, index = apply_protocol(
        read_sessions([train], source, "--train"), read_sessions([valid, test], source, "--test")
    )
    return sessions, index, tested


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
