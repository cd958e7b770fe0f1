"""The check for words that the project doesn't use."""

from __future__ import annotations

import pytest

from tools.check_terms import find_terms


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("The run continues.\nThen it goes\non.\n", ["2: 'goes on': write continue, resume"]),
        ("Recall is up 28 %.", ["1: '%': write no space before %"]),
        ("All files lie here; the standard is 28%.", []),
        ("Recall@20 %.4f of %d events", []),
        ("{% set rows = 100 %}{{ '#%d of 5' % rank }}", []),
    ],
)
def test_banned_words_are_found_in_documents(text: str, found: list[str]) -> None:
    assert find_terms(text) == found


def test_python_code_is_searched_in_prose_only() -> None:
    code = 'mended = anew % 2  # made anew\n"""Says who\n\nmends it."""\nname = f"{10 % 3}"\n'
    assert find_terms(code, is_python=True) == ["1: 'anew': write again", "4: 'mends': write repair, fix"]
