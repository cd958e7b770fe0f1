"""Clicks: from a source to accepted days."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from textwrap import indent
from typing import Annotated

import typer

from sbr_tasks.cli.options import AsJson, Days, Format, From, RunDay, Set, holds_back, open_workspace
from sbr_tasks.cli.output import echo, show
from sbr_tasks.days import as_intervals, describe_days, parse_day
from sbr_tasks.demo import write_demo_clicks
from sbr_tasks.report.profile.build import profile_table
from sbr_tasks.validation.validate_days import Validated


def demo_clicks(
    out: Annotated[Path, typer.Option("--out", help="The file to write.")],
    clicks: Annotated[int | None, typer.Option("--clicks", min=1, help="Exact number of clicks.")] = None,
    days: Annotated[int, typer.Option("--days", min=1, help="Days of history.")] = 33,
    sessions_per_day: Annotated[
        int | None, typer.Option("--sessions-per-day", min=1, help="Sessions a day. Default: 1500.")
    ] = None,
    end: Annotated[str, typer.Option("--end", metavar="DAY", help="The last day.")] = "2014-09-30",
    seed: Annotated[int, typer.Option("--seed", min=0, help="Random seed; the same seed gives the same file.")] = 42,
    shuffle: Annotated[bool, typer.Option("--shuffle", help="Write the lines in random order.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write synthetic clicks that look like a shop's, in YooChoose's format."""
    out.parent.mkdir(parents=True, exist_ok=True)
    summary = write_demo_clicks(
        out,
        end=parse_day(end),
        days=days,
        sessions_per_day=sessions_per_day,
        seed=seed,
        clicks=clicks,
        shuffle=shuffle,
    )
    first_day = parse_day(end) - timedelta(days=days - 1)
    if summary.first.date() > first_day:
        echo(
            f"{summary.clicks:,} clicks are too few for {days} days: "
            f"the first is on {summary.first:%Y-%m-%d}, not {first_day}.",
            err=True,
        )
    written = {
        "path": str(summary.path),
        "clicks": summary.clicks,
        "sessions": summary.sessions,
        "items": summary.items,
        "first": summary.first.isoformat(),
        "last": summary.last.isoformat(),
    }
    show(written, as_json=as_json)


def ingest(
    source: From = None,
    format_name: Format = None,
    days: Days = None,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Read clicks into the store, all days at once, ready for validation.

    A stored day is replaced only by clicks that contain all of its own; --set ingest.changed_days=take replaces it anyway.
    """
    workspace = open_workspace(overrides, source, format_name)
    ingested = workspace.ingest(days or None, holds_back=holds_back(workspace))
    fields = {
        "rows": ingested.rows,
        "rejected": ingested.rejected,
        "days": {str(revision.day): revision.rows for revision in ingested.revisions},
        "empty": as_intervals(ingested.empty),
        "ledger": ingested.ledger.model_dump(mode="json"),
        "warnings": list(ingested.warnings),
    }
    if ingested.rejects:
        fields["rejects"] = workspace.store.where(ingested.rejects.key)
    show(fields, ingested.in_words(workspace.settings.source.path), as_json=as_json)


def validate(overrides: Set = None, as_json: AsJson = False) -> None:
    """Validate the ingested days that weren't validated yet: accept or quarantine each."""
    validated = open_workspace(overrides).validate()
    fields = {
        "accepted": [str(day) for day in validated.accepted],
        "quarantined": [str(day) for day in validated.quarantined],
        "failures": {str(day): sentences for day, sentences in validated.failures.items()},
        "warnings": {str(day): sentences for day, sentences in validated.warnings.items()},
    }
    show(fields, _in_words(validated), as_json=as_json)


def _in_words(validated: Validated) -> str:
    lines = [f"Accepted: {describe_days(validated.accepted) or 'no day'}."]
    if validated.failures:
        lines.append(f"In quarantine: {describe_days(validated.quarantined)}. `sbr quarantine show DAY` shows examples.")
    for what, by_day in (("Failures", validated.failures), ("Warnings", validated.warnings)):
        for day, sentences in by_day.items():
            lines += [f"{what} of {day}:", *(indent(sentence, "  ") for sentence in sentences)]
    return "\n".join(lines)


def profile(
    day: RunDay,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Also write numbers and plots to this folder.")
    ] = None,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Profile the clicks of a day's window before cleansing: volume, session lengths, popularity, new items, hours."""
    workspace = open_workspace(overrides)
    profiled, files = workspace.profile(day, out)
    where = {"profile": workspace.store.where(profiled.key), "files": [str(file) for file in files]}
    place = f"Numbers and plots: {out}" if out else f"Numbers: {where['profile']}"
    show(
        {**where, "missing_days": [str(day) for day in profiled.missing_days], **profiled.numbers.as_dict()},
        f"{profile_table(profiled)}\n\n{place}",
        as_json=as_json,
    )


def preview(
    source: From = None,
    format_name: Format = None,
    days: Annotated[int, typer.Option("--days", min=1, help="Number of days to check, counted back from the last one.")] = 3,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Check that a source can be read, and estimate the size of a window and the duration of a run."""
    show(open_workspace(overrides, source, format_name).preview(days), as_json=as_json)
