"""`sbr quarantine`."""

from __future__ import annotations

from typing import Annotated

import typer
from tabulate import tabulate

from sbr_tasks.cli.options import AsJson, Day, Set, open_workspace
from sbr_tasks.cli.output import show, show_tree
from sbr_tasks.wish import current_user

app = typer.Typer(no_args_is_help=True, help="List, inspect and release days that failed validation.")


@app.command("list")
def list_quarantine(overrides: Set = None, as_json: AsJson = False) -> None:
    """List the days in quarantine, and why."""
    rows = open_workspace(overrides).list_quarantine()
    cells = [{**row.model_dump(mode="json"), "failures": "\n".join(row.failures)} for row in rows]
    table = tabulate(cells, headers="keys", intfmt=",", missingval="-", maxcolwidths=[None, None, None, 72, None])
    show({"quarantine": rows}, table if rows else "No day is in quarantine.", as_json=as_json)


@app.command("show")
def show_quarantine(day: Day, overrides: Set = None, as_json: AsJson = False) -> None:
    """Show what failed, with examples, the day's facts, and where its clicks and Data Docs are."""
    show_tree(open_workspace(overrides).show_quarantine(day), as_json=as_json)


@app.command("release")
def release_day(
    day: Day,
    reason: Annotated[str, typer.Option("--reason", help="Why its clicks may be used (kept in the record).")],
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Accept a quarantined day anyway. The override is recorded and shown wherever the day is used."""
    actor = current_user()
    released = open_workspace(overrides).release(day, reason, actor=actor)
    fields = {"day": day, "rev": released.rev, "clicks": released.rows, "released_by": actor, "reason": reason.strip()}
    show(fields, as_json=as_json)
