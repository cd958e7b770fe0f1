"""Data Docs of a day as one self-contained page; Great Expectations' own page loads its styles from nine other hosts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import cache
from html import escape
from html.parser import HTMLParser
from typing import Any

from sbr_tasks.days import day_in_words
from sbr_tasks.store import Json

_DROPPED = frozenset({"script", "style", "nav", "button", "svg", "iframe", "head", "object", "video", "audio", "footer"})
_DROPPED_VOID = frozenset({"link", "img", "input", "meta", "base", "embed", "source"})
_VOID = frozenset({"br", "hr", "col", "wbr", "area"})
_SHELL = frozenset({"html", "body"})
_NEEDS_SCRIPT = frozenset({"card", "modal", "btn", "collapse", "sticky"})
_KEPT_ATTRIBUTES = frozenset({"id", "colspan", "rowspan", "hidden"})
_SIGNS = {"fa-check-circle": ("met", "✓"), "fa-times": ("unmet", "✗"), "fa-exclamation-triangle": ("unmet", "!")}

_FACTS = {
    "one_click_sessions": "share of one-click sessions",
    "length_p50": "median clicks per session",
    "length_p99": "clicks per session, 99th percentile",
    "length_p999": "clicks per session, 99.9th percentile",
    "top_item": "share of clicks on the most clicked item",
    "top_item_id": "most clicked item",
    "top_session": "share of clicks in the session with the most",
    "top_session_id": "session with the most clicks",
    "repeated": "share of repeated clicks",
    "tied": "share of clicks at the same time as the previous one in their session",
    "hours": "hours with clicks",
    "hours_of_day": "hours in the day",
    "new_items": "share of new items",
    "long_sessions": "share of sessions longer than validation.max_session_hours",
    "longest_session_id": "session that lasts longest",
}

_STYLE = """
:root { color-scheme: light dark; --edge: #8884; --good: #18794e; --bad: #c62a2f; --calm: #57606a; }
@media (prefers-color-scheme: dark) { :root { --good: #4cc38a; --bad: #ff6369; --calm: #9da7b1; } }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 64rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: .2rem; }
h2, h5 { font-size: 1.1rem; margin: 1.6rem 0 .2rem; } h6 { margin: .6rem 0 .2rem; }
table { border-collapse: collapse; margin: .4rem 0; }
th, td { border-bottom: 1px solid var(--edge); padding: .25rem .8rem; text-align: left; }
th, td { vertical-align: top; } th { white-space: nowrap; } td { overflow-wrap: break-word; }
td table { font-size: .9em; }
.verdict { border-left: .35rem solid var(--good); padding: .6rem 1rem; background: #8881; border-radius: .3rem; }
.verdict.failed { border-color: var(--bad); } .verdict h2 { margin-top: .4rem; }
.met { color: var(--good); } .unmet { color: var(--bad); font-weight: 650; }
.calm { color: var(--calm); } .facts td { font-variant-numeric: tabular-nums; }
"""


def render_page(result: Any, *, day: date, failures: Sequence[str], warnings: Sequence[str], facts: Json) -> str:
    """The page of a validation: verdict, facts, and Great Expectations' result for each expectation.

    Args:
        result: A `great_expectations` validation result.
        day: The day that was validated.
        failures: Sentences on why the day is in quarantine; empty if it is accepted.
        warnings: Sentences on what is unusual.
        facts: The day's facts by name.

    Returns:
        HTML that loads nothing: no scripts, images, stylesheets or fonts, and only links inside the page.
    """
    from great_expectations.render.renderer.page_renderer import ValidationResultsPageRenderer

    page = _view().render(ValidationResultsPageRenderer(run_info_at_end=True).render(result))
    verdict = "was quarantined" if failures else "was accepted"
    parts = [
        f'<div class="verdict{" failed" if failures else ""}"><strong>{day_in_words(day)} {verdict}</strong>',
        *_sentences("Failed", failures),
        *_sentences("Warnings", warnings),
        "</div>",
    ]
    if facts:
        rows = "".join(
            f"<tr><td>{escape(_FACTS.get(name, name))}</td><td>{escape(_shown(value))}</td></tr>"
            for name, value in facts.items()
        )
        parts.append(f'<h2>Facts of the day</h2><table class="facts">{rows}</table>')
    return _page(day, "".join(parts) + "\n" + self_contained(str(page)))


def render_refusal(day: date, failure: str) -> str:
    """The page of a day that can't be validated, with the reason."""
    failed = "".join(_sentences("Failed", [failure]))
    return _page(day, f'<div class="verdict failed"><strong>{day_in_words(day)} was quarantined</strong>{failed}</div>')


def _page(day: date, body: str) -> str:
    title = f"Validation of {day_in_words(day)}"
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<title>{title}</title>\n'
        f"<style>{_STYLE}</style>\n</head>\n<body>\n<h1>{title}</h1>\n{body}\n"
        f"</body>\n</html>\n"
    )


@cache
def _view() -> Any:
    """Great Expectations' view, shared by all days, because each new one compiles its templates."""
    from great_expectations.render.view import DefaultJinjaPageView

    return DefaultJinjaPageView()


def self_contained(page: str) -> str:
    """The body of an HTML page, without anything that loads from elsewhere, runs, or works only with scripts."""
    kept = _Body()
    kept.feed(page)
    kept.close()
    lines = (line.strip() for line in "".join(kept.parts).splitlines())
    return "\n".join(line for line in lines if line)


def _sentences(title: str, sentences: Sequence[str]) -> list[str]:
    if not sentences:
        return []
    return [f"<h2>{title}</h2><ul>", *(f"<li>{escape(sentence)}</li>" for sentence in sentences), "</ul>"]


def _shown(value: float | str | None) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, str):
        return value
    return f"{value:.4f}" if isinstance(value, float) else f"{value:,}"


class _Body(HTMLParser):
    """Copies the body of a page, without the elements that `self_contained` removes."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._open: list[tuple[str, str | None]] = []  # open elements, and what was written for each

    @property
    def _is_inside_dropped(self) -> bool:
        return any(written is None for _, written in self._open)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _DROPPED_VOID or tag in _SHELL:
            return
        if tag in _VOID:
            if not self._is_inside_dropped:
                self.parts.append(f"<{tag}>")
            return
        given = dict(attrs)
        classes = set((given.get("class") or "").split())
        sign = next((sign for name, sign in _SIGNS.items() if name in classes), None)
        is_dropped = tag in _DROPPED or bool(_NEEDS_SCRIPT & classes)
        self._open.append((tag, None if is_dropped else "span" if sign else tag))
        if self._is_inside_dropped:
            return
        shown = {name: value for name, value in given.items() if name in _KEPT_ATTRIBUTES}
        if tag == "a" and (given.get("href") or "").startswith("#"):
            shown["href"] = given["href"]
        if sign:
            shown["class"] = sign[0]
        attributes = "".join(f' {name}="{escape(value or "")}"' for name, value in shown.items())
        self.parts.append(f"<{'span' if sign else tag}{attributes}>{sign[1] if sign else ''}")

    def handle_endtag(self, tag: str) -> None:
        if not any(name == tag for name, _ in self._open):
            return
        while self._open:
            written = None if self._is_inside_dropped else self._open[-1][1]
            name, _ = self._open.pop()
            if written:
                self.parts.append(f"</{written}>")
            if name == tag:
                return

    def handle_data(self, data: str) -> None:
        if not self._is_inside_dropped:
            self.parts.append(escape(data))
