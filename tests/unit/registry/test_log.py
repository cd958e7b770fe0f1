from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from sbr_tasks.errors import AlreadyExistsError, DamagedError, RegistryError
from sbr_tasks.registry.gate import Outcome
from sbr_tasks.registry.log import Decision, Entry, LogState, Pin, PromotionLog, Rollback, fold
from sbr_tasks.registry.promotion import require_return
from sbr_tasks.store import Store, seal
from tests.unit.entries import decision_after, rollback_to

START = date(2020, 6, 1)


def entry(number: int, day: int, outcome: Outcome, champion: str | None, *, before: str | None = None) -> Decision:
    moved = {"number": number, "before": before, "champion": champion}
    return decision_after(LogState(), f"v{day}", date(2020, 6, day), outcome, challenger_metrics={"n_events": 1}, **moved)


def rollback(number: int, to: int, before: int) -> Rollback:
    return rollback_to(f"v{to}", date(2020, 6, to), before=f"v{before}", number=number)


def test_log_gives_back_what_was_written(tmp_path: Path) -> None:
    log = PromotionLog(Store(str(tmp_path)))
    written: list[Entry] = [
        entry(1, 5, Outcome.FIRST_CHAMPION, "v5"),
        entry(2, 6, Outcome.PROMOTE, "v6", before="v5"),
        rollback(3, 5, before=6),
        pin(4, 5, is_on=True),
        pin(5, 5, is_on=False),
    ]
    for one in written:
        log.create(one)
    assert log.entries() == written
    with pytest.raises(AlreadyExistsError):
        log.create(entry(3, 7, Outcome.PROMOTE, "v7"))
    state = log.state()
    assert (state.champion, state.champion_entry, state.retired, state.n_entries) == ("v5", 3, {"v6"}, 5)
    assert state.decisions["v6"] == written[1]


def pin(number: int, day: int, *, is_on: bool) -> Pin:
    return Pin(
        number=number,
        kind="pin" if is_on else "unpin",
        version=f"v{day}",
        day=date(2020, 6, day),
        reason="before the sale",
        actor="ann",
        at="2020-07-01T00:00:00+00:00",
    )


def test_pin_moves_no_champion_and_is_in_force_until_it_is_ended() -> None:
    history = [*HISTORY, pin(6, 9, is_on=True)]
    state = fold(history)
    assert (state.champion, state.champion_entry, state.pin, state.n_entries) == ("v9", 2, history[-1], 6)
    rolled_back = fold([*history, rollback(7, 5, before=9)])
    assert (rolled_back.champion, rolled_back.pin) == ("v5", history[-1])
    assert fold([*history, pin(7, 9, is_on=False)]).pin is None


def test_rollback_can_pin(tmp_path: Path) -> None:
    pinning = rollback(6, 5, before=9).model_copy(update={"pin": True})
    assert fold([*HISTORY, pinning]).pin == pinning
    log = PromotionLog(Store(str(tmp_path)))
    log.create(pinning.model_copy(update={"number": 1}))
    assert log.entries() == [pinning.model_copy(update={"number": 1})]


def test_rollback_from_before_there_were_pins_is_read(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    old = rollback(1, 5, before=9).as_dict()
    del old["pin"]
    store.create_record("promotions/00000001.json", old)
    assert PromotionLog(store).entries() == [rollback(1, 5, before=9)]


def test_empty_log_has_no_champion() -> None:
    state = fold([])
    assert (state.champion, state.champion_entry, state.opponent_for(START)) == (None, 0, None)


HISTORY: list[Entry] = [
    entry(1, 5, Outcome.FIRST_CHAMPION, "v5"),
    entry(2, 9, Outcome.PROMOTE, "v9", before="v5"),
    entry(3, 6, Outcome.WOULD_PROMOTE, "v9", before="v9"),
    entry(4, 7, Outcome.WOULD_KEEP, "v9", before="v9"),
    entry(5, 10, Outcome.KEEP_CHAMPION, "v9", before="v9"),
]


@pytest.mark.parametrize(
    ("day", "opponent"), [(4, None), (5, None), (6, "v5"), (7, "v6"), (8, "v6"), (9, "v9"), (10, "v9"), (11, "v9")]
)
def test_challenger_meets_the_champion_as_of_its_day(day: int, opponent: str | None) -> None:
    assert fold(HISTORY).opponent_for(date(2020, 6, day)) == opponent


def test_retired_version_is_champion_as_of_no_day() -> None:
    state = fold([*HISTORY, rollback(6, 5, before=9)])
    assert (state.champion, state.champion_entry) == ("v5", 6)
    assert state.champion_as_of(date(2020, 6, 12)) == "v6"
    assert state.opponent_for(date(2020, 6, 12)) == "v5"


@pytest.mark.parametrize(
    ("to", "message"),
    [
        ("v5", "v5 is already the champion."),
        ("v9", "v9 is retired: it was rolled back from. Choose another version (`sbr models` lists them)."),
        ("v7", "Expected a version that was champion before, found 'v7'. `sbr log` lists them."),
        ("v99", "Expected a version that was champion before, found 'v99'. `sbr log` lists them."),
    ],
)
def test_only_an_earlier_champion_can_come_back(to: str, message: str) -> None:
    with pytest.raises(RegistryError) as caught:
        require_return(fold([*HISTORY, rollback(6, 5, before=9)]), to)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", r"promotions/00000002\.json is damaged: expected a JSON object \(Expecting property name"),
        (b"[1]", r"promotions/00000002\.json is damaged: expected a JSON object \(found a list\)\. Restore it from a backup"),
        (b'{"kind": "decision"}', r"promotions/00000002\.json is damaged: expected a JSON object \(without a checksum\)"),
        (
            seal("promotions/00000001.json", {"kind": "decision"}),
            r"promotions/00000002\.json is damaged: it was changed after it was written",
        ),
        (
            seal("promotions/00000002.json", {"kind": "decision"}),
            r"^Entry 2 of .*promotions can't be read: decision\.version: Field required\. It is damaged \(restore it from",
        ),
        (
            seal("promotions/00000002.json", {"kind": "wish", "day": "2020-06-01"}),
            r"^Entry 2 of .*promotions can't be read: Input tag 'wish' found ",
        ),
    ],
)
def test_damaged_entry_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    store = Store(str(tmp_path))
    PromotionLog(store).create(entry(1, 5, Outcome.FIRST_CHAMPION, "v5"))
    store.put_new("promotions/00000002.json", content)
    with pytest.raises(DamagedError, match=message):
        PromotionLog(store).entries()


def test_files_that_are_no_entries_are_left_alone(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    PromotionLog(store).create(entry(1, 5, Outcome.FIRST_CHAMPION, "v5"))
    store.put_new("promotions/00000001 (copy).json", b"")
    assert len(PromotionLog(store).entries()) == 1
