"""`sbr store`."""

from __future__ import annotations

from typing import Annotated

import typer

from sbr_tasks.cli.options import AsJson, Set, open_workspace
from sbr_tasks.cli.output import show

app = typer.Typer(no_args_is_help=True, help="Check, copy and clear the store.")


@app.command("check")
def check_store(overrides: Set = None, as_json: AsJson = False) -> None:
    """Verify every file that a record names, and report what is missing, damaged or orphaned.

    Exit code 1 if anything is missing or damaged. Orphans are leftovers of killed runs; `sbr store gc` removes them.
    """
    checked = open_workspace(overrides).find_faults()
    orphaned = {**checked.orphaned.model_dump(), "keys": checked.orphaned.keys}
    show({**checked.model_dump(), "orphaned": orphaned}, str(checked), as_json=as_json)
    if checked.faults:
        raise typer.Exit(1)


@app.command("copy")
def copy_store(
    places: Annotated[list[str], typer.Argument(metavar="[FROM] TO", help="Folders or URLs. Default of FROM: the store.")],
    to_options: Annotated[
        list[str] | None,
        typer.Option(
            "--to-option", metavar="KEY=VALUE", help="Option of TO's object store. Default: store_options. Repeatable."
        ),
    ] = None,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Copy a store with its history to another folder or bucket, or bring such a copy up to date.

    Each file is verified on the way, and the whole copy at the end. An interrupted copy can't be used; run the same command
    again to complete it.
    """
    if len(places) > 2:
        raise typer.BadParameter(f"Expected [FROM] TO, found {len(places)} places.")
    for option in to_options or ():
        if "=" not in option:
            raise typer.BadParameter("Expected --to-option KEY=VALUE, such as region=eu-west-1; found one without '='.")
    options = dict(option.split("=", 1) for option in to_options) if to_options else None
    *source, to = places
    show(open_workspace(overrides).copy_store(to, source=source[0] if source else None, options=options), as_json=as_json)


@app.command("gc")
def clear_store(
    keep_days: Annotated[
        int | None, typer.Option("--keep-days", min=0, help="Days to keep before the newest decided one (upkeep.keep_days).")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be removed, and remove nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Allow the removal of more than half of the accepted days.")] = False,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Remove revisions, windows, versions and leftovers that no retained run or log entry needs."""
    cleared = open_workspace(overrides).clear_store(keep_days, dry_run=dry_run, is_confirmed=yes)
    show({**cleared.model_dump(), "keys": cleared.keys}, str(cleared), as_json=as_json)


@app.command("forget")
def forget_day(
    day: Annotated[str, typer.Argument(metavar="DAY", help="The day, as YYYY-MM-DD.")],
    reason: Annotated[str, typer.Option("--reason", help="Why (kept in the record).")],
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Remove a day's clicks, even damaged ones. The next run that needs the day ingests it again."""
    keys = open_workspace(overrides).forget_day(day, reason)
    show({"day": day, "removed": list(keys)}, as_json=as_json)
