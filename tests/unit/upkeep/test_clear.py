from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from benchmarks.records import source_record_of
from sbr_tasks.clicks.catalog import ClickCatalog
from sbr_tasks.clicks.commits import Judgement
from sbr_tasks.clicks.ingest import ingest, ingest_missing
from sbr_tasks.errors import DamagedError, DayError
from sbr_tasks.registry.gate import Outcome
from sbr_tasks.registry.log import PromotionLog
from sbr_tasks.registry.versions import load_version, require_files, version_names
from sbr_tasks.report.runs import run_rows
from sbr_tasks.settings import Settings
from sbr_tasks.store import Store
from sbr_tasks.upkeep.check import verify_store
from sbr_tasks.upkeep.clear import Cleared, remove_day, remove_unneeded
from sbr_tasks.window.build import window_for_day
from sbr_tasks.window.data import read_window
from sbr_tasks.workspace import Workspace
from tests.unit.days import at, write_parquet

from .shop import (
    DAYS,
    LAST,
    NOW,
    WINDOW_DAYS,
    accept_pending,
    bring_window,
    content,
    decide,
    new_shop,
    write_days,
    write_version,
)

pytestmark = pytest.mark.slow

Sbr = Callable[..., tuple[int, str, str]]
KEEP = 6
FIRST_RUN = LAST - timedelta(days=KEEP)


def clear(
    store: Store, settings: Settings, keep_days: int = KEEP, *, dry_run: bool = False, is_confirmed: bool = False
) -> Cleared:
    return remove_unneeded(store, settings, keep_days=keep_days, now=NOW, dry_run=dry_run, is_confirmed=is_confirmed)


def taking(settings: Settings) -> Settings:
    """The same settings, under which a source may replace a day by other clicks."""
    return settings.model_copy(update={"ingest": settings.ingest.model_copy(update={"changed_days": "take"})})


def days_in(store: Store, prefix: str) -> set[date]:
    return {
        date.fromisoformat(key.split("/")[1].split("=")[1]) for key in store.keys(prefix) if not key.endswith("removed.json")
    }


def test_dry_run_says_what_a_clearing_removes_and_removes_nothing(store: Store, settings: Settings) -> None:
    before = content(store), store.keys("commits")
    dry = clear(store, settings, dry_run=True)
    assert (content(store), store.keys("commits")) == before
    done = clear(store, settings)
    assert dry == done.model_copy(update={"dry_run": True, "text": dry.text})
    assert str(dry).splitlines()[:-1] == str(done).splitlines()[:-1]
    assert sorted(before[0].keys() - content(store).keys()) == list(done.keys)
    assert done.bytes == sum(len(before[0][key]) for key in done.keys)


def test_retained_runs_keep_their_days_windows_and_evaluations(store: Store, settings: Settings) -> None:
    cleared = clear(store, settings)
    assert cleared.first_retained_run == FIRST_RUN
    first_day = FIRST_RUN - timedelta(days=WINDOW_DAYS - 1)
    assert days_in(store, "clicks") == {day for day in DAYS if day >= first_day}
    assert days_in(store, "windows") == {day for day in DAYS[4::3] if day >= FIRST_RUN}
    assert len(store.keys("evaluations")) == 2 * len(days_in(store, "windows"))


def test_store_is_whole_after_a_clearing_and_a_second_one_finds_nothing(store: Store, settings: Settings) -> None:
    clear(store, settings)
    checked = verify_store(Store(store.url))
    assert (checked.faults, checked.orphaned.keys) == ((), ())
    commits = store.keys("commits")
    assert clear(store, settings).keys == ()
    assert store.keys("commits") == commits


def test_versions_with_a_log_entry_stay_and_old_ones_without_go(store: Store, settings: Settings) -> None:
    old, new = (bring_window(store, settings, day) for day in (DAYS[4], LAST))
    undecided = [write_version(store, window, seed=1).name for window in (old, new)]
    log = store.keys("promotions")
    clear(store, settings)
    decided = set(PromotionLog(store).state().days)
    assert set(version_names(store)) == decided | {undecided[1]}
    for name in decided:
        require_files(store, load_version(store, name))
    assert store.keys("promotions") == log
    assert not [key for key in store.keys("models") if undecided[0] in key]


def test_champions_and_the_last_serving_copies_stay(store: Store, settings: Settings) -> None:
    clear(store, settings)
    assert {key.split("/")[2] for key in store.keys("serving/gru4rec")} == {"3", "4"}
    assert PromotionLog(store).state().champion_entry == 4


def test_table_of_runs_still_knows_windows_that_were_removed(store: Store, settings: Settings) -> None:
    before = [row.window_clicks for row in run_rows(store)]
    clear(store, settings)
    assert [row.window_clicks for row in run_rows(store)] == before
    assert None not in before


def test_removed_day_is_ingested_again_by_the_run_that_needs_it(store: Store, settings: Settings) -> None:
    old = window_for_day(store, settings, DAYS[4])
    files = content(store)
    clear(store, settings)
    assert ClickCatalog(store).days()[DAYS[4]].status == "removed"
    with pytest.raises(DayError, match=r"never ingested|were removed"):
        window_for_day(store, settings, DAYS[4])
    again = bring_window(store, settings, DAYS[4])
    assert again == old
    read_window(store, again, settings.zone)
    assert ClickCatalog(store).days()[DAYS[4]].status == "accepted"
    assert {key: value for key, value in content(store).items() if key.startswith(f"clicks/day={DAYS[4]}")} == {
        key: value for key, value in files.items() if key.startswith(f"clicks/day={DAYS[4]}")
    }
    assert verify_store(store).faults == ()


def test_window_is_never_made_smaller_by_a_clearing(store: Store, settings: Settings) -> None:
    clear(store, settings)
    half_removed = FIRST_RUN - timedelta(days=1)
    assert ClickCatalog(store).days()[half_removed].status == "accepted"
    with pytest.raises(DayError, match=r"were removed \(`sbr store gc` or `forget`\).*Run the day again"):
        window_for_day(store, settings, half_removed)


def test_run_that_looked_before_a_removal_and_reads_after_it_fails(store: Store, settings: Settings) -> None:
    catalog = ClickCatalog(store)
    revision = catalog.days()[DAYS[4]].accepted
    assert revision is not None
    clear(store, settings)
    with pytest.raises(DamagedError, match=r"were removed .* Run the day again, from ingest_clicks on"):
        catalog.read(revision)


def test_run_of_a_retained_day_works_after_a_clearing(store: Store, settings: Settings, tmp_path: Path) -> None:
    clear(store, settings)
    next_day = LAST + timedelta(days=1)
    write_days(tmp_path, [next_day])
    for day in (FIRST_RUN, next_day):
        window = bring_window(store, settings, day)
        assert len(window.inputs.revisions) == WINDOW_DAYS
    assert verify_store(store).faults == ()


def test_superseded_revision_goes_unless_a_window_that_stays_was_built_of_it(
    store: Store, settings: Settings, tmp_path: Path
) -> None:
    catalog, revisions = ClickCatalog(store), [ClickCatalog(store).days()[LAST].accepted]
    for first_item in (7, 9):  # late clicks, twice; no window is built of the first ones
        write_days(tmp_path, [LAST], first_item=first_item)
        ingest_missing(store, taking(settings), LAST)
        accept_pending(store)
        revisions.append(catalog.days()[LAST].accepted)
    bring_window(store, settings, LAST)
    keys = [revision.file.key for revision in revisions if revision]
    clear(store, settings)
    assert [store.exists(key) for key in keys] == [True, False, True]
    assert {revision.rev for revision in revisions if revision} - catalog.days()[LAST].decided.keys() == {
        keys[1].split("/")[2][4:]
    }


def test_revision_that_was_removed_and_comes_back_is_validated_again(store: Store, settings: Settings, tmp_path: Path) -> None:
    catalog = ClickCatalog(store)
    clear(store, settings)
    assert catalog.days()[DAYS[3]].decided == {}
    bring_window(store, settings, DAYS[4])
    state = catalog.days()[DAYS[3]]
    assert state.accepted is not None and state.accepted.rev in state.decided


@pytest.mark.parametrize("day", [DAYS[1], LAST])
def test_released_day_stays_and_goes_like_others(store: Store, settings: Settings, tmp_path: Path, day: date) -> None:
    catalog = ClickCatalog(store)
    write_days(tmp_path, [day], first_item=7)
    ingest_missing(store, taking(settings), day)
    revision = catalog.days()[day].incoming
    assert revision is not None
    place = f"day={day}/rev={revision.rev}"
    result, page = (store.publish(f"validation/{place}/{name}", b"{}").key for name in ("result.json", "data_docs.html"))
    judged = Judgement(rev=revision.rev, accepted=False, failures=("odd",), result=result, data_docs=page)
    catalog.commit_validation({day: judged}, at="2020-07-01T00:00:00+00:00")
    catalog.commit_release(revision, actor="me", reason="fine", at="2020-07-01T00:00:00+00:00")
    assert verify_store(store).faults == ()
    clear(store, settings)
    assert [store.exists(key) for key in (revision.file.key, result)] == [day == LAST] * 2
    assert catalog.days()[day].status == ("accepted" if day == LAST else "removed")
    checked = verify_store(store)
    assert (checked.faults, checked.orphaned.keys) == ((), ())


def test_young_files_stay(store: Store, settings: Settings, tmp_path: Path) -> None:
    orphan = store.publish("clicks/day=2020-06-30/rev=00/clicks.parquet", b"a run at work is about to commit this")
    careful = settings.model_copy(update={"upkeep": settings.upkeep.model_copy(update={"grace_hours": 24.0})})
    cleared = remove_unneeded(store, careful, keep_days=0, now=datetime.now(UTC))
    assert (cleared.keys, cleared.young_orphans) == ((), 1)
    assert orphan.key in clear(store, settings, 1000).keys


def test_file_that_is_written_again_before_its_turn_stays(
    store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = store.publish("windows/day=2020-06-30/00/train.parquet", b"left by a killed run")
    look = store.stat

    def written_again(key: str) -> object:
        if key == record.key:
            store.publish("windows/day=2020-06-30/00/train.parquet", b"left by a killed run")
        return look(key)

    monkeypatch.setattr(store, "stat", written_again)
    assert record.key not in clear(store, settings).keys
    assert store.read(record)


def test_revision_that_a_run_brings_back_just_before_the_removal_is_committed_stays(
    store: Store, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog, revisions = ClickCatalog(store), []
    for first_item in (7, 9):
        write_days(tmp_path, [LAST], first_item=first_item)
        ingest_missing(store, taking(settings), LAST)
        accept_pending(store)
        revisions.append(catalog.days()[LAST])
    (superseded, imported), put, came = (revisions[0].accepted, revisions[0].incoming), store.put_new, list[str]()
    assert superseded is not None
    assert imported is not None
    assert superseded.file.key in clear(store, settings, dry_run=True).keys

    def overtaken(key: str, data: bytes) -> None:
        if key.startswith("commits/") and not came:
            came.append(key)
            source = source_record_of(settings, "other")
            catalog.commit_import([imported], empty=[], source=source, at="2020-07-02T00:00:00+00:00")
        put(key, data)

    monkeypatch.setattr(store, "put_new", overtaken)
    assert superseded.file.key not in clear(store, settings).keys
    assert catalog.days()[LAST].accepted == superseded
    assert len(catalog.read(superseded)) == superseded.rows
    assert verify_store(store).faults == ()


@pytest.mark.parametrize("after", [0, 1, 7, 20])
def test_clearing_that_is_killed_and_repeated_ends_the_same(
    tmp_path: Path, settings: Settings, store: Store, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    undisturbed = Store(str(tmp_path / "copy"))
    for key in store.keys(""):
        undisturbed.replace(key, store.get(key))
    clear(undisturbed, settings)
    expected, deletes = content(undisturbed), 0
    delete = store.delete

    def killed(key: str) -> None:
        nonlocal deletes
        deletes += 1
        if deletes > after:
            raise KeyboardInterrupt
        delete(key)

    with monkeypatch.context() as patch:
        patch.setattr(store, "delete", killed)
        with pytest.raises(KeyboardInterrupt):
            clear(store, settings)
    checked = verify_store(store)
    assert checked.faults == ()
    assert checked.orphaned.keys
    clear(store, settings)
    assert content(store) == expected
    assert len(store.keys("commits")) == len(undisturbed.keys("commits"))
    assert verify_store(store).orphaned.keys == ()


def test_record_that_cannot_be_read_stops_a_clearing(store: Store, settings: Settings, tmp_path: Path) -> None:
    (manifest, *_) = sorted((tmp_path / "store").glob("windows/*/*/manifest.json"))
    manifest.write_bytes(b"{")
    before = content(store)
    with pytest.raises(DamagedError, match=r"1 records of the store can't be read, .* Nothing was removed"):
        clear(store, settings)
    assert content(store) == before


def test_leftovers_of_killed_runs_go(store: Store, settings: Settings, tmp_path: Path) -> None:
    keys = ["clicks/day=2020-06-30/rev=00/clicks.000000000000.parquet", "models/2020-06-30-0/00/w.npz", "checkpoints/00.npz"]
    half = tmp_path / "store" / "windows" / "train.parquet#1"
    for key in keys:
        store.replace(key, b"left over")
    half.write_bytes(b"half")
    (tmp_path / "store" / "notes.txt").write_text("somebody else's")
    cleared = clear(store, settings, 1000)
    assert {*cleared.keys} >= {*keys, "windows/train.parquet#1"}
    assert cleared.removed["orphans"]["files"] + cleared.removed["checkpoints"]["files"] == 4
    assert not half.exists()
    assert (tmp_path / "store" / "notes.txt").exists()


def test_empty_store_has_nothing_to_clear(tmp_path: Path, settings: Settings) -> None:
    cleared = clear(Store(str(tmp_path / "empty")), settings)
    assert (cleared.newest_day, cleared.keys) == (None, ())


def test_store_in_a_bucket_is_checked_and_cleared_like_a_folder(
    s3_settings: Settings, settings: Settings, tmp_path: Path
) -> None:
    bucket, folder = Store.open(s3_settings), Store(str(tmp_path / "folder"))
    new_shop(tmp_path, bucket, s3_settings)
    new_shop(tmp_path, folder, settings)
    assert bucket.keys("") == folder.keys("")
    done = clear(bucket, s3_settings)
    assert done.keys == clear(folder, settings).keys
    assert content(bucket) == content(folder)
    checked = verify_store(Store.open(s3_settings))
    assert (checked.faults, checked.orphaned.keys) == ((), ())
    *_, key = bucket.keys("clicks")
    bucket.replace(key, bucket.get(key)[::-1])
    *_, window = (key for key in bucket.keys("windows") if key.endswith(".parquet"))
    bucket.delete(window)
    assert {(fault.kind, fault.key) for fault in verify_store(bucket).faults} == {("damaged", key), ("missing", window)}
    again = bring_window(bucket, s3_settings, DAYS[4])
    decide(bucket, again, write_version(bucket, again, seed=5), Outcome.WOULD_KEEP)


def test_day_of_a_wrong_clock_does_not_make_the_real_days_old(store: Store, settings: Settings, tmp_path: Path) -> None:
    write_days(tmp_path, [date(2031, 1, 1)])
    ingest(store, settings, days=[date(2031, 1, 1)], now=datetime(2031, 1, 2, tzinfo=UTC))
    accept_pending(store)
    cleared = clear(store, settings)
    assert (cleared.newest_day, cleared.first_retained_run) == (LAST, FIRST_RUN)
    assert ClickCatalog(store).days()[LAST].status == "accepted"


def test_more_than_half_of_the_accepted_days_go_only_if_a_person_confirms(store: Store, settings: Settings) -> None:
    before, commits = content(store), store.keys("commits")
    dry = clear(store, settings, 2, dry_run=True)
    assert str(dry).splitlines()[-2] == "13 of 19 accepted days would be removed, which needs --yes."
    with pytest.raises(DayError, match=r"13 of 19 accepted days would be removed .* --keep-days 2 --yes`") as caught:
        clear(store, settings, 2)
    assert "2020-06-12 to 2020-06-24" in str(caught.value)
    assert (content(store), store.keys("commits")) == (before, commits)
    done = clear(store, settings, 2, is_confirmed=True)
    assert (done.accepted_days_removed, done.accepted_days) == (13, 19)
    assert ClickCatalog(store).days()[DAYS[13]].status == "removed"


def without_source(monkeypatch: pytest.MonkeyPatch, settings: Settings, tmp_path: Path, days: list[date]) -> None:
    """Lets a workspace see the store, and a source from which some days are gone."""
    for day in days:
        (tmp_path / "in" / f"{day}.parquet").unlink()
    given = {"STORE": settings.store, "WINDOW__DAYS": WINDOW_DAYS, "SOURCE__PATH": tmp_path / "in", "SOURCE__FORMAT": "parquet"}
    for name, value in {**given, "SOURCE__SETTLE_SECONDS": 0}.items():
        monkeypatch.setenv(f"SBR_{name}", str(value))


def test_removed_day_that_the_source_no_longer_holds_stays_removed_and_stops_its_run(
    store: Store, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clear(store, settings)
    without_source(monkeypatch, settings, tmp_path, DAYS[:3])
    with pytest.raises(DayError) as caught:
        Workspace.open().ingest_clicks(DAYS[4])
    assert str(caught.value) == (
        f"The window of {DAYS[4]} would have holes. The clicks of {DAYS[1]} to {DAYS[2]} were removed from the store "
        f"(`sbr store gc` or `forget`), and {tmp_path / 'in'} no longer holds all of them. Bring them back into the source, "
        "then run the day again. Or give them up with `sbr store forget DAY --reason REASON`: then they count as missing "
        "(window.max_missing_days)."
    )
    assert [ClickCatalog(store).days()[day].status for day in DAYS[1:5]] == ["removed", "removed", "incoming", "incoming"]
    with pytest.raises(DayError, match="were removed"):
        Workspace.open().validate_clicks(DAYS[4])


def test_day_that_a_person_gave_up_counts_as_empty_once_the_source_has_none_of_it(
    store: Store, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remove_day(store, DAYS[17], reason="test clicks", now=NOW)
    without_source(monkeypatch, settings, tmp_path, [DAYS[17]])
    assert Workspace.open().ingest_clicks(LAST).empty == (DAYS[17],)
    assert ClickCatalog(store).days()[DAYS[17]].status == "empty"


def test_removed_day_of_which_the_source_holds_fewer_clicks_stays_removed(
    store: Store, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command_line: Sbr
) -> None:
    clear(store, settings)
    late, day = [(1, 1, at(DAYS[1], 5))], DAYS[1]
    write_parquet(tmp_path / "in" / f"{day}.parquet", late)
    without_source(monkeypatch, settings, tmp_path, [])
    for run in (DAYS[4], day):
        with pytest.raises(DayError, match=f"The clicks of .*{day} were removed .* no longer holds all of them"):
            Workspace.open().ingest_clicks(run)
    (warning,) = ingest(store, settings, days=[day]).warnings
    assert warning.startswith(f"The source holds 1 clicks of {day}, fewer than the 6 that `sbr store gc` removed.")
    command = re.search(r"`sbr (ingest .*)`", warning)
    assert command is not None
    assert command_line(*shlex.split(command[1]))[0] == 0
    assert ClickCatalog(store).days()[day].status == "incoming"


def test_removed_day_that_a_person_gives_up_counts_as_missing(
    store: Store, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clear(store, settings)
    without_source(monkeypatch, settings, tmp_path, DAYS[:2])
    with pytest.raises(DayError, match="would have holes"):
        Workspace.open().ingest_clicks(DAYS[4])
    assert remove_day(store, DAYS[1], reason="gone for good", now=NOW) == ()
    assert Workspace.open().ingest_clicks(DAYS[4]).empty == (DAYS[1],)
    accept_pending(store)
    assert Workspace.open().validate_clicks(DAYS[4]).missing == (DAYS[1],)
    with pytest.raises(DayError, match="none of"):
        remove_day(store, DAYS[1], reason="again", now=NOW)
