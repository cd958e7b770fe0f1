"""Where the store's files are: keys are built and parsed by one layout."""

from __future__ import annotations

from datetime import date

import pytest

from sbr_tasks.store.kinds import KINDS, PAGE, UNDECIDED_PAGE, WINDOW, WINDOW_FILE, Kind, kind_of

DAY = date(2020, 6, 30)
FIELDS = {
    "day": DAY,
    "rev": "0123456789abcdef",
    "window": "1a2b",
    "profile": "1a2b",
    "version": "2020-06-30-1a2b3c4d",
    "fingerprint": "1a2b",
    "by": "3c4d",
    "model": "markov",
    "number": 12,
    "entry": 12,
    "path": "variables/variables.index",
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.layout)
def test_each_kind_parses_the_keys_that_it_builds(kind: Kind) -> None:
    key = kind.key(**FIELDS)
    fields = kind.parse(key)
    assert fields is not None
    assert fields == {name: FIELDS[name] for name in fields}
    assert kind.key(**fields) == key
    assert kind_of(key) is kind


def test_numbers_of_log_entries_sort_as_text() -> None:
    assert PAGE.key(day=DAY, number=12) == "reports/day=2020-06-30/00000012.html"


@pytest.mark.parametrize(
    "key",
    [
        "windows/day=2020-02-31/1a2b/manifest.json",
        "windows/day=2020-06-30/1a/2b/manifest.json",
        "window/x",
        "",
        "reports/x",
    ],
)
def test_other_keys_are_of_no_kind_with_those_fields(key: str) -> None:
    assert WINDOW.parse(key) is None
    assert UNDECIDED_PAGE.parse(key) is None


def test_folder_ends_before_the_first_unknown_field() -> None:
    assert WINDOW.folder() == "windows"
    assert WINDOW.folder(day=DAY) == "windows/day=2020-06-30"
    assert WINDOW_FILE.folder(day=DAY, window="1a2b") == "windows/day=2020-06-30/1a2b"


def test_remedy_names_the_day_of_the_file() -> None:
    assert "--day 2020-06-30`" in WINDOW.remedy(WINDOW.key(day=DAY, window="1a2b"))
    version = kind_of("models/2020-06-30-1a2b3c4d/manifest.json")
    assert version
    assert " run 2020-06-30 again" in version.remedy("models/2020-06-30-1a2b3c4d/manifest.json")
