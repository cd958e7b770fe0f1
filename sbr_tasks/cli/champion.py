"""The champion: the log of decisions, rollback, pin and repair."""

from __future__ import annotations

from textwrap import indent
from typing import Annotated

import typer

from sbr_tasks.cli.options import AsJson, Set, open_workspace
from sbr_tasks.cli.output import echo, show
from sbr_tasks.registry.listing import LogRow


def show_log(overrides: Set = None, as_json: AsJson = False) -> None:
    """Show the promotion log: every decision, rollback and pin, with its reasons."""
    workspace = open_workspace(overrides)
    rows = workspace.list_decisions()
    nothing = f"The promotion log of {workspace.store.url} has no entries yet. Start a run with `sbr retrain --day DAY`."
    show({"entries": rows}, "\n".join(map(_entry, rows)) if rows else nothing, as_json=as_json)


def _entry(row: LogRow) -> str:
    moved = f"{row.before or 'none'} -> {row.champion or 'none'}"
    first = f"{row.entry:>4}  {row.at}  {row.version}  {row.outcome}  ({moved}, {row.actor})"
    return "\n".join([first, *(indent(reason, " " * 6) for reason in row.reasons)])


def roll_back(
    to: Annotated[str, typer.Option("--to", metavar="VERSION", help="An earlier champion.")],
    reason: Annotated[str, typer.Option("--reason", help="Why (kept in the promotion log).")],
    pin: Annotated[bool, typer.Option("--pin", help="Also pin it: it stays champion until `sbr unpin`.")] = False,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Make an earlier champion live again. The current champion is retired: it can never be promoted again."""
    done = open_workspace(overrides).roll_back(to, reason, pin=pin)
    fields = {"log_entry": done.log_entry, "champion": done.model_version, "retired": done.retired, "pinned": done.pinned}
    show(fields, as_json=as_json)
    if not pin and not as_json:
        echo("The next run with a better model replaces it. `sbr pin --reason ...` keeps it until `sbr unpin`.")


def pin(
    reason: Annotated[str, typer.Option("--reason", help="Why (kept in the promotion log).")],
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Keep the champion until `sbr unpin`, regardless of the gate. Decisions are recorded, but don't change the champion."""
    show(open_workspace(overrides).pin(reason), as_json=as_json)


def unpin(
    reason: Annotated[str, typer.Option("--reason", help="Why (kept in the promotion log).")] = "",
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Unpin the champion: the next decision may replace it."""
    show(open_workspace(overrides).unpin(reason), as_json=as_json)


def repair(overrides: Set = None, as_json: AsJson = False) -> None:
    """Rebuild MLflow's versions, decisions and champion alias, and the serving copy, from the store.

    Exit code 1 if files of a version are lost or damaged; everything else is rebuilt.
    """
    repaired = open_workspace(overrides).repair()
    show(repaired.model_dump(exclude=None if as_json else {"faults"}), as_json=as_json)
    for fault in repaired.faults:
        echo(f"sbr: {fault}", err=True)
    if repaired.faults:
        raise typer.Exit(1)
