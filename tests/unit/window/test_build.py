from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest

from benchmarks.records import window_record_of
from sbr_tasks.clicks.ingest import ingest
from sbr_tasks.days import day_interval_us, from_us
from sbr_tasks.errors import WindowError
from sbr_tasks.settings import Settings, WindowSettings, parse_overrides
from sbr_tasks.store import Store
from sbr_tasks.validation.closing import commit_closing
from sbr_tasks.validation.validate_days import validate_pending
from sbr_tasks.window.build import choosing_days, split_for_judging, window_for_day, window_table
from sbr_tasks.window.cleanse import Counts, TooLong
from sbr_tasks.window.coverage import coverage_notes
from sbr_tasks.window.data import WindowData, read_window
from sbr_tasks.window.record import LevelRecord, WindowInputs, WindowRules, load_window
from sbr_tasks.window.sessions import Sessions
from sbr_tasks.workspace import Workspace
from tests.unit.days import Click, at, parquet_settings, write_parquet

pytestmark = pytest.mark.slow

D = date(2020, 6, 4)
DAYS = [D - timedelta(days=i) for i in (3, 2, 1, 0)]
OVERRIDES = ("window.days=4", "window.least_click=1", "window.max_missing_days=0")


def stored(tmp_path: Path, clicks: list[Click], *overrides: str) -> tuple[Store, Settings]:
    settings = parquet_settings(tmp_path, *OVERRIDES, *overrides)
    write_parquet(tmp_path / "in" / "clicks.parquet", clicks)
    store = Store.open(settings)
    ingest(store, settings)
    validate_pending(store, settings)
    return store, settings


def shop(name: Callable[[int], object] = int) -> list[Click]:
    """A session of two clicks on each day, and one that spans the last midnight."""
    clicks: list[Click] = [(name(10 + i), name(1 + j), at(day, 100 * j)) for i, day in enumerate(DAYS) for j in range(2)]
    clicks += [(name(50), name(7), at(D, -60)), (name(50), name(1), at(D, 60)), (name(50), name(9), at(D, 61))]
    return clicks


def test_window_is_split_by_day_and_sessions_over_midnight_stay_whole(tmp_path: Path) -> None:
    store, settings = stored(tmp_path, shop())
    data = read_window(store, window_for_day(store, settings, D), settings.zone)
    assert (data.train.n_sessions, data.validation.n_sessions, data.test.n_sessions) == (2, 1, 2)
    assert data.test.offsets.tolist() == [0, 3, 5]
    assert data.test.item_ids.tolist() == [7, 1, 9, 1, 2]
    assert data.test.is_target.tolist() == [False, True, True, True, True]
    assert data.index.ids.tolist() == [1, 2]
    assert data.index.support.tolist() == [2, 2]
    assert data.index.encode(data.test.item_ids).tolist() == [-1, 0, -1, 0, 1]


def test_refit_has_all_clicks_before_the_test_day_cleansed_like_train(tmp_path: Path) -> None:
    """Session 60 spans the validation and the test day; item 8 needs the validation day's click, item 9 the test day's."""
    clicks: list[Click] = [(10, 1, at(DAYS[0], 0)), (10, 2, at(DAYS[0], 1)), (20, 1, at(DAYS[1], 0)), (20, 8, at(DAYS[1], 1))]
    clicks += [(20, 2, at(DAYS[1], 2)), (60, 8, at(D, -60)), (60, 1, at(D, -30)), (60, 9, at(D, -10)), (60, 2, at(D, 60))]
    clicks += [(70, 9, at(D, 100)), (70, 1, at(D, 101)), (70, 5, at(D, 102))]
    store, settings = stored(tmp_path, clicks, "window.least_click=2")
    window = window_for_day(store, settings, D)
    data = read_window(store, window, settings.zone)
    assert sessions_of(data.train) == [[1, 2], [1, 2]]
    assert sessions_of(data.refit) == [[1, 2], [1, 8, 2], [8, 1]]
    assert data.refit.is_target is None
    assert data.refit.catalog is data.train.catalog
    assert (data.index.ids.tolist(), data.index.support.tolist()) == ([1, 2], [2, 2])
    assert (data.refit_index.ids.tolist(), data.refit_index.support.tolist()) == ([1, 2, 8], [3, 2, 2])
    assert (window.parts["refit"].clicks, window.parts["refit"].last) == (7, "2020-06-03T23:59:30+00:00")
    assert window.cleansing.before == Counts(clicks=5, sessions=2, items=3)
    assert "refit" in window_table(window)


def test_item_that_only_refit_keeps_is_in_the_catalog(tmp_path: Path) -> None:
    """With the validation day's click of item 8, session 20 is long enough, and so item 9 is clicked often enough."""
    clicks: list[Click] = [(10, 1, at(DAYS[0], 0)), (10, 1, at(DAYS[0], 1)), (10, 1, at(DAYS[0], 2))]
    clicks += [(20, item, at(DAYS[1], place)) for place, item in enumerate((9, 8, 9))]
    clicks += [(30, item, at(DAYS[2], place)) for place, item in enumerate((8, 1, 1))]
    clicks += [(40, 1, at(D, 0)), (40, 1, at(D, 1))]
    store, settings = stored(tmp_path, clicks, "window.least_click=2", "window.shortest=3")
    data = read_window(store, window_for_day(store, settings, D), settings.zone)
    assert data.index.ids.tolist() == [1]
    assert data.train.catalog.ids.tolist() == [1, 8, 9]
    assert sessions_of(data.refit) == [[1, 1, 1], [9, 8, 9], [8, 1, 1]]
    assert data.refit_index.ids.tolist() == [1, 8, 9]


def test_refit_of_a_window_that_is_cleansed_as_a_whole_is_not_cleansed_again(tmp_path: Path) -> None:
    """Item 7 has one click before the test day and one on it; session 50 has one click before the test day."""
    more: list[Click] = [(70, 7, at(DAYS[1], 9)), (70, 1, at(DAYS[1], 10)), (80, 7, at(D, 10)), (80, 1, at(D, 11))]
    store, settings = stored(tmp_path, [*shop(), *more], "window.least_click=2", "window.cleanse=window")
    data = read_window(store, window_for_day(store, settings, D), settings.zone)
    assert sessions_of(data.refit) == [[1, 2], [1, 2], [7, 1], [1, 2]]


def sessions_of(part: Sessions) -> list[list[int]]:
    return [session.tolist() for session in np.split(part.item_ids, part.offsets[1:-1])]


def test_sessions_are_in_the_order_of_their_first_clicks_whatever_their_ids(tmp_path: Path) -> None:
    first, second, third = (at(DAYS[1], seconds) for seconds in (10, 20, 30))
    late = at(DAYS[1], 900)
    of_training = [(92, 1, first), (92, 2, late), (90, 3, second), (90, 4, second), (91, 5, third), (91, 6, third)]
    store, settings = stored(tmp_path, [*shop(), *reversed(of_training)])
    train = read_window(store, window_for_day(store, settings, D), settings.zone).train
    assert train.item_ids[train.offsets[:-1]].tolist() == [1, 1, 1, 4, 6], (
        "clicks with equal times stay in the order of the source"
    )


def test_training_sees_clicks_with_equal_times_in_the_order_of_the_source(tmp_path: Path) -> None:
    """Ordered by item, random sessions would hold a pattern to learn: a next item is a larger one."""
    rng = np.random.default_rng(3)
    of_session = {s: rng.permutation(9).tolist() for s in range(60, 90)}
    clicks: list[Click] = [(s, items[i], at(DAYS[0], s)) for i in range(9) for s, items in of_session.items()]
    store, settings = stored(tmp_path, [*shop(), *clicks])
    train = read_window(store, window_for_day(store, settings, D), settings.zone).train
    sessions = [part.tolist() for part in np.split(train.item_ids, train.offsets[1:-1])]
    assert [session for session in sessions if len(session) == 9] == list(of_session.values())


def judged(tmp_path: Path, clicks: list[Click], n_days: int, *overrides: str) -> WindowData:
    store, settings = stored(tmp_path, [*shop(), *clicks], *overrides)
    return split_for_judging(store, settings, window_for_day(store, settings, D), n_days)


def test_days_that_judge_settings_validate_and_train_nothing(tmp_path: Path) -> None:
    over_midnight = [(60, 3, at(DAYS[1], -60)), (60, 4, at(DAYS[1], -30)), (60, 5, at(DAYS[1], 60))]
    data = judged(tmp_path, over_midnight, 2)
    assert data.train.item_ids.tolist() == [1, 2, 3, 4]
    assert data.index.ids.tolist() == [1, 2, 3, 4]
    assert data.validation.item_ids.tolist() == [3, 4, 5, 1, 2, 1, 2]
    assert data.validation.is_target.tolist() == [False, False, True, True, True, True, True]
    assert data.test.item_ids.tolist() == [7, 1, 9, 1, 2]
    assert data.test.is_target.tolist() == [False, True, True, True, True]
    assert data.refit.item_ids.tolist() == [1, 2, 3, 4, 5, 1, 2, 1, 2]
    assert data.refit_index.ids.tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("overrides", [("window.least_click=2",), ("window.least_click=2", "window.longest=3")])
def test_clicks_of_days_that_judge_do_not_choose_items(tmp_path: Path, overrides: tuple[str, ...]) -> None:
    trained: list[Click] = [
        (70, 1, at(DAYS[0], 500)),
        (70, 2, at(DAYS[0], 501)),
        (71, 8, at(DAYS[0], 510)),
        (71, 2, at(DAYS[0], 511)),
    ]
    late: list[Click] = [(s, item, at(DAYS[1], 10 * s + i)) for s in (80, 81, 82) for i, item in enumerate((8, 9))]
    without = judged(tmp_path / "without", trained, 2, *overrides)
    data = judged(tmp_path / "with", [*trained, *late], 2, *overrides)
    assert data.train.item_ids.tolist() == without.train.item_ids.tolist() == [1, 2, 1, 2]
    assert data.index.ids.tolist() == without.index.ids.tolist() == [1, 2]
    assert data.index.support.tolist() == without.index.support.tolist()
    assert data.validation.item_ids.tolist().count(8) == 3, "nothing is dropped because a model doesn't know it"


def test_one_day_that_judges_is_the_validation_day(tmp_path: Path) -> None:
    store, settings = stored(tmp_path, shop())
    window = window_for_day(store, settings, D)
    data, expected = split_for_judging(store, settings, window, 1), read_window(store, window, settings.zone)
    assert data.train.item_ids.tolist() == expected.train.item_ids.tolist()
    assert data.validation.item_ids.tolist() == expected.validation.item_ids.tolist()


def test_days_that_judge_leave_some_to_train_on(tmp_path: Path) -> None:
    with pytest.raises(WindowError, match=f"none to train on before {DAYS[0]}"):
        judged(tmp_path, [], 3)


def test_sessions_know_when_they_ended(tmp_path: Path) -> None:
    store, settings = stored(tmp_path, shop())
    data = read_window(store, window_for_day(store, settings, D), settings.zone)
    assert data.test.last_click_us.tolist() == [at(D, seconds).timestamp() * 1e6 for seconds in (61, 100)]


def test_string_ids_give_the_same_window(tmp_path: Path) -> None:
    store, settings = stored(tmp_path, shop("{:03d}".format), "source.id_type=string")
    data = read_window(store, window_for_day(store, settings, D), settings.zone)
    assert data.test.item_ids.tolist() == ["007", "001", "009", "001", "002"]
    assert data.index.ids.tolist() == ["001", "002"]


def test_items_are_indexed_by_support_in_training(tmp_path: Path) -> None:
    more: list[Click] = [(30, 9, at(DAYS[0], 5)), (30, 9, at(DAYS[0], 6)), (30, 9, at(DAYS[0], 7))]
    store, settings = stored(tmp_path, [*shop(), *more])
    index = read_window(store, window_for_day(store, settings, D), settings.zone).index
    assert list(zip(index.ids.tolist(), index.support.tolist(), strict=True)) == [(9, 3), (1, 2), (2, 2)]


def test_manifest_counts_events_sessions_items_and_times(tmp_path: Path) -> None:
    store, settings = stored(tmp_path, shop())
    window = window_for_day(store, settings, D)
    test = window.parts["test"]
    assert (test.clicks, test.events, test.sessions, test.items) == (5, 3, 2, 4)
    assert (test.first, test.last) == ("2020-06-03T23:59:00+00:00", "2020-06-04T00:01:40+00:00")
    assert set(window.inputs.revisions) == set(DAYS)
    assert window.part_clicks == 11
    assert "validation" in window_table(window)


def test_same_inputs_give_the_same_window_and_others_another(tmp_path: Path) -> None:
    store, settings = stored(tmp_path, shop())
    first = window_for_day(store, settings, D)
    assert window_for_day(store, settings, D) == first
    shorter = parquet_settings(tmp_path, *OVERRIDES, "window.shortest=3")
    with pytest.raises(WindowError):
        window_for_day(store, shorter, D)
    _, settings = stored(tmp_path, [*shop(), (99, 1, at(D, 1)), (99, 2, at(D, 2))])
    assert window_for_day(store, settings, D).fingerprint != first.fingerprint


def test_days_with_ids_of_different_types_are_refused(tmp_path: Path) -> None:
    store, settings = stored(tmp_path, shop())
    write_parquet(tmp_path / "in" / "clicks.parquet", [("a", "x", at(D, 1)), ("a", "y", at(D, 2))])
    mixed = parquet_settings(tmp_path, *OVERRIDES, "source.id_type=string", "ingest.changed_days=take")
    ingest(store, mixed, days=[D])
    validate_pending(store, mixed)
    with pytest.raises(WindowError) as caught:
        window_for_day(store, settings, D)
    assert str(caught.value) == (
        "Expected ids of one type on all days of the window of 2020-06-04, found session_id: int64, item_id: int64 on "
        "2020-06-01 to 2020-06-03; session_id: string, item_id: string on 2020-06-04. "
        "Ingest the days of the wrong type again (source.id_type)."
    )


def test_window_with_nothing_to_train_on_says_what_to_change(tmp_path: Path) -> None:
    store, settings = stored(tmp_path, shop(), "window.least_click=6")
    with pytest.raises(WindowError) as caught:
        window_for_day(store, settings, D)
    assert str(caught.value) == (
        "The window of 2020-06-04 has 11 clicks, 4 of them to cleanse, but cleansing (sessions of 2 or more clicks, "
        "1,000 at most, items of 6 or more) left 0, and none to train on before 2020-06-03. "
        "Lower window.least_click, or lengthen the window (window.days)."
    )


def test_manifest_says_how_many_sessions_were_too_long(tmp_path: Path) -> None:
    more: list[Click] = [(60, item, at(DAYS[1], item)) for item in (1, 2, 1)]
    store, settings = stored(tmp_path, [*shop(), *more], "window.longest=2", "window.longest_action=cut")
    window = window_for_day(store, settings, D)
    assert window.cleansing.too_long == TooLong(1, 1)
    assert (window.clicks, window.part_clicks) == (14, 13)
    dropping = parquet_settings(tmp_path, *OVERRIDES, "window.longest=2")
    dropped = window_for_day(store, dropping, D)
    assert dropped.cleansing.too_long == TooLong(1, 3)
    said = "1 sessions of more than 2 clicks were {}, {} clicks lost (window.longest)."
    assert window_table(window).splitlines()[-1] == said.format("cut", 1)
    assert window_table(dropped).splitlines()[-1] == said.format("dropped", 3)
    assert dropped.parts["train"].sessions == 2
    assert dropped.parts["test"].clicks == 5, "the test keeps sessions of any length"


def test_only_what_is_trained_on_is_cleansed(tmp_path: Path) -> None:
    rare: list[Click] = [(70, 9, at(DAYS[0], 9)), (70, 1, at(DAYS[0], 10)), (70, 2, at(DAYS[0], 11))]
    store, settings = stored(tmp_path, [*shop(), *rare], "window.least_click=2")
    window = window_for_day(store, settings, D)
    data = read_window(store, window, settings.zone)
    assert data.index.ids.tolist() == [1, 2]
    assert data.test.item_ids.tolist() == [7, 1, 9, 1, 2]
    cleansing = window.cleansing
    assert cleansing.before == Counts(clicks=7, sessions=3, items=3)
    assert cleansing.levels == (
        LevelRecord(least_click=1, clicks=7, items=3, test_clicks=4),
        LevelRecord(least_click=2, clicks=6, items=2, test_clicks=3),
    )
    assert coverage_notes(window) == ["40% of the test clicks are on items below window.least_click=2; with 1 it would be 20%."]
    assert window_table(window).splitlines()[-1] == (
        "Cleansing (window.least_click=2) keeps 86% of the clicks to train on and 67% of their items, which cover 60% of the "
        "test clicks. With window.least_click=1: 100%, 100% and 80%."
    )


def test_window_cleansed_as_a_whole_lets_the_test_day_choose_items_and_says_so(tmp_path: Path) -> None:
    """Item 7 has one click before the test day and one on it."""
    seven: list[Click] = [(70, 7, at(DAYS[0], 9)), (70, 1, at(DAYS[0], 10)), (80, 7, at(D, 10)), (80, 1, at(D, 11))]
    store, settings = stored(tmp_path, [*shop(), *seven], "window.least_click=2")
    fair = window_for_day(store, settings, D)
    as_notebooks_do = window_for_day(
        store, parquet_settings(tmp_path, *OVERRIDES, "window.least_click=2", "window.cleanse=window"), D
    )
    ids = [read_window(store, window, settings.zone).index.ids.tolist() for window in (fair, as_notebooks_do)]
    assert ids == [[1, 2], [1, 2, 7]]
    assert as_notebooks_do.cleansing.fair_items == 2
    assert any("scores are too high" in note for note in coverage_notes(as_notebooks_do))
    assert not any("scores are too high" in note for note in coverage_notes(fair))


def test_window_cleansed_as_a_whole_warns_only_where_other_items_are_kept(tmp_path: Path) -> None:
    store, _ = stored(tmp_path, shop())
    window = window_for_day(store, parquet_settings(tmp_path, *OVERRIDES, "window.cleanse=window"), D)
    assert window.cleansing.fair_items == window.n_items == 2
    assert coverage_notes(window) == []


def test_sessions_of_more_than_a_thousand_clicks_are_not_trained_on(tmp_path: Path) -> None:
    robot: list[Click] = [(60, 1 + item % 2, at(DAYS[0], item)) for item in range(1001)]
    store, settings = stored(tmp_path, [*shop(), *robot])
    window = window_for_day(store, settings, D)
    assert window.cleansing.too_long == TooLong(1, 1001)
    assert window_table(window).endswith(
        "1 sessions of more than 1,000 clicks were dropped, 1,001 clicks lost (window.longest)."
    )
    unlimited = window_for_day(store, parquet_settings(tmp_path, *OVERRIDES, "window.longest=null"), D)
    assert unlimited.parts["train"].clicks == window.parts["train"].clicks + 1001


def test_action_on_long_sessions_is_no_input_of_a_window_that_has_no_limit(tmp_path: Path) -> None:
    store, settings = stored(tmp_path, shop(), "window.longest=null")
    window = window_for_day(store, settings, D)
    assert window.cleansing.too_long is None
    assert (window.inputs.window.longest, window.inputs.window.longest_action) == (None, None)
    cutting = parquet_settings(tmp_path, *OVERRIDES, "window.longest=null", "window.longest_action=cut")
    assert window_for_day(store, cutting, D) == window


@pytest.mark.parametrize("is_closed", [False, True])
def test_newest_accepted_day_before_the_test_day_validates(tmp_path: Path, is_closed: bool) -> None:
    """Nothing was clicked on the day before; a session comes over the midnight before the validation day."""
    clicks: list[Click] = [click for click in shop() if not at(DAYS[2], 0) <= click[2] < at(D, 0)]
    clicks += [(70, 1, at(DAYS[1], -9)), (70, 2, at(DAYS[1], 9))]
    settings = parquet_settings(tmp_path, *OVERRIDES, "window.days=5", "window.max_missing_days=2")
    if is_closed:
        commit_closing(Store.open(settings), DAYS[2], reason="Sunday", actor="ann", now=at(D, 0))
    store, _ = stored(tmp_path, clicks)
    window = window_for_day(store, settings, D)
    assert window.validation_day == DAYS[1]
    assert window.missing_days == (D - timedelta(days=4), *(() if is_closed else (DAYS[2],)))
    assert window_table(window).endswith(f"Validated on {DAYS[1]}, the newest day before {D} with accepted clicks.")
    data = read_window(store, window, settings.zone)
    assert (data.train.n_sessions, data.validation.n_sessions, data.test.n_sessions) == (1, 2, 2)
    assert data.validation.is_target.tolist() == [False, True, True, True]
    assert load_window(store, D, window.fingerprint).validation_day == DAYS[1]


def test_step_says_which_day_validates(tmp_path: Path) -> None:
    clicks = [click for click in shop() if not at(DAYS[2], 0) <= click[2] < at(D, 0)]
    stored(tmp_path, clicks, "window.max_missing_days=1")
    workspace = Workspace.open({"store": str(tmp_path / "store"), **parse_overrides([*OVERRIDES, "window.max_missing_days=1"])})
    assert workspace.validate_clicks(D).validation_day == DAYS[1]
    for _ in ("built", "built before"):
        built = workspace.build_window(D)
        assert built.validation_day == DAYS[1]
        assert built.text.count(f"Validated on {DAYS[1]}, the newest day before {D} with accepted clicks.") == 1


AMSTERDAM = "timezone=Europe/Amsterdam"


@pytest.mark.parametrize(("short_or_long", "hours"), [(date(2020, 3, 29), 23), (date(2020, 10, 25), 25)])
def test_session_over_the_midnight_of_a_day_with_another_number_of_hours_stays_whole(
    tmp_path: Path, short_or_long: date, hours: int
) -> None:
    """The day on which the clocks change is the validation day; one session comes into it, another one leaves it."""
    settings = parquet_settings(tmp_path, *OVERRIDES, AMSTERDAM)
    changing, test = (short_or_long + timedelta(days=i) for i in (0, 1))
    earlier = [changing - timedelta(days=i) for i in (2, 1)]
    of_day = {day: day_interval_us(day, settings.zone) for day in (*earlier, changing, test)}
    assert of_day[changing][1] - of_day[changing][0] == hours * 3_600_000_000
    clicks: list[Click] = [
        (10 + i, 1 + j, from_us(start) + timedelta(hours=12, minutes=j))
        for i, (start, _) in enumerate(of_day.values())
        for j in range(2)
    ]
    midnights = [from_us(of_day[day][0]) for day in (changing, test)]
    clicks += [(50 + i, item, midnights[i] + timedelta(minutes=item - 5)) for i in range(2) for item in (4, 5, 6)]
    store, settings = stored(tmp_path, clicks, AMSTERDAM)
    data = read_window(store, window_for_day(store, settings, test), settings.zone)
    assert [part.n_sessions for part in (data.train, data.validation, data.test)] == [2, 2, 2]
    assert data.validation.item_ids.tolist() == [4, 5, 6, 1, 2]
    assert data.test.item_ids.tolist() == [4, 5, 6, 1, 2]
    for part in (data.validation, data.test):
        assert part.is_target.tolist() == [False, True, True, True, True]


@pytest.mark.parametrize(
    ("n_days", "choose_every", "n_runs"), [(30, 3, 3), (30, 1, 1), (30, 99, 4), (14, 3, 2), (5, 3, 1), (3, 3, 1)]
)
def test_runs_that_choose_alike_hold_the_days_they_choose_by(n_days: int, choose_every: int, n_runs: int) -> None:
    windows = []
    for i in range(3 * n_runs):
        day = date(2020, 6, 1) + timedelta(days=i)
        accepted = {day - timedelta(days=back): "r" for back in range(n_days)}
        rules = WindowRules.of(WindowSettings(days=n_days))
        inputs = WindowInputs(day=day, revisions=accepted, window=rules, timezone="UTC", code="c")
        windows.append(window_record_of(day).model_copy(update={"inputs": inputs}))
    chosen = [choosing_days(window, choose_every) for window in windows]
    groups = [list(group) for _, group in groupby(chosen)]
    assert {len(group) for group in groups[1:-1]} == {n_runs}
    for window, days in zip(windows, chosen, strict=True):
        assert len(days) == n_days - n_runs
        assert set(days) <= window.inputs.revisions.keys()
        assert timedelta(days=1) <= window.day - days[-1] <= timedelta(days=n_runs)
