"""Finds words that the project doesn't use: `python -m tools.check_terms [FILE ...]`, by default all files that git tracks.

Documentation, pages and configuration are read whole; of Python files, strings, docstrings and comments.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

_INSTEAD = {
    r"\ball the same\b": "anyway",
    r"\blevel with\b": "up to date with",
    r"\b(?:go|goes|went|gone|going) on\b": "continue, resume",
    r"\b(?:is|are|was|were|be|been) told\b": "is reported, is sent",
    r"\b(?:made|make|makes|making) again\b": "rebuild",
    r"\bmend(?:s|ed|ing)?\b": "repair, fix",
    r"\banew\b": "again",
    r"\bafresh\b": "from scratch",
    r"\bas_of\b": "day",
    r"\bever after\b": "from then on",
    r"\b(?:stands|stood)\b": "is, is current",
    r"\blies\b": "is",
    r"\bno substitute\b": "doesn't replace",
    r"\bthe then champion\b": "the champion as of that day",
    r"(?<=[\d}]) %(?![\w(}]|\.\d| \d)": "no space before %",
    r"\bgive up after so many\b": "time limit",
}
_TERMS = {re.compile(pattern.replace(" ", r"\s+"), re.IGNORECASE): instead for pattern, instead in _INSTEAD.items()}
_SUFFIXES = {".md", ".py", ".html", ".js", ".css", ".sh", ".yaml", ".toml"}
_EXEMPT = {"tools/check_terms.py", "tests/unit/test_check_terms.py"}
"""Files that name these words in order to forbid them."""
_PROSE = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}


def main(names: list[str]) -> int:
    """Prints each place and what to write instead; returns the exit status."""
    tracked = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout.splitlines()
    lines = []
    for name in names or tracked:
        file = Path(name)
        if file.suffix in _SUFFIXES and name not in _EXEMPT and file.is_file():
            lines += [f"{name}:{place}\n" for place in find_terms(file.read_text(), is_python=file.suffix == ".py")]
    sys.stdout.writelines(lines)
    return int(bool(lines))


def find_terms(text: str, *, is_python: bool = False) -> list[str]:
    """The line, the words and what to write instead, of each place; of Python code, only in prose."""
    return [
        f"{first + prose.count(chr(10), 0, match.start())}: {' '.join(match.group().split())!r}: write {instead}"
        for first, prose in (_prose(text) if is_python else [(1, text)])
        for pattern, instead in _TERMS.items()
        for match in pattern.finditer(prose)
    ]


def _prose(code: str) -> Iterator[tuple[int, str]]:
    """Strings, docstrings and comments of Python code, each with the number of its first line."""
    for token in tokenize.generate_tokens(io.StringIO(code).readline):
        if token.type in _PROSE:
            yield token.start[0], token.string


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
