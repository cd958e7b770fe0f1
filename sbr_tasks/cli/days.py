"""`sbr days`."""

from __future__ import annotations

from typing import Annotated

import typer
from tabulate import tabulate

from sbr_tasks.cli.options import AsJson, Day, Set, open_workspace
from sbr_tasks.cli.output import show
from sbr_tasks.wish import current_user

app = typer.Typer(no_args_is_help=True, help="List days, and close those that will never have clicks.")


@app.command("close")
def close_day(
    day: Day,
    reason: Annotated[str, typer.Option("--reason", help="Why it has no clicks (kept in the record).")],
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Mark a day that will never have clicks, up to a year ahead. Runs don't wait for it, and it doesn't count as missing."""
    actor = current_user()
    open_workspace(overrides).close_day(day, reason, actor=actor)
    show({"day": day, "closed_by": actor, "reason": reason.strip()}, as_json=as_json)


@app.command("open")
def open_day(
    day: Day,
    reason: Annotated[str, typer.Option("--reason", help="Why it is open again (kept in the record).")],
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Open a closed day again. The next run that needs it looks for its clicks in the source."""
    actor = current_user()
    open_workspace(overrides).open_day(day, reason, actor=actor)
    show({"day": day, "opened_by": actor, "reason": reason.strip()}, as_json=as_json)


@app.command("list")
def list_days(overrides: Set = None, as_json: AsJson = False) -> None:
    """List the days that the store knows: status, clicks, and who closed them."""
    workspace = open_workspace(overrides)
    rows = workspace.list_days()
    closed = [row.closed for row in rows]
    notes = [f"{closing.actor} on {closing.at[:10]}: {closing.reason}" if closing else "" for closing in closed]
    cells = [[row.day, row.status, row.clicks, note] for row, note in zip(rows, notes, strict=True)]
    table = tabulate(cells, headers=["day", "status", "clicks", "closed by"], intfmt=",", missingval="-")
    nothing = f"No day was ingested or closed yet in {workspace.store.url}."
    show({"days": rows}, table if rows else nothing, as_json=as_json)
