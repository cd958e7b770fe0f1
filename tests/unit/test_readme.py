"""The commands of the README and the docs, as a reader would copy them."""

from __future__ import annotations

import re
import shlex
from datetime import date
from pathlib import Path

import pytest
from click import Command, Group
from typer.main import get_command

from sbr_tasks.cli import app
from sbr_tasks.demo import write_demo_clicks

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands_of(file: Path) -> list[list[str]]:
    """The words of each `sbr` command in the shell blocks of a page."""
    lines = "\n".join(BLOCK.findall(file.read_text(encoding="utf-8"))).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.startswith("sbr ")]


def require_parsed(words: list[str]) -> None:
    command: Command = get_command(app)
    name, *rest = words
    while isinstance(command, Group) and rest and rest[0] in command.commands:
        name, *rest = rest
        command = command.commands[name]
    command.make_context(name, rest).close()


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{file.name}" for file in sorted((ROOT / "docs").glob("*.md")))])
def test_commands_of_the_docs_exist_with_their_options(page: str) -> None:
    for words in commands_of(ROOT / page):
        require_parsed(words)


def test_items_of_the_commands_are_in_the_default_demo(tmp_path: Path) -> None:
    write_demo_clicks(tmp_path / "clicks.dat", end=date(2014, 9, 30))
    items = {line.split(",")[2] for line in (tmp_path / "clicks.dat").read_text().splitlines()}
    for page in ("README.md", "docs/commands.md"):
        sessions = [words[words.index("--session") + 1] for words in commands_of(ROOT / page) if "--session" in words]
        assert sessions, page
        assert {item for session in sessions for item in session.split(",")} <= items, page
