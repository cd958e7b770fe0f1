"""Random histories of runs, retries, rollbacks, backfills and lost files, decided by the code that decides in earnest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.records import version_record_of, window_record_of
from sbr_tasks.errors import DamagedError, RegistryError
from sbr_tasks.evaluation.comparison import Difference
from sbr_tasks.registry import promotion as promotion_module
from sbr_tasks.registry.gate import COMPARED, Outcome
from sbr_tasks.registry.log import Decision, Entry, LogState, PromotionLog, fold
from sbr_tasks.registry.promotion import commit_decision, commit_rollback
from sbr_tasks.registry.scoring import BASELINES, Score
from sbr_tasks.registry.serving import served
from sbr_tasks.registry.versions import ModelVersion
from sbr_tasks.settings import GateSettings, Settings
from sbr_tasks.store import FileRecord, Store
from sbr_tasks.window.record import Window
from sbr_tasks.wish import Wish

pytestmark = pytest.mark.slow

START = date(2020, 6, 1)
TOO_FEW, BELOW_BASELINE, N_QUALITIES, N_DAYS = 0, 1, 4, 4
MAY_REPLACE = Settings(gate=GateSettings(replace_unusable=True))

# What happens to the version of a day and a quality; a run of one that is known already is a retry. A rollback goes to the
# earlier champion that is nearest, and it is always the present one that loses its files.
steps = st.tuples(
    st.sampled_from(["run", "run", "run", "force", "roll back", "roll back", "lose files"]),
    st.integers(0, N_DAYS - 1),
    st.integers(0, N_QUALITIES - 1),
)


class Alias:
    """What MLflow's alias names, as the real projection would set it."""

    champion: str | None = None

    def __init__(self, store: Store, settings: Settings) -> None:
        del store, settings

    def show(self, entries: list[Entry], state: LogState, *, again: bool = False) -> None:
        del entries, again
        Alias.champion = state.champion


def name_of(day: int, quality: int) -> str:
    return f"{START + timedelta(days=day)}-{quality:08x}"


def quality_of(name: str) -> int:
    return int(name[11:], 16)


def earlier_champion(state: LogState, name: str) -> str:
    """The champion nearest to a name, other than the present one; the name itself where there is none."""
    known = sorted(state.were_champion - {state.champion})
    return next((one for one in known if one >= name), known[-1] if known else name)


def version_of(store: Store, name: str) -> ModelVersion:
    """A version of one file, which may be lost."""
    file = FileRecord(key=f"models/{name}/file", size=len(name), sha256=store.publish(f"hashes/{name}", name.encode()).sha256)
    return version_record_of(name, files={"f": file}, saved_model={"f": file})


def score(_store: Store, _settings: Settings, _window: Window, names: list[str]) -> dict[str, Score]:
    """What models of these qualities score on the same test day; the challenger, which comes first, says how large that is."""
    n = 1 if quality_of(names[0]) == TOO_FEW else 500
    values = {name: quality_of(name) / 10 for name in names} | dict.fromkeys(BASELINES, BELOW_BASELINE / 10)
    counts = {"n_events": n, "n_sessions": n}
    return {
        name: Score(
            metrics={"recall_at_20": v, "mrr_at_20": v, **counts}, by_length={}, ranks=FileRecord(key="", size=0, sha256="")
        )
        for name, v in values.items()
    }


def compare(_store: Store, _settings: Settings, _window: Window, new: Score, old: Score) -> dict[str, Difference]:
    gains = {metric: new.metrics[metric] - old.metrics[metric] for metric in COMPARED}
    return {metric: Difference(gain, gain, gain, 0.5) for metric, gain in gains.items()}


@contextmanager
def injected() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        Alias.champion = None
        patch.setattr(promotion_module, "load_version", version_of)
        patch.setattr(promotion_module, "score_models", score)
        patch.setattr(promotion_module, "compare_scores", compare)
        patch.setattr(promotion_module, "check_serving", lambda *_: None)
        patch.setattr(promotion_module, "coverage_notes", lambda _: [])
        patch.setattr(promotion_module, "MlflowProjection", Alias)
        yield


@settings(max_examples=300)
@given(st.lists(steps, max_size=40), st.booleans())
def test_no_history_moves_the_champion_to_an_older_day_or_returns_a_retired_version(
    history: list[tuple[str, int, int]], may_replace: bool
) -> None:
    store, config = Store("memory:///"), MAY_REPLACE if may_replace else Settings()
    with injected():
        for step, day, quality in history:
            before, name = PromotionLog(store).state(), name_of(day, quality)
            if step == "roll back":
                name = earlier_champion(before, name)
            if step == "lose files":
                name = before.champion or name
            happens(store, config, step, name)
            entries = PromotionLog(store).entries()
            after = fold(entries)
            assert after.n_entries - before.n_entries in (0, 1)
            if after.n_entries > before.n_entries:
                check_entry(entries[-1], before, may_replace)
            assert after.champion not in after.retired
            assert Alias.champion == after.champion
            assert served(store) == ((after.champion_entry, after.champion) if after.champion else None)
        assert_replayed(PromotionLog(store).entries())


def happens(store: Store, config: Settings, step: str, name: str) -> None:
    """Does a step; what is refused leaves the log as it was."""
    before = PromotionLog(store).state()
    try:
        if step == "lose files":
            store.delete(f"models/{name}/file")
        elif step == "roll back":
            commit_rollback(store, config, name, reason="worse in the shop", actor="test")
        else:
            store.replace(f"models/{name}/file", name.encode())  # a run trains again what was lost
            window = window_record_of(date.fromisoformat(name[:10]))
            wish = Wish("force", "wanted") if step == "force" else Wish()
            promotion, _ = commit_decision(store, config, window, name, wish)
            if name in before.decisions and step == "run":
                assert promotion == before.decisions[name]
    except (RegistryError, DamagedError):
        assert PromotionLog(store).state() == before


def check_entry(entry: Entry, before: LogState, may_replace: bool) -> None:
    """The last entry of a log, and what the log said before it."""
    if not isinstance(entry, Decision):
        assert entry.version in before.were_champion - before.retired
        assert entry.before == before.champion
        return
    assert entry.version not in before.retired
    assert entry.opponent not in before.retired
    if entry.outcome.moves_champion and before.champion_day:
        assert entry.day >= before.champion_day
    if entry.outcome is Outcome.PROMOTE:
        assert entry.opponent == before.champion
        assert quality_of(entry.version) > quality_of(str(entry.opponent))
    if entry.outcome is Outcome.FIRST_CHAMPION:
        assert before.champion is None or (may_replace and entry.opponent_metrics is None)
    assert entry.outcome is not Outcome.CHAMPION_UNUSABLE


def assert_replayed(entries: list[Entry]) -> None:
    """The champion that the log tells is that of the last entry that moved it."""
    moving = [entry for entry in entries if not isinstance(entry, Decision) or entry.outcome.moves_champion]
    state = fold(entries)
    assert (state.champion, state.champion_entry) == ((moving[-1].version, moving[-1].number) if moving else (None, 0))
