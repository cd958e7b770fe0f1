"""Options that commands share, and the workspace that they name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from sbr_tasks.settings import ClickFormat, is_url, parse_overrides
from sbr_tasks.workspace import Workspace

Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, such as window.days=7. Repeatable.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Day = Annotated[str, typer.Argument(metavar="DAY", help="A day, as YYYY-MM-DD.")]
Days = Annotated[list[str] | None, typer.Option("--day", metavar="DAY", help="Only this day. Repeatable.")]
RunDay = Annotated[str, typer.Option("--day", metavar="DAY", help="The day whose clicks are new, as YYYY-MM-DD.")]
From = Annotated[str | None, typer.Option("--from", metavar="FILE", help="A file, folder or glob (setting source.path).")]
Format = Annotated[
    str | None,
    typer.Option("--format", help=f"{', '.join(get_args(ClickFormat))} (setting source.format)."),
]


def open_workspace(
    words: list[str] | None, source: str | None = None, format_name: str | None = None, seed: int | None = None
) -> Workspace:
    """The workspace of the settings, with those of `--set`, `--from`, `--format` and `--seed`."""
    overrides: dict[str, Any] = parse_overrides(words or ())
    if seed is not None:
        overrides["training.seed"] = seed
    if source:
        overrides["source.path"] = source if is_url(source) else str(Path(source).expanduser().absolute())
    if format_name:
        overrides["source.format"] = format_name
    return Workspace.open(overrides)


def holds_back(workspace: Workspace) -> bool:
    """Whether to leave files that may be half written for later; not if the command itself names the source, because then a
    person knows that it is complete.
    """
    return "source.path" not in workspace.overrides
