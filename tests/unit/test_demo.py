"""The demo clicks are well-formed, repeatable, and have the structure that they promise."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from sbr_tasks.demo import DemoShop, DemoSummary, write_demo_clicks
from sbr_tasks.errors import SourceError

LINE = re.compile(
    r"([1-9]\d*),(\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{3}Z),(214\d{6}),(0|S|[1-9]|1[0-2])", re.ASCII
)
END = date(2020, 6, 30)
DAYS = 30
FIRST = END - timedelta(days=DAYS - 1)


class Shop(NamedTuple):
    summary: DemoSummary
    session: npt.NDArray[np.int64]
    at: npt.NDArray[np.datetime64]
    item: npt.NDArray[np.int64]
    category: list[str]
    day: npt.NDArray[np.int64]
    """Days since the first day of the file."""


def parse(summary: DemoSummary, first: date) -> Shop:
    text = summary.path.read_text("ascii")
    assert text.endswith("\n")
    matches = [LINE.fullmatch(line) for line in text[:-1].split("\n")]
    rows = [match.groups() for match in matches if match]
    assert len(rows) == len(matches)
    session, at, item, category = zip(*rows, strict=True)
    instants = np.array([text[:-1] for text in at], "datetime64[ms]")
    return Shop(
        summary=summary,
        session=np.array(session, np.int64),
        at=instants,
        item=np.array(item, np.int64),
        category=list(category),
        day=(instants.astype("datetime64[D]") - np.datetime64(first)).astype(np.int64),
    )


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    out = tmp_path_factory.mktemp("demo") / "clicks.dat"
    return parse(write_demo_clicks(out, end=END, days=DAYS, sessions_per_day=1_500), FIRST)


def small(out: Path, seed: int = 42, shuffle: bool = False) -> bytes:
    write_demo_clicks(out, end=END, days=3, sessions_per_day=100, seed=seed, shuffle=shuffle)
    return out.read_bytes()


def test_same_seed_gives_same_bytes(tmp_path: Path) -> None:
    assert small(tmp_path / "a") == small(tmp_path / "b")
    assert small(tmp_path / "a", shuffle=True) == small(tmp_path / "b", shuffle=True)


def test_another_seed_gives_other_clicks(tmp_path: Path) -> None:
    assert small(tmp_path / "a") != small(tmp_path / "b", seed=43)


def test_shuffle_only_reorders_lines(tmp_path: Path) -> None:
    in_order, shuffled = small(tmp_path / "a"), small(tmp_path / "b", shuffle=True)
    assert in_order != shuffled
    assert sorted(in_order.splitlines()) == sorted(shuffled.splitlines())


@pytest.mark.parametrize("clicks", [1, 50, 1_000, 20_001])
@pytest.mark.parametrize("shuffle", [False, True])
def test_exact_number_of_clicks(tmp_path: Path, clicks: int, shuffle: bool) -> None:
    summary = write_demo_clicks(tmp_path / "a", end=END, clicks=clicks, shuffle=shuffle)
    found = parse(summary, FIRST)
    assert summary.clicks == len(found.session) == clicks
    assert summary.sessions == len(np.unique(found.session))
    assert summary.last.date() == END


def test_cutting_to_a_number_of_clicks_keeps_the_last_days(tmp_path: Path) -> None:
    whole = small(tmp_path / "a").splitlines()
    write_demo_clicks(tmp_path / "b", end=END, days=3, sessions_per_day=100, clicks=len(whole) - 10)
    cut = (tmp_path / "b").read_bytes().splitlines()
    assert len(cut) == len(whole) - 10
    assert set(cut) < set(whole)
    assert cut[20:] == whole[30:]


def test_longer_history_holds_the_same_last_days(tmp_path: Path) -> None:
    write_demo_clicks(tmp_path / "longer", end=END, days=5, sessions_per_day=100)
    assert (tmp_path / "longer").read_bytes().endswith(small(tmp_path / "shorter"))


def test_later_end_keeps_the_earlier_days(tmp_path: Path) -> None:
    write_demo_clicks(tmp_path / "later", end=END + timedelta(days=1), days=4, sessions_per_day=100)
    later = (tmp_path / "later").read_bytes().splitlines()
    assert [line for line in later if line.split(b",")[1][:10] <= str(END).encode()] == small(tmp_path / "a").splitlines()


def test_summary_tells_what_the_file_holds(shop: Shop) -> None:
    summary = shop.summary
    assert summary.clicks == len(shop.session)
    assert summary.sessions == len(np.unique(shop.session))
    assert summary.items == len(np.unique(shop.item))
    assert summary.first == shop.at.min().astype(datetime).replace(tzinfo=UTC)
    assert summary.last == shop.at.max().astype(datetime).replace(tzinfo=UTC)


def test_progress_ends_with_the_number_of_clicks(tmp_path: Path) -> None:
    told: list[int] = []
    summary = write_demo_clicks(tmp_path / "a", end=END, days=2, sessions_per_day=50, on_progress=told.append)
    assert told == sorted(told)
    assert told[-1] == summary.clicks


def test_sessions_start_inside_the_days_in_order_of_their_ids(shop: Shop) -> None:
    ids, first_row = np.unique(shop.session, return_index=True)
    starts = shop.at[first_row]
    assert len(ids) == pytest.approx(DAYS * 1_500, rel=0.02)
    assert (np.diff(starts) >= np.timedelta64(0)).all()
    assert set(shop.day[first_row]) == set(range(DAYS))
    assert shop.day.max() == DAYS - 1
    within = np.diff(shop.at)[np.diff(shop.session) == 0]
    assert within.min() >= np.timedelta64(1, "s")


def test_some_sessions_straddle_midnight(shop: Shop) -> None:
    straddles = (np.diff(shop.session) == 0) & (np.diff(shop.day) == 1)
    assert straddles.sum() > DAYS


def test_session_lengths_have_a_long_tail(shop: Shop) -> None:
    lengths = np.unique(shop.session, return_counts=True)[1]
    assert lengths.min() == 1
    assert np.median(lengths) in (2, 3)
    assert 3 < lengths.mean() < 4.5
    assert 60 < lengths.max() <= 200
    assert 0.001 < (lengths > 20).mean() < 0.05


def test_popularity_is_zipf_like(shop: Shop) -> None:
    counts = np.sort(np.unique(shop.item, return_counts=True)[1])[::-1]
    assert 2_500 < len(counts) < 4_500
    assert 1_500 < (counts >= 5).sum() <= 3_200
    assert counts[: len(counts) // 100].sum() > 0.12 * counts.sum()
    assert counts[: len(counts) // 5].sum() > 0.6 * counts.sum()


def test_popularity_drifts(shop: Shop) -> None:
    def top(rows: npt.NDArray[np.bool_]) -> set[int]:
        items, counts = np.unique(shop.item[rows], return_counts=True)
        return set(items[np.argsort(-counts)[:100]].tolist())

    assert len(top(shop.day < 7) & top(shop.day >= DAYS - 7)) < 50


def test_new_items_appear_and_old_ones_vanish_every_day(shop: Shop) -> None:
    items, first_row = np.unique(shop.item, return_index=True)
    last_row = len(shop.item) - 1 - np.unique(shop.item[::-1], return_index=True)[1]
    n_clicks = np.unique(shop.item, return_counts=True)[1]
    clicked_often = n_clicks >= 10
    appeared = np.bincount(shop.day[first_row][clicked_often], minlength=DAYS)
    vanished = np.bincount(shop.day[last_row][clicked_often], minlength=DAYS)
    assert (appeared[7:-4] > 10).all()
    assert (vanished[7:-7] > 3).all()
    assert items.min() > 214_000_000


def test_nights_are_quieter_than_evenings(shop: Shop) -> None:
    by_hour = np.bincount(shop.at.astype("datetime64[h]").astype(np.int64) % 24, minlength=24)
    assert by_hour[1:6].max() < 0.4 * by_hour[18:22].min()


def test_mondays_are_busier_than_saturdays(shop: Shop) -> None:
    weekday = (shop.at.astype("datetime64[D]").astype(np.int64) + 3) % 7
    mondays, saturdays = (np.count_nonzero(weekday == n) / len(set(shop.day[weekday == n])) for n in (0, 5))
    assert mondays > 1.1 * saturdays


def test_categories_are_those_of_yoochoose(shop: Shop) -> None:
    kinds, counts = np.unique(shop.category, return_counts=True)
    share = dict(zip(kinds.tolist(), (counts / counts.sum()).tolist(), strict=True))
    assert set(share) == {"0", "S", *(str(n) for n in range(1, 13))}
    assert share["0"] == pytest.approx(0.5, abs=0.02)
    assert share["S"] == pytest.approx(0.1, abs=0.02)


def test_the_last_click_predicts_the_next_far_better_than_popularity(shop: Shop) -> None:
    items, item = np.unique(shop.item, return_inverse=True)
    follows = np.diff(shop.session) == 0
    current, following, test = item[:-1][follows], item[1:][follows], shop.day[1:][follows] == DAYS - 1
    counts = np.zeros((len(items), len(items)), np.float32)
    np.add.at(counts, (current[~test], following[~test]), 1)
    popularity = np.bincount(item[shop.day < DAYS - 1], minlength=len(items)).astype(np.float32)

    def recall(scores: npt.NDArray[np.float32], targets: npt.NDArray[np.intp]) -> float:
        best = np.argpartition(-scores, 20, axis=1)[:, :20]
        return float((best == targets[:, None]).any(axis=1).mean())

    targets = following[test]
    by_popularity = recall(np.broadcast_to(popularity, (len(targets), len(items))), targets)
    by_markov = recall(counts[current[test]], targets)
    backwards = recall(counts.T[current[test]], targets)
    assert by_popularity < 0.1
    assert 0.35 < by_markov < 0.55
    assert backwards < 0.7 * by_markov


def test_the_last_two_clicks_predict_more_than_the_last_one() -> None:
    shop = DemoShop(n_items=600, sessions_per_day=5_000)  # so few items that pairs of clicks repeat often enough to be counted
    parts = [shop.clicks_of(END - timedelta(days=back)) for back in range(7, -1, -1)]
    session = np.concatenate([part.session_id for part in parts])
    items, item = np.unique(np.concatenate([part.item_id for part in parts]), return_inverse=True)
    last_day = session >= parts[-1].session_id[0]
    n = len(items)
    triple = session[2:] == session[:-2]
    pair = (item[:-2] * n + item[1:-1])[triple]
    current, following, test = item[1:-1][triple], item[2:][triple], last_day[2:][triple]
    by_one = np.zeros((n, n), np.float32)
    np.add.at(by_one, (current[~test], following[~test]), 1)
    share = by_one / by_one.sum(axis=1, keepdims=True).clip(1)
    pairs, row = np.unique(pair, return_inverse=True)
    by_two = np.zeros((len(pairs), n), np.float32)
    np.add.at(by_two, (row[~test], following[~test]), 1)

    def recall(scores: npt.NDArray[np.float32]) -> float:
        best = np.argpartition(-scores, 5, axis=1)[:, :5]
        return float((best == following[test][:, None]).any(axis=1).mean())

    one = share[current[test]]
    assert recall(by_two[row[test]] + 5 * one) > recall(one) + 0.02


def test_more_traffic_means_more_items() -> None:
    few, many = (DemoShop(sessions_per_day=n).clicks_of(END) for n in (100, 20_000))
    assert len(np.unique(many.item_id)) > 5 * len(np.unique(few.item_id))


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"there is no folder .*absent; create it first"):
        write_demo_clicks(tmp_path / "absent" / "a", end=END)


def test_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="it is a folder"):
        write_demo_clicks(tmp_path, end=END)


def test_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    def stop(written: int) -> None:
        raise KeyboardInterrupt(written)

    (tmp_path / "a").write_text("old")
    with pytest.raises(KeyboardInterrupt):
        write_demo_clicks(tmp_path / "a", end=END, days=2, sessions_per_day=50, on_progress=stop)
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"


@pytest.mark.parametrize(
    "wrong", [{"days": 0}, {"clicks": 0}, {"sessions_per_day": 0}, {"seed": -1}, {"sessions_per_day": 10, "clicks": 10**6}]
)
def test_arguments_out_of_bounds_are_refused(tmp_path: Path, wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=r"at least|fewer"):
        write_demo_clicks(tmp_path / "a", end=END, **wrong)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_days_before_1970_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="1970-01-01"):
        write_demo_clicks(tmp_path / "a", end=date(1970, 1, 5), days=6)
