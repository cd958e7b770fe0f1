"""What tests look at on a page."""

from __future__ import annotations

from html.parser import HTMLParser

_VOID = {"meta", "link", "input", "br", "img"}


class Page(HTMLParser):
    """Addresses that a page names, the text of its table cells by row, its headings, its text, and its tags with attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.addresses = list[str]()
        self.rows = list[list[str]]()
        self.tags = list[tuple[str, dict[str, str | None]]]()
        self.text = ""
        self._open = list[str]()
        self.headings = list[str]()
        self.feed(html)

    def of(self, tag: str, name: str | None = None) -> list[dict[str, str | None]]:
        """The attributes of all elements of a tag, or of those that have an attribute."""
        return [attributes for one, attributes in self.tags if one == tag and (name is None or name in attributes)]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.addresses += [value for name, value in attrs if name in ("src", "href", "xlink:href", "data", "action") and value]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag in ("h1", "h2", "h3"):
            self.headings.append("")
        if tag not in _VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if {"style", "script"} & set(self._open):
            return
        self.text += data
        if {"td", "th"} & set(self._open):
            self.rows[-1][-1] += data
        if {"h1", "h2", "h3"} & set(self._open):
            self.headings[-1] += data.strip()
