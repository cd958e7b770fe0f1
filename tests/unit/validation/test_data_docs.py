from __future__ import annotations

import re
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from sbr_tasks.clicks.catalog import ClickCatalog
from sbr_tasks.validation.data_docs import self_contained
from sbr_tasks.validation.validate_days import validate_pending
from tests.unit.days import at, parquet_settings
from tests.unit.validation.test_validate_days import D, ingest_days, plain_day

pytestmark = pytest.mark.slow


class Page(HTMLParser):
    """Notes what a page loads, its text, and whether its elements are nested."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(page)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in ("br", "hr", "meta", "col"):
            self.open.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "style", "onclick")]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_page_of_a_day_loads_nothing_and_says_each_sentence(tmp_path: Path) -> None:
    days = {D - timedelta(days=i): plain_day(D - timedelta(days=i)) for i in (1, 2, 3)}
    store = ingest_days(tmp_path, {**days, D: [*plain_day(D, sessions=1), (9, -5, at(D, 9))]})
    validate_pending(store, parquet_settings(tmp_path))
    state = ClickCatalog(store).days()[D]
    assert state.quarantined is not None
    html = store.get(state.decided[state.quarantined.rev].data_docs).decode()
    page = Page(html)
    assert [place for place in page.loads if not place.startswith("#")] == []
    assert not {"script", "link", "img", "iframe", "object", "base"} & set(page.tags)
    assert not re.search(r"@import|url\(|https?://", html)
    assert page.open == []
    for sentence in (*state.failures, *state.warnings, "Each click has its session_id", "Each session_id is a non-negative"):
        assert sentence in page.text
    assert "3 June 2020 was quarantined" in page.text
    assert page.text.count("✗") >= 1 + len(state.failures) + len(state.warnings)
    assert "✓" in page.text
    assert "clicks per session, 99.9th percentile" in page.text
    assert "newsletter" not in page.text


def test_what_runs_or_loads_is_left_out_and_text_is_kept() -> None:
    page = (
        '<html><head><link rel="stylesheet" href="https://a.example/x.css"><script src="https://a.example/x.js"></script>'
        '<style>@import "https://a.example/y.css";</style></head><body><p onclick="go()" style="background:url(//a.example)">'
        'a &lt; b <img src="http://a.example/z.png"><a href="https://a.example">out</a> <a href="#in">in</a></p>'
        '<div class="card mb-3"><p>Filter</p></div><i class="fas fa-times text-danger"></i><br>end</body></html>'
    )
    assert self_contained(page) == ('<p>a &lt; b <a>out</a> <a href="#in">in</a></p><span class="unmet">✗</span><br>end')
