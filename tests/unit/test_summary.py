"""The line that a task's log ends with."""

from __future__ import annotations

from sbr_tasks.summary import in_one_line


def test_numbers_lists_and_parts_are_summarized() -> None:
    found = {
        "day": "2020-06-30",
        "clicks": 1234567,
        "took_s": 2.5,
        "ingested": ["a", "b", "c", "d", "e"],
        "missing": [],
        "champion": None,
        "promoted": True,
        "popularity": {"recall_at_20": 0.123456, "n_events": 5120},
    }
    assert in_one_line(found) == (
        "day 2020-06-30, clicks 1,234,567, took_s 2.5, ingested [a; b; c; 2 more], missing none, champion none, promoted yes, "
        "popularity (recall_at_20 0.1235, n_events 5,120)"
    )
