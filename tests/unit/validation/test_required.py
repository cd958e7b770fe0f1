from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import pytest

from sbr_tasks.clicks.catalog import ClickCatalog, DayState
from sbr_tasks.clicks.ingest import ingest
from sbr_tasks.errors import DayError
from sbr_tasks.settings import load_settings
from sbr_tasks.store import Store
from sbr_tasks.validation.closing import commit_closing
from sbr_tasks.validation.required import DaysOfWindow, require_days
from sbr_tasks.validation.validate_days import validate_pending
from tests.unit.days import at, parquet_settings, write_parquet
from tests.unit.validation.test_validate_days import D, ingest_days, plain_day

pytestmark = pytest.mark.slow


class TestRequireDays:
    settings = load_settings({"window.days": 4, "window.max_missing_days": 1})
    window = tuple(D - timedelta(days=i) for i in (3, 2, 1, 0))

    def states(self, tmp_path: Path, *good: date, bad: tuple[date, ...] = ()) -> dict[date, DayState]:
        days = {day: plain_day(day) for day in good} | {day: [*plain_day(day), (1, -1, at(day, 1))] for day in bad}
        store = ingest_days(tmp_path, days)
        validate_pending(store, parquet_settings(tmp_path))
        return ClickCatalog(store).days()

    def test_missing_earlier_day_is_reported(self, tmp_path: Path) -> None:
        states = self.states(tmp_path, *self.window[1:])
        assert require_days(states, self.settings, D) == DaysOfWindow(self.window[2], (self.window[0],))

    def test_days_that_are_missing_alike_share_a_warning(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        settings = load_settings({"window.days": 8, "window.max_missing_days": 6})
        good, bad = [D - timedelta(days=ago) for ago in (2, 1, 0)], (D - timedelta(days=4), D - timedelta(days=5))
        states = self.states(tmp_path, *good, bad=bad)
        caplog.clear()
        require_days(states, settings, D)
        never, quarantined, empty = (message.split(". ", 1)[0] for message in caplog.messages)
        assert never == "2020-05-27 to 2020-05-28 were never ingested"
        assert quarantined.startswith("2020-05-29 to 2020-05-30 are in quarantine: Each item_id is a non-negative integer")
        assert empty.startswith("2020-05-31 has no clicks in the source")

    def test_more_missing_days_than_allowed_are_refused(self, tmp_path: Path) -> None:
        states = self.states(tmp_path, *self.window[2:])
        with pytest.raises(DayError) as caught:
            require_days(states, self.settings, D)
        assert str(caught.value) == (
            "2 of the 4 days of the window are missing (2020-05-31 to 2020-06-01); at most 1 may be. "
            "Ingest them, or raise window.max_missing_days."
        )

    def test_quarantined_test_day_is_refused(self, tmp_path: Path) -> None:
        states = self.states(tmp_path, *self.window[:3], bad=(D,))
        with pytest.raises(DayError) as caught:
            require_days(states, self.settings, D)
        assert str(caught.value) == (
            f"The model of {D} is tested on {D}, but {D} is in quarantine: Each item_id is a non-negative "
            "integer: broken by 1 of 13 clicks, such as -1. Correct the source and run the day again; "
            f"`sbr quarantine show {D}` says more."
        )

    @pytest.mark.parametrize("is_bad", [False, True])
    def test_newest_accepted_day_validates_where_the_day_before_is_missing(
        self, tmp_path: Path, is_bad: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        states = self.states(tmp_path, *self.window[:2], D, bad=(self.window[2],) if is_bad else ())
        found = require_days(states, self.settings, D)
        assert found == DaysOfWindow(self.window[1], (self.window[2],))
        assert caplog.messages[-1] == (
            "The model of 2020-06-03 is validated on 2020-06-01, the newest accepted day before it: 2020-06-02 has no accepted "
            "clicks."
        )

    def test_validation_day_is_no_further_back_than_days_may_be_missing(self, tmp_path: Path) -> None:
        states = self.states(tmp_path, *self.window[:2], D)
        with pytest.raises(DayError, match=r"1 of the 4 days of the window are missing \(2020-06-02\); at most 0 may be"):
            require_days(states, load_settings({"window.days": 4, "window.max_missing_days": 0}), D)

    @pytest.mark.parametrize(("earlier", "found"), [((), "none"), ((0,), "only 2020-05-31"), ((2,), "only 2020-06-02")])
    def test_window_with_nothing_to_train_on_before_its_validation_day_is_refused(
        self, tmp_path: Path, earlier: tuple[int, ...], found: str
    ) -> None:
        states = self.states(tmp_path, *(self.window[i] for i in earlier), D)
        with pytest.raises(DayError, match=f"from 2020-05-31 to 2020-06-02, .* found {found}"):
            require_days(states, load_settings({"window.days": 4, "window.max_missing_days": 3}), D)

    def test_closed_days_are_neither_missing_nor_warned_about(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        self.states(tmp_path, self.window[0], D)
        store = Store(str(tmp_path / "store"))
        for day in self.window[1:3]:
            commit_closing(store, day, reason="Easter", actor="ann", now=at(D, 0))
        write_parquet(tmp_path / "in" / "more.parquet", plain_day(self.window[0] - timedelta(days=1)))
        settings = parquet_settings(tmp_path, "window.days=5", "window.max_missing_days=0")
        ingest(store, settings)
        validate_pending(store, settings)
        caplog.clear()
        assert require_days(ClickCatalog(store).days(), settings, D) == DaysOfWindow(self.window[0], ())
        assert len(caplog.messages) == 1, "only that another day validates"
