from __future__ import annotations

import json
import re
from datetime import date, timedelta
from pathlib import Path
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import pyarrow as pa
import pytest

from benchmarks.records import window_record_of
from sbr_tasks.clicks.ingest import ingest
from sbr_tasks.errors import DamagedError, DayError
from sbr_tasks.report.plots import plots_of, write_files
from sbr_tasks.report.profile import build
from sbr_tasks.report.profile.build import (
    key_numbers,
    profile_of_window,
    profile_table,
    profile_window,
)
from sbr_tasks.report.profile.numbers import DayNumbers, Numbers, ProfileBuilder, SessionSpan, Support
from sbr_tasks.settings import Settings
from sbr_tasks.store import Store
from sbr_tasks.validation.closing import commit_closing
from sbr_tasks.validation.validate_days import validate_pending
from sbr_tasks.window.build import window_for_day
from tests.unit.days import Click, at, parquet_settings, write_parquet

pytestmark = pytest.mark.slow

D = date(2020, 6, 3)
BEFORE = D - timedelta(days=1)
HOUR = 3600


def numbers_of(days: dict[date, list[Click]], zone: str = "UTC") -> Numbers:
    builder = ProfileBuilder(ZoneInfo(zone))
    for day, clicks in days.items():
        sessions, items, times = zip(*clicks, strict=True)
        columns = {"session_id": sessions, "item_id": items, "clicked_at": pa.array(times, pa.timestamp("us", tz="UTC"))}
        builder.add(day, pa.table(columns))
    return builder.numbers()


TWO_DAYS: dict[date, list[Click]] = {
    BEFORE: [(1, 10, at(BEFORE, HOUR)), (1, 11, at(BEFORE, HOUR + 1)), (2, 10, at(D, -5))],
    D: [(2, 12, at(D, 5)), (2, 10, at(D, 6)), (3, 12, at(D, 7)), (4, 11, at(D, 3 * HOUR)), (2, 10, at(D, 8))],
}


def test_days_are_counted_and_new_items_are_those_of_no_earlier_day() -> None:
    numbers = numbers_of(TWO_DAYS)
    assert (numbers.clicks, numbers.sessions, numbers.items) == (8, 4, 3)
    assert numbers.days == (
        DayNumbers(day=BEFORE, clicks=3, sessions=2, items=2, new_items=None, clicks_on_new_items=None),
        DayNumbers(day=D, clicks=5, sessions=3, items=3, new_items=1, clicks_on_new_items=2),
    )


def test_session_over_midnight_has_one_length() -> None:
    length = numbers_of(TWO_DAYS).session_length
    assert (length.clicks, length.sessions) == ((1, 2, 4), (2, 1, 1))
    assert length.share_of_sessions == (0.5, 0.75, 1)
    assert length.share_of_clicks == (0.25, 0.5, 1)
    assert (length.mean, length.longest, length.share_of_one_click) == (2, 4, 0.5)


def test_sessions_that_last_for_days_are_counted_over_all_days() -> None:
    days = {**TWO_DAYS, D: [*TWO_DAYS[D], (1, 10, at(D, HOUR + 1))]}
    assert numbers_of(days).session_span == SessionSpan(
        quantiles_hours={"0.5": 0.0, "0.99": 24.0, "0.999": 24.0}, share_over_24_hours=0.25
    )
    assert key_numbers(numbers_of(days))["sessions longer than 24 hours"] == "25%"


def test_quantile_is_the_least_length_that_enough_sessions_do_not_exceed() -> None:
    clicks: list[Click] = [(s, 1, at(D, s + step)) for s in range(1000) for step in range(3 if s < 8 else 50 if s < 10 else 1)]
    assert numbers_of({D: clicks}).session_length.quantiles == {"0.5": 1, "0.99": 1, "0.999": 50}
    clicks += [(5000, 1, at(D, 1)), (5000, 1, at(D, 2))]
    assert numbers_of({D: clicks}).session_length.quantiles == {"0.5": 1, "0.99": 2, "0.999": 50}


def test_popularity_is_the_share_of_clicks_by_rank() -> None:
    numbers = numbers_of(TWO_DAYS)
    assert numbers.popularity.rank == (1, 2, 3)
    assert numbers.popularity.share == (0.5, 0.25, 0.25)
    assert numbers.popularity.cumulative_share == (0.5, 0.75, 1)
    assert numbers.popularity.share_of_top_percent == {"1": 0.5, "10": 0.5}
    assert numbers.support == Support(at_least=(1, 2, 3, 4), items=(3, 3, 1, 1), share_of_clicks=(1, 1, 0.5, 0.5))


def test_string_ids_give_the_same_numbers() -> None:
    named = {day: [(f"s{s}", f"i{i}", when) for s, i, when in clicks] for day, clicks in TWO_DAYS.items()}
    assert numbers_of(named) == numbers_of(TWO_DAYS)  # type: ignore[arg-type]


def test_hours_are_the_clocks_of_the_shop() -> None:
    hours = numbers_of(TWO_DAYS).hours
    assert {hour: n for hour, n in enumerate(hours) if n} == {0: 4, 1: 2, 3: 1, 23: 1}


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        (date(2020, 3, 29), {0: 1, 1: 1, **dict.fromkeys(range(3, 24), 1)}),  # from 2:00 to 3:00 at once
        (date(2020, 10, 25), {**dict.fromkeys(range(24), 1), 2: 2}),
    ],
)
def test_hours_of_a_day_on_which_the_clocks_change(day: date, expected: dict[int, int]) -> None:
    start = at(day, 0, "Europe/Amsterdam")
    clicks: list[Click] = [(1, 1, start + timedelta(minutes=30 + 60 * i)) for i in range(sum(expected.values()))]
    hours = numbers_of({day: clicks}, "Europe/Amsterdam").hours
    assert {hour: n for hour, n in enumerate(hours) if n} == expected


def test_hours_where_the_clocks_change_by_half_an_hour() -> None:
    day = date(2021, 4, 4)  # Lord Howe: 24 and a half hours, from 2:00 back to 1:30
    clicks: list[Click] = [(1, 1, at(day, 60 * minute, "Australia/Lord_Howe")) for minute in (100, 130, 160)]
    hours = numbers_of({day: clicks}, "Australia/Lord_Howe").hours
    assert {hour: n for hour, n in enumerate(hours) if n} == {1: 2, 2: 1}


def test_plots_of_the_same_numbers_are_the_same_elements() -> None:
    plots = plots_of(numbers_of(TWO_DAYS), timezone="UTC")
    assert plots == plots_of(numbers_of(TWO_DAYS), timezone="UTC")
    assert plots["by_day"][0] == "Clicks, sessions and items per day"
    assert {ElementTree.fromstring(svg).tag for _, svg in plots.values()} == {"svg"}  # noqa: S314


def test_plots_leave_their_colours_to_the_page() -> None:
    for _, svg in plots_of(numbers_of(TWO_DAYS), timezone="UTC").values():
        for element in ElementTree.fromstring(svg).iter():  # noqa: S314
            assert not {"style", "fill", "stroke"}.intersection(element.keys()), (
                "a page's content security policy lets no style through"
            )
            assert element.tag in ("svg", "g") or element.get("class")


def test_plots_show_each_value_where_it_belongs() -> None:
    numbers = numbers_of(TWO_DAYS)
    plots = {name: ElementTree.fromstring(svg) for name, (_, svg) in plots_of(numbers, timezone="UTC").items()}  # noqa: S314
    heights = [float(bar.get("height", 0)) for bar in plots["by_day"][0].iter("rect")]
    clicks = [day.clicks for day in numbers.days]
    assert [round(height / heights[0], 2) for height in heights] == [round(n / clicks[0], 2) for n in clicks]
    bars = [float(bar.get("height", 0)) for bar in plots["hours"].iter("rect")]
    assert [bar > 0 for bar in bars] == [n > 0 for n in numbers.hours]
    lengths = [float(dot.get("cx", 0)) for dot in plots["session_lengths"].iter("circle")]
    assert len(lengths) == len(numbers.session_length.clicks)
    assert lengths == sorted(lengths)
    assert [text.text for text in plots["hours"].iter("text")][-1] == "hour of day (UTC)"


def test_one_day_with_one_click_can_be_drawn() -> None:
    numbers = numbers_of({D: [(1, 1, at(D, 1))]})
    assert numbers.session_length.quantiles == {"0.5": 1, "0.99": 1, "0.999": 1}
    assert set(plots_of(numbers, timezone="UTC")) >= {"by_day", "new_items"}
    assert "new items" not in " ".join(key_numbers(numbers))


@pytest.fixture
def shop(tmp_path: Path) -> tuple[Store, Settings]:
    """A store of two days."""
    settings = parquet_settings(tmp_path, "window.days=3", "window.least_click=1", "window.max_missing_days=1")
    for day, clicks in TWO_DAYS.items():
        write_parquet(tmp_path / "in" / f"{day}.parquet", clicks)
    return bring_in(settings), settings


def bring_in(settings: Settings) -> Store:
    store = Store.open(settings)
    ingest(store, settings)
    validate_pending(store, settings)
    return store


def test_profile_is_made_once_of_the_same_clicks(shop: tuple[Store, Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    store, settings = shop
    first = profile_window(store, settings, D)
    assert first.numbers == numbers_of(TWO_DAYS)
    assert first.missing_days == (date(2020, 6, 1),)
    monkeypatch.setattr(build, "_make", None)
    assert profile_window(store, settings, D) == first


def test_missing_days_are_warned_about_and_closed_ones_are_not_missing(
    shop: tuple[Store, Settings], caplog: pytest.LogCaptureFixture
) -> None:
    store, settings = shop
    absent = BEFORE - timedelta(days=1)
    assert profile_window(store, settings, D).missing_days == (absent,)
    assert f"The profile is without 1 of the 3 days up to {D}, which have no accepted clicks: {absent}." in caplog.messages
    commit_closing(store, absent, reason="Whit Monday", actor="ann", now=at(D, 0))
    caplog.clear()
    assert profile_window(store, settings, D).missing_days == ()
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    found = profile_window(store, settings, D)
    window = window_record_of(D)
    rules = window.inputs.window.model_copy(update={"days": 3})
    inputs = window.inputs.model_copy(update={"revisions": found.inputs.revisions, "window": rules})
    assert profile_of_window(store, window.model_copy(update={"inputs": inputs})) == found


def test_late_clicks_make_another_profile_and_the_windows_own_stays(shop: tuple[Store, Settings], tmp_path: Path) -> None:
    store, settings = shop
    clicks = [(9, 1, at(D - timedelta(days=2), 1)), (9, 2, at(D - timedelta(days=2), 2))]
    write_parquet(tmp_path / "in" / "early.parquet", clicks)
    store = bring_in(settings)
    window = window_for_day(store, settings, D)
    before = profile_window(store, settings, D)
    write_parquet(tmp_path / "in" / f"{D}.parquet", [*TWO_DAYS[D], (7, 7, at(D, 70))])
    store = bring_in(settings)
    after = profile_window(store, settings, D)
    assert (before.numbers.clicks, after.numbers.clicks) == (10, 11)
    assert profile_of_window(store, window) == before
    inputs = window.inputs.model_copy(update={"revisions": {D: "0" * 16}})
    with pytest.raises(DamagedError) as caught:
        profile_of_window(store, window.model_copy(update={"inputs": inputs}))
    assert str(caught.value).startswith(f"Expected a commit that names revision {'0' * 16} of {D}")


def test_window_with_no_accepted_day_is_refused(shop: tuple[Store, Settings]) -> None:
    store, settings = shop
    with pytest.raises(DayError) as caught:
        profile_window(store, settings, date(2021, 1, 3))
    assert str(caught.value) == (
        "Expected accepted days from 2021-01-01 to 2021-01-03 to profile, found none. "
        "Ingest and validate them first (`sbr ingest`, `sbr validate`)."
    )


def test_numbers_and_plots_are_written_into_a_folder(shop: tuple[Store, Settings], tmp_path: Path) -> None:
    store, settings = shop
    profile = profile_window(store, settings, D)
    files = write_files(profile, tmp_path / "out" / "of it")
    assert json.loads(files[0].read_text()) == profile.numbers.as_dict()
    names = ["by_day", "hours", "length_shares", "new_items", "popularity", "session_lengths", "support"]
    assert sorted(file.name for file in files[1:]) == [f"{name}.svg" for name in names]
    assert {ElementTree.parse(file).getroot().tag for file in files[1:]} == {"{http://www.w3.org/2000/svg}svg"}  # noqa: S314


def test_profile_counts_what_each_least_click_keeps_of_the_clicks_to_train_on(tmp_path: Path) -> None:
    earlier = D - timedelta(days=2)
    # Item 1 has three clicks, 2 and 3 have two; without 4, session 3 is short, and then 3 has one click.
    items_of = {1: (1, 2), 2: (1, 2), 3: (3, 4), 4: (1, 3), 5: (9,)}
    clicks: list[Click] = [(s, item, at(earlier, 10 * s + i)) for s, items in items_of.items() for i, item in enumerate(items)]
    later: list[Click] = [(100 * n + s, 4, at(day, s)) for n, day in enumerate((BEFORE, D), 1) for s in range(9)]
    write_parquet(tmp_path / "in" / "clicks.parquet", [*clicks, *later])
    settings = parquet_settings(tmp_path, "window.days=3")
    store = Store.open(settings)
    ingest(store, settings)
    validate_pending(store, settings)
    profile = profile_window(store, settings, D)
    cleansing = profile.numbers.cleansing
    assert (cleansing.clicks, cleansing.items) == (8, 4), "a session of one click is in no window"
    kept = {level.least_click: (level.clicks, level.items) for level in cleansing.levels}
    assert list(kept) == list(range(1, 11))
    assert {level: kept[level] for level in (1, 2, 3)} == {1: (8, 4), 2: (4, 2), 3: (0, 0)}
    assert profile_table(profile).splitlines()[-10].split() == ["1", "8", "100%", "4", "100%"]


def test_clicks_too_many_to_cleanse_are_not_counted(shop: tuple[Store, Settings], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "_MAX_CLICKS_TO_CLEANSE", 1)
    monkeypatch.setattr(build, "code_version", lambda *_: "another")
    assert profile_window(*shop, D + timedelta(days=2)).numbers.cleansing is None


def test_table_says_what_is_asked_first(shop: tuple[Store, Settings]) -> None:
    store, settings = shop
    lines = profile_table(profile_window(store, settings, D)).splitlines()
    assert [re.split("  +", line) for line in lines] == [
        ["days", "2"],
        ["clicks", "8"],
        ["sessions", "4"],
        ["items", "3"],
        ["clicks per session", "2.00 on average, 4 at most"],
        ["one-click sessions", "50%"],
        ["sessions longer than 24 hours", "0%"],
        ["50% of sessions have at most", "1 click"],
        ["99% of sessions have at most", "4 clicks"],
        ["99.9% of sessions have at most", "4 clicks"],
        ["clicks on the top 1% of items", "50%"],
        ["clicks on the top 10% of items", "50%"],
        ["busiest hour", "00:00, 50% of clicks"],
        ["new items on 2020-06-03", "1, 40% of the day's clicks"],
        ["missing days", "2020-06-01"],
    ]
