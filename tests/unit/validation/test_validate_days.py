from __future__ import annotations

import json
from datetime import date, timedelta
from html import unescape
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from benchmarks.records import accepted_unseen, source_record_of
from sbr_tasks.clicks.catalog import ClickCatalog
from sbr_tasks.clicks.ingest import ingest
from sbr_tasks.errors import DayError, SettingsError
from sbr_tasks.settings import Settings, load_settings, parse_overrides
from sbr_tasks.store import Store
from sbr_tasks.validation import validate_days
from sbr_tasks.validation.quarantine import commit_release, describe_quarantined
from sbr_tasks.validation.validate_days import validate_pending
from tests.unit.days import Click, at, parquet_settings, write_parquet

pytestmark = pytest.mark.slow

D = date(2020, 6, 3)


def plain_day(day: date, sessions: int = 4) -> list[Click]:
    return [(_first_session(day) + s, item, at(day, 60 * s + item)) for s in range(sessions) for item in range(3)]


def _first_session(day: date) -> int:
    """The id of the day's first session: every day has its own."""
    return 100 * int(f"{day:%m%d}") + 1


def ingest_days(tmp_path: Path, days: dict[date, list[Click]], *overrides: str) -> Store:
    for day, clicks in days.items():
        write_parquet(tmp_path / "in" / f"{day}.parquet", clicks)
    settings = parquet_settings(tmp_path, *overrides)
    store = Store.open(settings)
    ingest(store, settings)
    return store


def claim_zone(store: Store, day: date, zone: str) -> None:
    """Records that the day was cut at midnights of `zone`, whatever it was cut at."""
    catalog = ClickCatalog(store)
    revision = catalog.days()[day].incoming
    assert revision is not None
    source = source_record_of(load_settings({"timezone": zone}))
    catalog.commit_import([revision], empty=(), source=source, at="2020-06-04T00:00:00+00:00")


def test_good_day_is_published_for_windows_with_its_result(tmp_path: Path) -> None:
    store = ingest_days(tmp_path, {D: plain_day(D)})
    validated = validate_pending(store, parquet_settings(tmp_path))
    assert (validated.accepted, validated.quarantined, validated.warnings) == ((D,), (), {})
    state = ClickCatalog(store).days()[D]
    assert state.status == "accepted"
    assert state.accepted is not None
    assert state.accepted.file.key.startswith(f"clicks/day={D}/rev=")
    assert state.accepted.rows == 12
    decision = state.decided[state.accepted.rev]
    assert json.loads(store.get(decision.result))["success"] is True
    assert b"<html" in store.get(decision.data_docs)


def test_decided_day_is_not_validated_again(tmp_path: Path) -> None:
    settings = parquet_settings(tmp_path)
    store = ingest_days(tmp_path, {D: plain_day(D)})
    validate_pending(store, settings)
    ingest(store, settings)
    assert ClickCatalog(store).days()[D].status == "accepted"
    assert validate_pending(store, settings).accepted == ()


def test_days_cut_in_another_zone_are_refused_and_not_put_into_quarantine(tmp_path: Path) -> None:
    store = ingest_days(tmp_path, {D: plain_day(D)}, "timezone=Asia/Kolkata")
    with pytest.raises(DayError, match=r"midnight in UTC \(setting timezone\).* ingested with Asia/Kolkata: 2020-06-03\."):
        validate_pending(store, parquet_settings(tmp_path))
    assert ClickCatalog(store).days()[D].status == "incoming"


@pytest.mark.parametrize(
    ("bad", "failure"),
    [
        ((None, 1, at(D, 9)), "Each click has its session_id: broken by 1 of 13 clicks"),
        ((9, None, at(D, 9)), "Each click has its item_id: broken by 1 of 13 clicks"),
        ((9, -5, at(D, 9)), "Each item_id is a non-negative integer: broken by 1 of 13 clicks, such as -5"),
        ((-9, 5, at(D, 9)), "Each session_id is a non-negative integer: broken by 1 of 13 clicks, such as -9"),
    ],
)
def test_bad_day_goes_to_quarantine_with_what_failed_and_an_example(tmp_path: Path, bad: Click, failure: str) -> None:
    store = ingest_days(tmp_path, {D: [*plain_day(D), bad]})
    validated = validate_pending(store, parquet_settings(tmp_path))
    assert (validated.accepted, validated.quarantined) == ((), (D,))
    state = ClickCatalog(store).days()[D]
    assert (state.status, state.accepted) == ("quarantined", None)
    assert state.failures == (failure,)
    assert state.quarantined is not None
    assert ClickCatalog(store).read(state.quarantined).num_rows == 13


def test_click_outside_its_day_is_critical(tmp_path: Path) -> None:
    store = ingest_days(tmp_path, {D: [*plain_day(D), (9, 5, at(D, 86_399))]})
    settings = load_settings({"store": str(tmp_path / "store"), "timezone": "Europe/Amsterdam"})
    claim_zone(store, D, settings.timezone)
    validate_pending(store, settings)
    (failure,) = ClickCatalog(store).days()[D].failures
    assert failure.startswith("Each click is in the day 2020-06-03 (2020-06-02T22:00:00+00:00 to ")
    assert "end excluded): broken by 1 of 13 clicks, such as 2020-06-03 23:59:59+00:00" in failure


def test_odd_but_usable_days_are_accepted_with_warnings(tmp_path: Path) -> None:
    twice = [*plain_day(D), plain_day(D)[0]]
    store = ingest_days(tmp_path, {D: twice})
    settings = parquet_settings(tmp_path, "validation.max_session_clicks=3")
    validated = validate_pending(store, settings)
    assert validated.accepted == (D,)
    repeated, long = validated.warnings[D]
    assert repeated == (
        "At most 1% of the clicks repeat another one (same session, item and time): broken by 1 of 13 clicks, such as "
        "session 60301, item 0 at 2020-06-03 00:00:00+00:00"
    )
    assert long == "No session has more than 3 clicks (robots have): broken by 4 of 13 clicks, such as session 60301 (4 clicks)"


@pytest.mark.parametrize(("again", "is_accepted"), [(3, True), (4, False), (12, False)])
def test_day_of_which_much_was_delivered_twice_goes_to_quarantine(tmp_path: Path, again: int, is_accepted: bool) -> None:
    """3 of 15 clicks are a fifth, which `validation.max_repeated_share` allows."""
    store = ingest_days(tmp_path, {D: [*plain_day(D), *plain_day(D)[:again]]})
    validated = validate_pending(store, parquet_settings(tmp_path))
    assert (validated.accepted == (D,)) is is_accepted
    state = ClickCatalog(store).days()[D]
    said = state.warnings if is_accepted else state.failures
    assert len(state.warnings) + len(state.failures) == 1
    assert f"broken by {again} of {12 + again} clicks, such as session 60301, item 0 at 2020-06-03 00:00:00+00:00" in said[0]


def test_share_of_repeated_clicks_that_is_allowed_is_a_setting(tmp_path: Path) -> None:
    store = ingest_days(tmp_path, {D: [*plain_day(D), *plain_day(D)]})
    settings = parquet_settings(tmp_path, "validation.max_repeated_share=0.5")
    assert validate_pending(store, settings).accepted == (D,)


def test_one_repeated_click_in_a_hundred_is_not_warned_about(tmp_path: Path) -> None:
    clicks = [*plain_day(D, sessions=32), *((5, item, at(D, 9_000 + item)) for item in range(50, 53))]
    store = ingest_days(tmp_path, {D: [*clicks, clicks[0]]})
    assert validate_pending(store, parquet_settings(tmp_path)).warnings == {}


def with_session_ids(clicks: list[Click], name: object) -> list[Click]:
    return [(name, item, time) for _, item, time in clicks]


def test_session_with_a_large_share_of_the_clicks_is_named(tmp_path: Path) -> None:
    long = [(99, item, at(D, 10_000 + item)) for item in range(30)]
    store = ingest_days(tmp_path, {D: [*plain_day(D, sessions=100), *long]})
    assert validate_pending(store, parquet_settings(tmp_path)).warnings[D] == [
        "Session 99 has 9.1% of the clicks (warning above 5%): a robot, or clicks without a session of their own"
    ]


def test_share_just_above_a_limit_is_not_rounded_to_it(tmp_path: Path) -> None:
    long = [(99, item, at(D, 10_000 + item)) for item in range(151)]
    store = ingest_days(tmp_path, {D: [*plain_day(D, sessions=950), *long]})
    assert validate_pending(store, parquet_settings(tmp_path)).warnings[D] == [
        "Session 99 has 5.03% of the clicks (warning above 5%): a robot, or clicks without a session of their own"
    ]


def test_session_called_null_is_named(tmp_path: Path) -> None:
    days = {D: [(str(session), str(item), time) for session, item, time in plain_day(D)]}
    days[D][0] = ("NULL", "7", at(D, 7))
    store = ingest_days(tmp_path, days, "source.id_type=string")  # type: ignore[arg-type]
    assert validate_pending(store, parquet_settings(tmp_path)).warnings[D] == [
        "No session is called by a word for a missing id, such as null: broken by 1 of 12 clicks, such as NULL"
    ]


def test_item_with_more_than_a_third_of_the_clicks_is_named(tmp_path: Path) -> None:
    clicks = [(s, 7 if n % 2 else 100 + s * 4 + n, at(D, s * 60 + n)) for s in range(30) for n in range(4)]
    store = ingest_days(tmp_path, {D: clicks})  # type: ignore[dict-item]
    assert validate_pending(store, parquet_settings(tmp_path)).warnings[D] == [
        "Item 7 has 50% of the clicks (warning above a third)"
    ]


def test_clicks_with_the_time_of_the_click_before_them_are_warned_about(tmp_path: Path) -> None:
    store = ingest_days(tmp_path, {D: [(s, item, at(D, 60 * s + item // 2)) for s in range(10) for item in range(4)]})
    settings = parquet_settings(tmp_path)
    assert validate_pending(store, settings).warnings[D] == [
        "50% of the clicks have the same time as the click before them in their session (warning above 5%, "
        "validation.max_tied_share), so their order is only what the source says"
    ]
    state = ClickCatalog(store).days()[D]
    assert state.accepted is not None
    assert state.decided[state.accepted.rev].facts["tied"] == 0.5
    assert validate_pending(*_again(tmp_path, "validation.max_tied_share=0.5")).warnings == {}


def _again(tmp_path: Path, *overrides: str) -> tuple[Store, Settings]:
    """The same source in another store, with other settings."""
    settings = parquet_settings(tmp_path, f"store={tmp_path / 'other'}", *overrides)
    store = Store.open(settings)
    ingest(store, settings)
    return store, settings


class TestSessionsThatRestart:
    """Session ids that start again every day, and sessions that merely span midnight."""

    def test_ids_that_start_again_every_day_are_warned_about(self, tmp_path: Path) -> None:
        days = {D + timedelta(days=i): with_ids_of(D, plain_day(D + timedelta(days=i))) for i in range(3)}
        store = ingest_days(tmp_path, days)
        settings = parquet_settings(tmp_path, "validation.max_session_hours=23.5")
        warnings = validate_pending(store, settings).warnings
        assert list(warnings) == [D + timedelta(days=i) for i in (1, 2)]
        assert warnings[D + timedelta(days=2)] == [
            "100% of the sessions, such as 60301, last more than 23.5 hours (validation.max_session_hours; warning above 1% "
            "of the sessions), counting their clicks on "
            "earlier days: session ids that start again every day merge different visits"
        ]

    def test_sessions_over_midnight_and_one_long_one_in_hundreds_are_not(self, tmp_path: Path) -> None:
        before, over = D - timedelta(days=1), [(5, item, at(D, 60 * item - 120)) for item in range(5)]
        clicks = {before: [*plain_day(before), (6, 1, at(before, 0))], D: [*plain_day(D, sessions=150), (6, 1, at(D, 86_000))]}
        clicks[before] += [click for click in over if click[2] < at(D, 0)]
        clicks[D] += [click for click in over if click[2] >= at(D, 0)]
        store = ingest_days(tmp_path, clicks)
        validated = validate_pending(store, parquet_settings(tmp_path, "validation.min_trailing_days=9"))
        assert validated.warnings == {}
        state = ClickCatalog(store).days()[D]
        assert state.accepted is not None
        assert state.decided[state.accepted.rev].facts["long_sessions"] == 1 / 152

    def test_earlier_days_are_known_from_the_records_of_their_validation(self, tmp_path: Path) -> None:
        earlier = [D - timedelta(days=i) for i in (3, 2)]
        settings = parquet_settings(tmp_path)
        store = ingest_days(tmp_path, {day: with_ids_of(D, plain_day(day)) for day in earlier})
        validate_pending(store, settings)
        for key in list(store.keys("clicks")):
            store.delete(key)
        write_parquet(tmp_path / "in" / f"{D}.parquet", plain_day(D))
        ingest(store, settings, days=[D])
        assert (
            "100% of the sessions, such as 60301, last more than 24 hours" in validate_pending(store, settings).warnings[D][0]
        )


def with_ids_of(day: date, clicks: list[Click]) -> list[Click]:
    """The clicks of some sessions under the ids that the sessions of `day` have."""
    first = min(int(str(session)) for session, _, _ in clicks)
    return [(int(str(session)) - first + _first_session(day), item, time) for session, item, time in clicks]


def test_clicks_that_cannot_be_validated_go_to_quarantine_and_hold_up_no_other_day(tmp_path: Path) -> None:
    settings = parquet_settings(tmp_path)
    other = D + timedelta(days=1)
    store = ingest_days(tmp_path, {D: plain_day(D), other: plain_day(other)})
    catalog = ClickCatalog(store)
    revision = catalog.days()[D].incoming
    assert revision is not None
    bad = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(np.array([0, 1], np.int32)), pa.py_buffer(b"\xff")])
    good = pa.array(["a"])
    times = pa.array([at(D, 1)], pa.timestamp("us", tz="UTC"))
    table = pa.table({"session_id": good, "item_id": bad, "clicked_at": times, "category": good})
    file = store.publish_table(f"clicks/day={D}/rev=bad/clicks.parquet", table)
    source = source_record_of(settings)
    bad = revision.model_copy(update={"rev": "bad", "file": file})
    catalog.commit_import([bad], empty=(), source=source, at="2020-06-04T00:00:00+00:00")
    validated = validate_pending(store, settings)
    assert (validated.accepted, validated.quarantined) == ((other,), (D,))
    (failure,) = catalog.days()[D].failures
    assert failure.startswith("The clicks can't be validated: ArrowInvalid: ")
    assert "\n" not in failure
    assert describe_quarantined(store, D).failures == (failure,)
    assert failure in unescape(Path(describe_quarantined(store, D).data_docs).read_text())
    assert validate_pending(store, settings).quarantined == ()
    with pytest.raises(DayError, match="can't be released, because a window can't hold its clicks: its columns hold values"):
        commit_release(store, settings, D, reason="because", actor="ann")


def test_fault_of_validation_itself_is_no_traceback_but_a_day_in_quarantine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise KeyError("surprise")

    monkeypatch.setattr(validate_days, "click_frame", fail)
    store = ingest_days(tmp_path, {D: plain_day(D)})
    assert validate_pending(store, parquet_settings(tmp_path)).quarantined == (D,)
    assert ClickCatalog(store).days()[D].failures == ("The clicks can't be validated: KeyError: 'surprise'",)


def test_volume_is_compared_with_the_accepted_days_before(tmp_path: Path) -> None:
    days = {D + timedelta(days=i): plain_day(D + timedelta(days=i)) for i in range(3)}
    thin = D + timedelta(days=3)
    store = ingest_days(tmp_path, {**days, thin: plain_day(thin, sessions=1)})
    validated = validate_pending(store, parquet_settings(tmp_path))
    assert validated.accepted == (*days, thin)
    assert validated.warnings == {
        thin: [
            "Number of clicks: 3; the previous 3 accepted days had a median of 12 (robust z -7.5, warning beyond ±5)",
            "Number of sessions: 1; the previous 3 accepted days had a median of 4 (robust z -7.5, warning beyond ±5)",
        ]
    }


def test_facts_of_a_day_are_recorded_and_later_days_are_compared_with_the_record(tmp_path: Path) -> None:
    days = [D + timedelta(days=i) for i in range(3)]
    odd = D + timedelta(days=3)
    store = ingest_days(tmp_path, {day: plain_day(day) for day in days})
    validate_pending(store, parquet_settings(tmp_path))
    clicks_of_before = [key for key in store.keys("clicks") if "/clicks." in key]
    assert len(clicks_of_before) == 3
    for key in clicks_of_before:
        store.delete(key)
    new_items: list[Click] = [(s, 100 + s, at(odd, 60 * s)) for s in range(12)]
    write_parquet(tmp_path / "in" / f"{odd}.parquet", new_items)
    ingest(store, parquet_settings(tmp_path), days=[odd])
    validated = validate_pending(store, parquet_settings(tmp_path))
    state = ClickCatalog(store).days()[odd]
    assert state.accepted is not None
    facts = state.decided[state.accepted.rev].facts
    assert (facts["clicks"], facts["one_click_sessions"], facts["new_items"]) == (12, 1.0, 1.0)
    assert [sentence.split(";")[0] for sentence in validated.warnings[odd]] == [
        "Number of sessions: 12",
        "Number of items: 12",
        "100% of the sessions have one click",
        "Median number of clicks per session: 1",
        "99th percentile of clicks per session: 1",
        "99.9th percentile of clicks per session: 1",
    ]


def test_share_of_new_items_is_compared_once_enough_days_know_theirs(tmp_path: Path) -> None:
    days = [D + timedelta(days=i) for i in range(7)]
    clicks = {day: plain_day(day) for day in days[:-1]}
    clicks[days[-1]] = [(session, item + 100, time) for session, item, time in plain_day(days[-1])]  # type: ignore[operator]
    store = ingest_days(tmp_path, clicks)
    validated = validate_pending(store, parquet_settings(tmp_path))
    assert validated.warnings == {
        days[-1]: [
            "100% of the items were not clicked in the trailing days; the previous 3 accepted days had a median of 0% "
            "(robust z 100.0, warning above 5)"
        ]
    }


def test_accepted_day_without_facts_still_tells_the_volume(tmp_path: Path) -> None:
    days = [D + timedelta(days=i) for i in range(4)]
    settings = parquet_settings(tmp_path)
    store = ingest_days(tmp_path, {day: plain_day(day) for day in days[:3]})
    catalog = ClickCatalog(store)
    pending = {day: state.pending for day, state in catalog.days().items()}
    catalog.commit_validation({day: accepted_unseen(revision) for day, revision in pending.items() if revision}, at="2020")
    ingest_days(tmp_path, {days[3]: plain_day(days[3], sessions=1)})
    assert [sentence.split(";")[0] for sentence in validate_pending(store, settings).warnings[days[3]]] == [
        "Number of clicks: 3",
        "Number of sessions: 1",
    ]


def test_severity_of_an_expectation_is_set_by_name(tmp_path: Path) -> None:
    store = ingest_days(tmp_path, {D: [*plain_day(D), plain_day(D)[0]]})
    strict = parquet_settings(tmp_path, 'validation.severities={"repeated_clicks": "critical"}')
    assert validate_pending(store, strict).quarantined == (D,)
    state = ClickCatalog(store).days()[D]
    assert state.decided[state.quarantined.rev].failed == ("repeated_clicks",)  # type: ignore[union-attr]


def test_expectation_that_is_off_is_not_checked(tmp_path: Path) -> None:
    store = ingest_days(tmp_path, {D: [*plain_day(D), plain_day(D)[0]]})
    lax = parquet_settings(tmp_path, "validation.severities.repeated_clicks=off")
    validated = validate_pending(store, lax)
    assert (validated.accepted, validated.warnings) == ((D,), {})


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        (
            "volumes=critical",
            "no expectation is called 'volumes'; expected one of columns, times_in_day, ids_present, item_ids, ",
        ),
        ("item_ids=warning", "item_ids is always critical, because a window can't be built of days that break it"),
        ("volume=high", "input should be 'critical', 'warning' or 'off'"),
    ],
)
def test_severity_that_cannot_be_is_refused(setting: str, reason: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(parse_overrides([f"validation.severities.{setting}"]))
    assert reason in str(caught.value)


def test_string_ids_must_not_be_empty(tmp_path: Path) -> None:
    clicks: list[Click] = [("a", "x", at(D, 1)), ("a", "", at(D, 2))]
    store = ingest_days(tmp_path, {D: clicks}, "source.id_type=string")
    validate_pending(store, parquet_settings(tmp_path))
    assert ClickCatalog(store).days()[D].failures == ("Each item_id is a non-empty string: broken by 1 of 2 clicks",)


def test_late_bad_revision_does_not_replace_the_accepted_one(tmp_path: Path) -> None:
    settings = parquet_settings(tmp_path)
    store = ingest_days(tmp_path, {D: plain_day(D)})
    validate_pending(store, settings)
    ingest_days(tmp_path, {D: [*plain_day(D), (1, -1, at(D, 1))]})
    validate_pending(store, settings)
    state = ClickCatalog(store).days()[D]
    assert state.status == "quarantined"
    assert state.accepted is not None
    assert state.accepted.rows == 12
