"""A day's run and its results."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from sbr_tasks.cli.options import AsJson, Days, Format, From, RunDay, Set, holds_back, open_workspace
from sbr_tasks.cli.output import show
from sbr_tasks.errors import SettingsError
from sbr_tasks.report.runs import run_table
from sbr_tasks.results import Retrained
from sbr_tasks.wish import Wish


def window(day: RunDay, overrides: Set = None, as_json: AsJson = False) -> None:
    """Build the window that ends with a day, and show its parts."""
    built = open_workspace(overrides).build_window(day)
    show({"window": built.window, **built.record.as_dict()}, built.text, as_json=as_json)


def retrain(
    day: RunDay,
    source: From = None,
    format_name: Format = None,
    force: Annotated[
        str | None,
        typer.Option("--force", metavar="REASON", help="Promote the model regardless of its scores, for this reason."),
    ] = None,
    promote: Annotated[
        Literal["gate", "never"], typer.Option("--promote", help="never: only train, score and report.")
    ] = "gate",
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Retrain for a day: ingest, validate, build the window, train, evaluate, promote, report."""
    if force is not None and promote == "never":
        raise SettingsError("--force promotes the model, and --promote never forbids it. Use one of them.")
    wish = Wish(promote) if force is None else Wish("force", force)
    workspace = open_workspace(overrides, source, format_name)
    decided = workspace.retrain(day, wish, holds_back=holds_back(workspace))
    text = _verdict(decided) if promote == "never" else run_table(workspace.list_runs([day]))
    show(decided, text, as_json=as_json)


def _verdict(decided: Retrained) -> str:
    before = f"decided before (log entry {decided.log_entry})" if decided.log_entry else "not recorded (--promote never)"
    first = f"{decided.model_version}: {decided.outcome}, {before}."
    return "\n".join([first, *decided.reasons, f"Report: {decided.report}"])


def list_runs(
    last: Annotated[int | None, typer.Option("--last", min=1, help="Only the last N days.")] = None,
    days: Days = None,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """List runs, one row per day: clicks, scores, and the decision with its reason."""
    workspace = open_workspace(overrides)
    rows = workspace.list_runs(days or None)
    rows = rows[-last:] if last else rows
    nothing = f"No run has decided anything yet in {workspace.store.url}. Start a run with `sbr retrain --day DAY`."
    show({"runs": rows}, run_table(rows) if rows else nothing, as_json=as_json)


def report(day: RunDay, overrides: Set = None, as_json: AsJson = False) -> None:
    """Rewrite the page of a day's run, add it to the version in MLflow, and print its path."""
    written = open_workspace(overrides).write_report(day)
    show(written, written.report, as_json=as_json)
