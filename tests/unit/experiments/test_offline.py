import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from sbr_tasks.errors import SourceError
from sbr_tasks.evaluation.baselines import Markov, Popularity
from sbr_tasks.evaluation.ranking import Evaluation, evaluate_ties
from sbr_tasks.experiments import offline
from sbr_tasks.experiments.offline import Comparison, apply_protocol, compare_offline, comparison_table, read_sessions
from sbr_tasks.settings import Settings, SourceSettings, load_settings, parse_overrides
from sbr_tasks.window.sessions import Sessions
from tests.unit.days import write_parquet

pytestmark = pytest.mark.slow

Build = Callable[..., Sessions]
GRU4REC = SourceSettings(format="gru4rec")
SMALL = ("model.layers=[8]", "model.batch_size=4", "model.n_sample=8", "source.format=gru4rec")


def write(file: Path, *clicks: tuple[object, object, float]) -> str:
    """A file of (session, item, time) in GRU4Rec's format, lines in the order given."""
    lines = ["SessionId\tItemId\tTime", *("\t".join(map(str, click)) for click in clicks)]
    file.write_text("\n".join(lines) + "\n")
    return str(file)


def write_walks(folder: Path) -> tuple[str, str]:
    """Round walks over 6 items, to train and to test on."""
    train = [(s, (s + step) % 6, 100 * s + step) for s in range(30) for step in range(4)]
    test = [(s, (s + step) % 6, 100 * s + step) for s in range(50, 56) for step in range(3)]
    return write(folder / "train.txt", *train), write(folder / "test.txt", *test)


def settings(*overrides: str) -> Settings:
    return load_settings(parse_overrides([*SMALL, *overrides]))


def listed(sessions: Sessions) -> list[list[object]]:
    return [part.tolist() for part in np.split(sessions.item_ids, sessions.offsets[1:-1])] if sessions.n_sessions else []


def test_protocol_on_a_tiny_example(sessions_of: Build) -> None:
    train, test, index = apply_protocol(
        sessions_of([[1, 2], [9], [3, 2, 2], []]),
        sessions_of([[1, 9, 2], [9, 8, 1], [7], [3, 1, 3, 2], [2, 9]]),
    )
    # 9 was clicked in training only by a session of one click, so that training doesn't hold it
    assert listed(train) == [[1, 2], [3, 2, 2]]
    assert (index.ids.tolist(), index.support.tolist()) == ([2, 1, 3], [3, 1, 1])
    assert listed(test) == [[1, 2], [3, 1, 3, 2]]
    assert test.is_target is None


def test_protocol_cleanses_nothing_else(sessions_of: Build) -> None:
    once = [[item, item + 1] for item in range(0, 20, 2)]
    train, test, index = apply_protocol(sessions_of(once), sessions_of([[0, 0, 0], list(range(20))]))
    assert listed(train) == once
    assert len(index) == 20
    assert listed(test) == [[0, 0, 0], list(range(20))]


@pytest.mark.parametrize("clicks", [[], [[1], [2]]])
def test_protocol_may_leave_nothing(clicks: list[list[int]], sessions_of: Build) -> None:
    train, test, index = apply_protocol(sessions_of(clicks), sessions_of([[1, 2]]))
    assert (train.n_sessions, test.n_sessions, len(index)) == (0, 0, 0)


def test_sessions_follow_their_first_click_and_clicks_follow_time_then_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", (2, 30, 7), (1, 20, 9), (2, 10, 5), (1, 40, 9), (3, 60, 5), (1, 10, 8), (3, 50, 6))
    # sessions 2 and 3 both start at 5; in session 1 item 20 comes before item 40, both at 9
    assert listed(read_sessions([file], GRU4REC, "--train")) == [[10, 30], [60, 50], [10, 20, 40]]


def test_several_files_are_one_set(tmp_path: Path) -> None:
    first = write(tmp_path / "a.txt", (1, 10, 1), (2, 11, 0), (2, 12, 3))
    second = write(tmp_path / "b.txt", (1, 13, 2), (3, 14, 0.5), (3, 15, 9))
    assert listed(read_sessions([first, second], GRU4REC, "--test")) == [[11, 12], [14, 15], [10, 13]]


def test_string_ids_are_read_and_indexed(tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", ("y", "shoe", 1), ("x", "hat", 1), ("x", "shoe", 2), ("y", "coat", 2))
    sessions = read_sessions([file], SourceSettings(format="gru4rec", id_type="string"), "--train")
    train, test, index = apply_protocol(sessions, sessions)
    assert listed(train) == listed(test) == [["hat", "shoe"], ["shoe", "coat"]]
    assert index.ids.tolist() == ["shoe", "coat", "hat"]


def test_users_of_movielens_are_cut_into_sessions(tmp_path: Path) -> None:
    file = tmp_path / "u.data"
    file.write_text("7\t1\t5\t0\n7\t2\t5\t60\n7\t3\t5\t9999\n7\t4\t5\t9998\n")
    assert listed(read_sessions([str(file)], SourceSettings(format="movielens"), "--train")) == [[1, 2], [4, 3]]


def test_click_without_an_id_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    at = np.datetime64("2020-01-01T00:00:00", "us").item()
    write_parquet(file, [(1, 10, at), (1, None, at)])
    with pytest.raises(SourceError) as refused:
        read_sessions([str(file)], SourceSettings(format="parquet"), "--train")
    assert str(refused.value) == f"Expected item_id in each click of {file}, found 1 clicks without it. Fill them in."


def test_all_epochs_are_trained_whatever_the_patience(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    train, test = write_walks(tmp_path)
    with caplog.at_level("INFO"):
        found = compare_offline(train, [test], settings("model.n_epochs=5", "training.patience=1"))
    assert "Epoch 5 of 5" in caplog.text
    assert (found.n_train_events, found.n_events) == (90, 12)
    assert found.train_events_per_second == pytest.approx(90 / found.epoch_seconds)


def test_models_are_scored_on_the_same_events_and_learn(tmp_path: Path) -> None:
    train, test = write_walks(tmp_path)
    found = compare_offline(train, [test], settings("model.n_epochs=60", "model.dropout_p_embed=0", "model.dropout_p_hidden=0"))
    assert found.gru4rec["conservative"].recall_at(1) == 1
    assert found.baselines["markov"]["conservative"].recall_at(1) == 1
    # each item is clicked 20 times, so popularity is nothing but ties: all 6 items before, none, or half of the other 5
    popularity = {mode: set(evaluation.ranks.tolist()) for mode, evaluation in found.baselines["popularity"].items()}
    assert popularity == {"conservative": {6}, "standard": {1}, "median": {3.5}}
    assert {model["median"].n_events for model in (found.gru4rec, *found.baselines.values())} == {12}


def test_readout_is_fitted_on_the_last_day_and_tested_with_and_without_each_part(tmp_path: Path) -> None:
    # Each session walks to a new item and returns: 0 1 0 2 0 3, from another item each.
    walks = [
        (s, (s + (step + 1) // 2 * (step % 2)) % 6, 86_400 * (s // 20) + 100 * (s % 20) + step)
        for s in range(60)
        for step in range(6)
    ]
    train = write(tmp_path / "train.txt", *walks)
    test = write(tmp_path / "test.txt", *((1000 + session, item, at) for session, item, at in walks[:90]))
    compared = compare_offline(train, [test], settings("model.n_epochs=2"))
    names = ["readout", "readout, no co-visits", "readout, no own items", "readout, no gru4rec"]
    assert list(compared.readout) == list(compared.as_dict()["readout"]) == names
    recalls = {name: by_ties["conservative"].recall_at(1) for name, by_ties in compared.readout.items()}
    assert recalls["readout"] > 0.3 > recalls["readout, no own items"]
    assert compared.readout["readout"]["conservative"].n_events == compared.n_events
    assert compare_offline(test, [test], settings("model.n_epochs=1")).readout == {}  # all of one day


def test_seed_decides_the_ranks(tmp_path: Path) -> None:
    train, test = write_walks(tmp_path)
    barely = "model.n_epochs=1", "model.learning_rate=1e-9"
    ranks = [
        compare_offline(train, [test], settings(*barely, f"training.seed={seed}")).gru4rec["conservative"].ranks
        for seed in (1, 1, 2)
    ]
    assert ranks[0].tolist() == ranks[1].tolist() != ranks[2].tolist()


def test_further_baseline_needs_no_more_than_an_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        offline, "BASELINES", {"chain": lambda *data: Markov(*data[:2]), "again": lambda _, index, __: Popularity(index)}
    )
    train, test = write_walks(tmp_path)
    found = compare_offline(train, [test], settings("model.n_epochs=1"))
    assert list(found.as_dict()["baselines"]) == ["chain", "again"]
    assert [line.split()[0] for line in comparison_table(found).splitlines()[2:6]] == ["gru4rec", "chain", "again", "again"]


def test_tie_modes_with_the_same_figures_share_a_row() -> None:
    def by_ties(*ranks: Sequence[float]) -> dict[str, Evaluation]:
        return {
            mode: Evaluation(np.array(one, float), np.zeros(len(one), np.int64))
            for mode, one in zip(("conservative", "standard", "median"), ranks, strict=True)
        }

    found = Comparison(
        gru4rec=by_ties([1, 5], [1, 5], [1, 5]),
        readout={},
        baselines={"markov": by_ties([4, 21], [4, 20], [4, 20.5]), "popularity": by_ties([40], [1], [20.5])},
        n_train_events=3000,
        epoch_seconds=1.5,
        peak_rss_mb=1234.5,
    )
    rows = [line.split("  ") for line in comparison_table(found).splitlines()]
    cells = [[cell.strip() for cell in row if cell.strip()] for row in rows]
    assert cells[0] == ["model", "ties", "R@1", "R@5", "R@10", "R@20", "MRR@1", "MRR@5", "MRR@10", "MRR@20"]
    assert [row[:6] for row in cells[2:7]] == [
        ["gru4rec", "all", "0.5000", "1.0000", "1.0000", "1.0000"],
        ["markov", "conservative, median", "0.0000", "0.5000", "0.5000", "0.5000"],
        ["markov", "standard", "0.0000", "0.5000", "0.5000", "1.0000"],
        ["popularity", "conservative, median", "0.0000", "0.0000", "0.0000", "0.0000"],
        ["popularity", "standard", "1.0000", "1.0000", "1.0000", "1.0000"],
    ]
    assert comparison_table(found).splitlines()[-1] == (
        "Tested on 2 events. Trained on 3,000 events an epoch: 1.50 s an epoch, 2,000 events/s, peak memory 1,234 MB."
    )


def test_bolcom_sample_has_the_events_that_others_count(shared_data: Path) -> None:
    folder = shared_data / "bolcom-serenade"
    given = [read_sessions([str(folder / name)], GRU4REC, "--test") for name in ("train.txt", "valid.txt", "test.txt")]
    both = read_sessions([str(folder / "valid.txt"), str(folder / "test.txt")], GRU4REC, "--test")
    assert both.n_clicks == given[1].n_clicks + given[2].n_clicks
    train, test, index = apply_protocol(given[0], both)
    assert (train.n_clicks - train.n_sessions, len(index)) == (89_848, 18_009)
    popularity = evaluate_ties(Popularity(index), test, batch_size=512)["conservative"]
    assert (popularity.n_events, np.count_nonzero(popularity.ranks <= 20)) == (2052, 21)


def test_json_form_is_plain_and_complete(tmp_path: Path) -> None:
    train, test = write_walks(tmp_path)
    found = json.loads(json.dumps(compare_offline(train, [test], settings("model.n_epochs=1")).as_dict(), allow_nan=False))
    metrics = {f"{metric}_at_{k}" for metric in ("recall", "mrr") for k in (1, 5, 10, 20)}
    for model in (found, *found["baselines"].values()):
        assert {mode: set(model[mode]) for mode in ("conservative", "standard", "median")} == dict.fromkeys(
            ("conservative", "standard", "median"), metrics
        )
        assert model["n_events"] == 12
