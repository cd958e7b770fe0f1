"""Text that is safe to show: without secrets, and without characters that control a terminal."""

from __future__ import annotations

import logging
import re
from typing import Any

_CREDENTIALS = re.compile(r"""(?<=://)(?:[^\s/@:'"]*(?!:\d+[/\s,'"]):[^\r\n'"]*|[^\s/@'"]+)@""")
"""User and password of a URL. Passwords may have `/`, `:`, `@` and spaces, because people forget to escape them."""
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters except tab and line feed, and characters that change the writing direction."""
_SENSITIVE = r"(?:secret|password|passwd|token|key|sas|credential|connection_string|auth|signature|\bsig\b)"
_SECRET_NAMES = re.compile(_SENSITIVE, re.IGNORECASE)
_SECRET_PARAMETERS = re.compile(rf"""([?&][^=&\s'"]*{_SENSITIVE}[^=&\s'"]*=)[^&\s'"]+""", re.IGNORECASE)
_LINE_BREAKS = re.compile(r"\s*[\r\n]+\s*")
_OPTIONS = ("store_options", "options")
"""Settings with options of an object store."""
MASK = "***"


def without_credentials(text: str) -> str:
    """The text with user and password removed from URLs, and with secret URL parameters masked.

    Example:
        >>> without_credentials("postgresql://sbr:p@ss/word@db:5432/mlflow")
        'postgresql://db:5432/mlflow'
    """
    return _SECRET_PARAMETERS.sub(rf"\1{MASK}", _CREDENTIALS.sub("", text))


def printable(text: str) -> str:
    r"""The text with control characters escaped as in JSON, so that it can't move the cursor or colour the terminal.

    Example:
        >>> printable("item \x1b[31m7")
        'item \\u001b[31m7'
    """
    return _CONTROLS.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def in_one_line(text: str) -> str:
    """The text as one printable line without credentials."""
    return printable(without_credentials(_LINE_BREAKS.sub(" ", text.strip())))


def masked(values: Any, *, is_options: bool = False) -> Any:
    """Settings with secrets masked: options with a secret's name, and credentials in URLs.

    Args:
        values: A JSON value.
        is_options: Whether these are options of an object store.
    """
    if isinstance(values, dict):
        return {
            name: MASK
            if is_options and value and _SECRET_NAMES.search(name)
            else masked(value, is_options=is_options or name in _OPTIONS)
            for name, value in values.items()
        }
    if isinstance(values, list):
        return [masked(value, is_options=is_options) for value in values]
    return without_credentials(values) if isinstance(values, str) else values


def percent(share: float, limit: float | None = None) -> str:
    """A share as people write it: `28%`, `3.2%`, `less than 0.1%`, `over 99%`.

    With a limit, it has enough digits to differ from the limit.
    """
    if limit is not None and share != limit and percent(share) == percent(limit):
        several = (f"{100 * share:.{digits}g}%" for digits in range(3, 16))
        return next((text for text in several if text != percent(limit)), percent(limit))
    if 0 < share < 0.001:
        return "less than 0.1%"
    if 0.995 <= share < 1:
        return "over 99%"
    return f"{100 * share:.2g}%" if share < 0.1 else f"{100 * share:.0f}%"


class PrintableFormatter(logging.Formatter):
    """Formats log lines without credentials and control characters."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(without_credentials(super().format(record)))
