"""How results look to people and to the next task."""

from __future__ import annotations

from datetime import date

from sbr_tasks.results import IngestedDay, Scores

DAY = date(2020, 6, 30)


def test_result_without_a_table_is_a_line_for_each_field() -> None:
    lines = str(IngestedDay(day=DAY, clicks=5, ingested=(DAY,))).splitlines()
    assert lines[:3] == ["day: 2020-06-30", "clicks: 5", "ingested: 2020-06-30"]


def test_table_is_for_people_and_not_handed_on() -> None:
    result = IngestedDay(day=DAY, clicks=5, text="a table")
    assert str(result) == "a table"
    assert "text" not in result.model_dump(mode="json")


def test_scores_are_handed_on_by_name() -> None:
    scores = Scores(day=DAY, scores={"markov": {"recall_at_20": 0.5}})
    assert scores.model_dump(mode="json") == {"day": "2020-06-30", "markov": {"recall_at_20": 0.5}}
