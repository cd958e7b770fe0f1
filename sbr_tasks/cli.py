"""`sbr`: every step without Airflow."""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from textwrap import indent
from typing import Annotated, Any, Literal, get_args

import typer
from tabulate import tabulate

from sbr_tasks.days import as_intervals, describe_days, parse_day
from sbr_tasks.errors import INTERRUPTED, SbrError, SettingsError, StoreError, system_error
from sbr_tasks.plain_text import PrintableFormatter, masked, printable
from sbr_tasks.settings import ClickFormat, Settings, absolute_place, is_url, load_settings
from sbr_tasks.store import Store

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)

models = typer.Typer(help="The model versions.")
app.add_typer(models, name="models")
stored = typer.Typer(no_args_is_help=True, help="Check, copy and clear the store.")
app.add_typer(stored, name="store")

quarantine = typer.Typer(no_args_is_help=True, help="Days whose clicks failed validation.")
app.add_typer(quarantine, name="quarantine")

days_app = typer.Typer(no_args_is_help=True, help="Days of clicks, and days without any.")
app.add_typer(days_app, name="days")

Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a setting, such as window.days=7. Repeatable.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Day = Annotated[str, typer.Argument(metavar="DAY", help="A day, as YYYY-MM-DD.")]
AsOf = Annotated[str, typer.Option("--as-of", metavar="DAY", help="The day whose clicks are new, as YYYY-MM-DD.")]
From = Annotated[str | None, typer.Option("--from", metavar="FILE", help="A file, folder or glob (setting source.path).")]
Format = Annotated[
    str | None,
    typer.Option("--format", help=f"{', '.join(get_args(ClickFormat))} (setting source.format)."),
]


def main() -> None:
    """Runs the command line; an error that a person can correct is one sentence on standard error and exit code 1."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PrintableFormatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    try:
        app()
    except SbrError as error:
        _echo(f"sbr: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        _echo(
            f"sbr: The system refused ({system_error(error)}). Check that the place is right and may be read and written; "
            "`sbr settings` shows which store, scratch, mlflow and source are set; the environment variable TMPDIR names the "
            "system's folder for temporary files.",
            err=True,
        )
        sys.exit(1)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            _echo("sbr: interrupted. What was committed is kept; run the same command again to continue.", err=True)
        raise


@app.command("demo-clicks")
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
    from sbr_tasks.demo import write_demo_clicks

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
    asked = parse_day(end) - timedelta(days=days - 1)
    if summary.first.date() > asked:
        _echo(
            f"{summary.clicks:,} clicks are too few for {days} days: the first is on {summary.first:%Y-%m-%d}, not {asked}.",
            err=True,
        )
    _print(
        {
            "path": str(summary.path),
            "clicks": summary.clicks,
            "sessions": summary.sessions,
            "items": summary.items,
            "first": summary.first.isoformat(),
            "last": summary.last.isoformat(),
        },
        as_json,
    )


@app.command()
def ingest(
    source: From = None,
    format_name: Format = None,
    days: Annotated[list[str] | None, typer.Option("--day", metavar="DAY", help="Only this day. Repeatable.")] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Read clicks into the store, all days at once, ready for validation.

    A stored day is replaced only by clicks that contain all of its own; --set ingest.changed_days=take replaces it anyway.
    """
    from sbr_tasks.clicks.ingest import ingest as run

    store, settings = _open(overrides, source, format_name)
    wanted = [parse_day(day) for day in days] if days else None
    ingested = run(store, settings, days=wanted, holds_back=not _names_source(overrides, source))
    if as_json:
        clicks = {str(revision.day): revision.rows for revision in ingested.revisions}
        found = {"rows": ingested.rows, "rejected": ingested.rejected, "days": clicks}
        found |= {"empty": as_intervals(ingested.empty)}
        found |= {"ledger": ingested.ledger.model_dump(mode="json"), "warnings": list(ingested.warnings)}
        rejects = {"rejects": store.where(ingested.rejects.key)} if ingested.rejects else {}
        _print(found | rejects, as_json)
    else:
        _echo(ingested.in_words(settings.source.path))


@app.command()
def validate(overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Validate every ingested day that has no verdict yet: accept it, or put it in quarantine."""
    from sbr_tasks.validation.checkpoint import validate_pending

    validated = validate_pending(*_open(overrides))
    failures, warnings = (
        {str(day): sentences for day, sentences in found.items()} for found in (validated.failures, validated.warnings)
    )
    if as_json:
        accepted = [str(day) for day in validated.accepted]
        _print({"accepted": accepted, "quarantined": list(failures), "failures": failures, "warnings": warnings}, as_json)
        return
    _echo(f"Accepted: {describe_days(validated.accepted) or 'no day'}.")
    if failures:
        _echo(f"In quarantine: {describe_days(validated.quarantined)}. `sbr quarantine show DAY` shows examples.")
    for what, by_day in (("Failures", failures), ("Warnings", warnings)):
        for day, sentences in by_day.items():
            _echo(f"{what} of {day}:")
            for sentence in sentences:
                _echo(indent(sentence, "  "))


@quarantine.command("list")
def list_quarantine(overrides: Overrides = None, as_json: AsJson = False) -> None:
    """List the days in quarantine, and why they are."""
    from sbr_tasks.validation.quarantine import list_quarantine as run

    store, _ = _open(overrides)
    rows = run(store)
    if as_json:
        _print({"quarantine": rows}, as_json)
    elif rows:
        shown = [{**row, "failures": "\n".join(row["failures"])} for row in rows]
        _echo(tabulate(shown, headers="keys", intfmt=",", missingval="-", maxcolwidths=[None, None, None, 72, None]))
    else:
        _echo("No day is in quarantine.")


@quarantine.command("show")
def show_quarantine(day: Day, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Show what failed, with examples, the day's facts, and where its clicks and Data Docs are."""
    from sbr_tasks.validation.quarantine import show_quarantine as run

    store, _ = _open(overrides)
    found = run(store, parse_day(day))
    _echo(json.dumps(found, ensure_ascii=False, indent=None if as_json else 2))


@quarantine.command("release")
def release_day(
    day: Day,
    reason: Annotated[str, typer.Option("--reason", help="Why its clicks may be used (kept in the record).")],
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Accept a quarantined day anyway. The override is recorded and shown wherever the day is used."""
    from sbr_tasks.steps import who
    from sbr_tasks.validation.quarantine import release

    by = who()
    released = release(*_open(overrides), parse_day(day), reason=reason, by=by)
    _print({"day": day, "rev": released.rev, "clicks": released.rows, "released_by": by, "reason": reason.strip()}, as_json)


@days_app.command("close")
def close_day(
    day: Day,
    reason: Annotated[str, typer.Option("--reason", help="Why it has no clicks (kept in the record).")],
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Mark a day that will never have clicks, up to a year ahead. Runs don't wait for it, and it doesn't count as missing."""
    from sbr_tasks.steps import who
    from sbr_tasks.validation.closing import close_day as run

    store, _ = _open(overrides)
    run(store, parse_day(day), reason=reason, actor=(actor := who()), now=datetime.now(UTC))
    _print({"day": day, "closed_by": actor, "reason": reason.strip()}, as_json)


@days_app.command("open")
def open_day(
    day: Day,
    reason: Annotated[str, typer.Option("--reason", help="Why it is open again (kept in the record).")],
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Open a closed day again. The next run that needs it looks for its clicks in the source."""
    from sbr_tasks.steps import who
    from sbr_tasks.validation.closing import open_day as run

    store, _ = _open(overrides)
    run(store, parse_day(day), reason=reason, actor=(actor := who()), now=datetime.now(UTC))
    _print({"day": day, "opened_by": actor, "reason": reason.strip()}, as_json)


@days_app.command("list")
def list_days(overrides: Overrides = None, as_json: AsJson = False) -> None:
    """List the days that the store knows: status, clicks, and who closed them."""
    from sbr_tasks.validation.closing import list_days as run

    store, _ = _open(overrides)
    rows = run(store)
    if as_json:
        _print({"days": rows}, as_json)
        return
    if not rows:
        _echo(f"No day was ingested or closed yet in {store.url}.")
        return
    closed = [row["closed"] for row in rows]
    notes = [f"{one['actor']} on {one['at'][:10]}: {one['reason']}" if one else "" for one in closed]
    shown = [[row["day"], row["status"], row["clicks"], note] for row, note in zip(rows, notes, strict=True)]
    _echo(tabulate(shown, headers=["day", "status", "clicks", "closed by"], intfmt=",", missingval="-"))


@app.command()
def window(as_of: AsOf, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Build the window that ends with a day, and show its parts."""
    from sbr_tasks.window.build import build_window, window_table

    built = build_window(*_open(overrides), parse_day(as_of))
    if as_json:
        _print({"window": built.fingerprint, **built.as_dict()}, as_json)
    else:
        _echo(window_table(built))


@app.command()
def retrain(
    as_of: AsOf,
    source: From = None,
    format_name: Format = None,
    force: Annotated[
        str | None, typer.Option("--force", metavar="REASON", help="Promote the model whatever it scores, for this reason.")
    ] = None,
    promote: Annotated[
        Literal["gate", "never"], typer.Option("--promote", help="never: train, score and report; nothing is promoted.")
    ] = "gate",
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Run the whole chain for a day: ingest, validate, window, train, evaluate, promote, report."""
    from sbr_tasks.report.runs import run_rows, run_table
    from sbr_tasks.steps import retrain as run

    holds_back = not _names_source(overrides, source)
    overrides = _with_source(overrides, source, format_name)
    if force is not None and promote == "never":
        raise SettingsError("--force promotes the model, and --promote never forbids it. Use one of them.")
    decided = run(as_of, force=force, is_asked=promote != "never", holds_back=holds_back, overrides=overrides)
    if as_json:
        _print(decided, as_json)
    elif promote == "never":
        before = (
            f"decided before (log entry {decided['log_entry']})" if decided["log_entry"] else "not recorded (--promote never)"
        )
        _echo(f"{decided['model_version']}: {decided['outcome']}, {before}.")
        _echo("\n".join([*decided["reasons"], f"Report: {decided['report']}"]))
    else:
        _echo(run_table(run_rows(Store.open(load_settings(overrides)), [parse_day(as_of)])))


@app.command()
def runs(
    last: Annotated[int | None, typer.Option("--last", min=1, help="Only the last N days.")] = None,
    days: Annotated[list[str] | None, typer.Option("--day", metavar="DAY", help="Only this day. Repeatable.")] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """List one row a day: what was ingested, what the models scored, what was decided and why."""
    from sbr_tasks.report.runs import run_rows, run_table

    store, _ = _open(overrides)
    rows = run_rows(store, [parse_day(day) for day in days] if days else None)
    rows = rows[-last:] if last else rows
    if as_json:
        _print({"runs": [row.as_dict() for row in rows]}, as_json)
    else:
        nothing = f"No run has decided anything yet in {store.url}. Start a run with `sbr retrain --as-of DAY`."
        _echo(run_table(rows) if rows else nothing)


@models.callback(invoke_without_command=True)
def list_models(context: typer.Context, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """List the model versions: which one is champion, and which are stale (clicks of their days have changed since)."""
    from sbr_tasks.registry.listing import model_rows, pin_row, staleness_in_words

    if context.invoked_subcommand:
        return
    store, _ = _open(overrides)
    rows = model_rows(store)
    if as_json:
        champion = next((row["version"] for row in rows if row["champion"]), None)
        _print({"champion": champion, "pin": pin_row(store), "models": rows}, as_json)
    elif rows:
        marks = {name: [name if row[name] else "" for row in rows] for name in ("champion", "retired", "lost")}
        marks["stale"] = [staleness_in_words(row) for row in rows]
        shown = [{**row, **{name: mark[i] for name, mark in marks.items()}} for i, row in enumerate(rows)]
        for row in shown:
            if row.pop("pinned"):
                row["champion"] = "champion, pinned"
            del row["stale_ancestors"]
        _echo(tabulate(shown, headers="keys", floatfmt=".4f", missingval="-"))
        if pin := pin_row(store):
            why = pin["reasons"][0].removesuffix(".")
            _echo(f"\n{pin['version']} was pinned at {pin['at']} by {pin['run']}: {why}. `sbr unpin` removes the pin.")
    else:
        _echo("There are no models yet. Train one with `sbr retrain --as-of DAY`.")


@models.command("show")
def show_model(
    version: Annotated[str, typer.Argument(help="The version's name.")], overrides: Overrides = None, as_json: AsJson = False
) -> None:
    """Show a version: settings, learning curve, lineage, decisions."""
    from sbr_tasks.registry.listing import describe_version

    store, _ = _open(overrides)
    found = describe_version(store, version)
    _echo(json.dumps(found, ensure_ascii=False, indent=None if as_json else 2))


@models.command("diff")
def diff_models(
    first: Annotated[str, typer.Argument(help="A version.")],
    second: Annotated[str, typer.Argument(help="Another version.")],
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Show what differs between two versions: settings, data, code and scores."""
    from sbr_tasks.registry.listing import version_differences

    store, _ = _open(overrides)
    found = version_differences(store, first, second)
    if as_json:
        _print(found, as_json)
    else:
        _echo(tabulate([[name, *pair] for name, pair in found.items()], headers=["", first, second], missingval="-"))


@app.command("log")
def show_log(overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Show the promotion log: every decision, rollback and pin, with its reasons."""
    from sbr_tasks.registry.listing import log_rows

    store, _ = _open(overrides)
    rows = log_rows(store)
    if as_json:
        _print({"entries": rows}, as_json)
        return
    if not rows:
        _echo(f"The promotion log of {store.url} has no entries yet. Start a run with `sbr retrain --as-of DAY`.")
    for row in rows:
        moved = f"{row['from'] or 'none'} -> {row['to'] or 'none'}"
        _echo(f"{row['entry']:>4}  {row['at']}  {row['version']}  {row['outcome']}  ({moved}, {row['run']})")
        for reason in row["reasons"]:
            _echo(indent(reason, " " * 6))


@app.command()
def rollback(
    to: Annotated[str, typer.Option("--to", metavar="VERSION", help="An earlier champion.")],
    reason: Annotated[str, typer.Option("--reason", help="Why (kept in the promotion log).")],
    pin: Annotated[bool, typer.Option("--pin", help="Also pin it: keep it whatever the gate says, until `sbr unpin`.")] = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Make an earlier champion the champion again. The present one is retired: it can never be promoted again."""
    from sbr_tasks.steps import roll_back

    done = roll_back(to, reason, pin=pin, overrides=overrides or ())
    found = {"log_entry": done["log_entry"], "champion": done["model_version"], "retired": done["retired"]}
    _print(found | {"pinned": pin}, as_json)
    if not pin and not as_json:
        typer.echo("The next run with a better model replaces it. `sbr pin --reason ...` keeps it until `sbr unpin`.")


@app.command("pin")
def pin_champion(
    reason: Annotated[str, typer.Option("--reason", help="Why (kept in the promotion log).")],
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Keep the champion whatever the gate says, until `sbr unpin`. Decisions are recorded as what they would have been."""
    from sbr_tasks.steps import pin_champion as run

    _print(run(reason, overrides=overrides or ()), as_json)


@app.command("unpin")
def unpin_champion(
    reason: Annotated[str, typer.Option("--reason", help="Why (kept in the promotion log).")] = "",
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Let the gate change the champion again, from the next decision on."""
    from sbr_tasks.steps import unpin_champion as run

    _print(run(reason, overrides=overrides or ()), as_json)


@app.command()
def recommend(
    session: Annotated[
        str | None, typer.Option("--session", metavar="IDS", help="Item ids of the session, oldest first: 1,2,3.")
    ] = None,
    items: Annotated[
        list[str] | None,
        typer.Option("--item", metavar="ID", help="One item id, also with commas or blanks. Repeatable, oldest first."),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Number of items.")] = 20,
    model: Annotated[str | None, typer.Option("--model", help="A version other than the champion.")] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Recommend the next items of a session."""
    from sbr_tasks.registry.recommend import recommend as run

    store, _ = _open(overrides)
    if (session is None) == (not items):
        raise typer.BadParameter("Expected the session as --session 1,2,3 or as --item 1 --item 2.")
    found = run(store, items or [part.strip() for part in str(session).split(",")], k=k, name=model)
    if as_json:
        _print(found.as_dict(), as_json)
        return
    for item in dict.fromkeys(found.unknown):
        _echo(f"Item {item} is unknown to {found.model_version} and was ignored.")
    if found.is_fallback:
        _echo("No item of the session is known, so these are the most clicked items, by number of clicks.")
    rows = list(zip(range(1, k + 1), map(str, found.items), found.scores, strict=False))
    headers = ["rank", "item", "clicks" if found.is_fallback else "score"]
    floatfmt = ",.0f" if found.is_fallback else ".4f"
    _echo(tabulate(rows, headers=headers, floatfmt=floatfmt, disable_numparse=[1]))


@app.command()
def report(as_of: AsOf, overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Write the page of a day's run again, keep it with the version in MLflow, and print its path."""
    from sbr_tasks.report.page import write_report as run

    store, settings = _open(overrides)
    found = run(store, settings, parse_day(as_of)).as_dict(store)
    if as_json:
        _print(found, as_json)
    else:
        _echo(found["report"])


@app.command()
def profile(
    as_of: AsOf,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FOLDER", help="Also write numbers and plots to this folder.")
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Profile the clicks of a day's window before cleansing: volume, session lengths, popularity, new items, hours."""
    from sbr_tasks.report.profile.build import profile_table, profile_window, write_files

    store, settings = _open(overrides)
    found = profile_window(store, settings, parse_day(as_of))
    files = write_files(store, found, out) if out else []
    if as_json:
        where = {"profile": store.where(found.key), "files": [str(file) for file in files]}
        _print({**where, "missing_days": [str(day) for day in found.missing_days], **found.numbers.as_dict()}, as_json)
        return
    _echo(profile_table(found))
    _echo(f"\nNumbers and plots: {out or store.where(found.key.rsplit('/', 1)[0])}")


@app.command()
def repair(overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Rebuild MLflow's versions, decisions and champion alias, and the serving copy, from the store.

    Exit code 1 if files of a version are lost or damaged; everything else is rebuilt.
    """
    from sbr_tasks.registry.promotion import repair as run

    found = run(*_open(overrides))
    faults = found["faults"] if as_json else found.pop("faults")
    _print(found, as_json)
    for fault in faults:
        _echo(f"sbr: {fault}", err=True)
    if faults:
        raise typer.Exit(1)


@stored.command("check")
def check_store(overrides: Overrides = None, as_json: AsJson = False) -> None:
    """Verify every file that a record names, and report what is missing, damaged or orphaned.

    Exit code 1 if anything is missing or damaged. Orphans are leftovers of killed runs; `sbr store gc` removes them.
    """
    from sbr_tasks.upkeep.check import check_store as run
    from sbr_tasks.upkeep.check import check_table

    store, _ = _open(overrides)
    checked = run(store)
    if as_json:
        _print(checked.as_dict(), as_json)
    else:
        _echo(check_table(checked))
    if checked.faults:
        raise typer.Exit(1)


@stored.command("copy")
def copy_store(
    places: Annotated[list[str], typer.Argument(metavar="[FROM] TO", help="Folders or URLs; without FROM: the store.")],
    to_options: Annotated[
        list[str] | None,
        typer.Option(
            "--to-option", metavar="KEY=VALUE", help="Option of TO's object store. Default: store_options. Repeatable."
        ),
    ] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Copy a store with its history to another folder or bucket, or bring such a copy up to date.

    Each file is verified on the way, and the whole copy at the end. An interrupted copy can't be used; run the same command
    again to complete it.
    """
    from sbr_tasks.upkeep.copy import copied_table
    from sbr_tasks.upkeep.copy import copy_store as run

    if len(places) > 2:
        raise typer.BadParameter(f"Expected [FROM] TO, found {len(places)} places.")
    for option in to_options or ():
        if "=" not in option:
            raise typer.BadParameter("Expected --to-option KEY=VALUE, such as region=eu-west-1; found one without '='.")
    settings = load_settings(overrides or ())
    source, target = (absolute_place(place, Path.cwd()) for place in [settings.store, *places][-2:])
    options = dict(option.split("=", 1) for option in to_options) if to_options else settings.store_options
    if not is_url(source) and not Path(source).is_dir():
        raise StoreError(f"Expected a store in {source}, found no such folder. Nothing was copied.")
    copied = run(Store(source, settings.store_options), Store(target, options))
    if as_json:
        _print(copied.as_dict(), as_json)
    else:
        _echo(copied_table(copied))


@stored.command("gc")
def clear_store(
    keep_days: Annotated[
        int | None, typer.Option("--keep-days", min=0, help="Days to keep before the newest decided one (upkeep.keep_days).")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be removed, and remove nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Remove even more than half of the accepted days.")] = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Remove revisions, windows, versions and leftovers that no retained run and no log entry needs."""
    from sbr_tasks.upkeep.clear import clear_store as run
    from sbr_tasks.upkeep.clear import cleared_table

    store, settings = _open(overrides)
    days = settings.upkeep.keep_days if keep_days is None else keep_days
    cleared = run(store, settings, keep_days=days, now=datetime.now(UTC), dry_run=dry_run, is_confirmed=yes)
    if as_json:
        _print(cleared.as_dict(), as_json)
    else:
        _echo(cleared_table(cleared))


@stored.command("forget")
def forget_day(
    day: Annotated[str, typer.Argument(metavar="DAY", help="The day, as YYYY-MM-DD.")],
    reason: Annotated[str, typer.Option("--reason", help="Why (kept in the record).")],
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Remove a day's clicks, damaged ones too; the next run that needs the day ingests it again."""
    from sbr_tasks.upkeep.clear import forget_day as run

    store, _ = _open(overrides)
    keys = run(store, parse_day(day), why=reason, now=datetime.now(UTC))
    _print({"day": day, "removed": list(keys)}, as_json)


@app.command()
def preview(
    source: From = None,
    format_name: Format = None,
    days: Annotated[int, typer.Option("--days", min=1, help="Number of days to check, counted back from the last one.")] = 3,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Check that a source can be read, and say how large a window is and about how long a day's run takes."""
    from sbr_tasks.clicks.catalog import ClickCatalog
    from sbr_tasks.clicks.preview import clicks_by_day, require_windows
    from sbr_tasks.clicks.rejects import Rejects
    from sbr_tasks.report.estimate import seconds_per_day

    store, settings = _open(overrides, source, format_name)
    rejects = Rejects(settings.ingest.max_rejected)
    counts = clicks_by_day(settings, rejects)
    last: list[date] = list(counts)[-days:]
    largest = require_windows(counts, ClickCatalog(store).days(), last, settings)
    found = {
        "lines": rejects.lines,
        "clicks": sum(counts.values()),
        "rejected": rejects.rejected,
        "filtered": rejects.filtered,
        "first_day": str(next(iter(counts))),
        "last_days": [str(day) for day in last],
        "window_clicks": largest,
        "seconds_per_day": round(seconds_per_day(largest, settings)),
    }
    _print(found, as_json)


@app.command()
def evaluate(
    train: Annotated[str, typer.Option("--train", metavar="FILE", help="Clicks to train on: a file, folder or glob.")],
    test: Annotated[list[str], typer.Option("--test", metavar="FILE", help="Clicks to test on. Repeatable: together one set.")],
    format_name: Format = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Random seed (setting training.seed).")] = None,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Compare GRU4Rec and the baselines under the protocol of papers: train on one file, test on another."""
    from sbr_tasks.experiments.offline import compare_offline, comparison_table

    seeded = [*(overrides or ()), *([f"training.seed={seed}"] if seed is not None else [])]
    found = compare_offline(train, test, load_settings(_with_source(seeded, None, format_name)))
    if as_json:
        _print(found.as_dict(), as_json)
    else:
        _echo(comparison_table(found))


@app.command()
def tune(
    as_of: AsOf,
    minutes: Annotated[float, typer.Option("--minutes", min=0, help="Time limit in minutes.")] = 30,
    trials: Annotated[int | None, typer.Option("--trials", min=1, help="Maximum number of trials. Default: no limit.")] = None,
    max_units: Annotated[int, typer.Option("--max-units", min=64, max=4096, help="Maximum units of the layer.")] = 512,
    judging_days: Annotated[
        int, typer.Option("--judging-days", min=1, help="Days before DAY that judge the settings; they aren't trained on.")
    ] = 7,
    out: Annotated[Path, typer.Option("--out", help="Settings file to write; FILE.trials keeps all trials.")] = Path(
        "sbr.tuned.toml"
    ),
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Search for better hyperparameters on a day's window. The same command again continues the search.

    Settings are judged on days before the test day, never on the test day itself. The file that is written holds the present
    settings with the best hyperparameters. To use it in every run, set SBR_SETTINGS=FILE or rename it to sbr.toml.
    """
    from sbr_tasks.experiments.search import changes, require_beside, search, search_table, write_settings
    from sbr_tasks.settings import settings_file
    from sbr_tasks.window.build import build_window, split_for_judging

    store, settings = _open(overrides)
    base = settings_file()
    require_beside(out, base)
    window = build_window(store, settings, parse_day(as_of))
    found = search(
        split_for_judging(store, settings, window, judging_days),
        window,
        settings,
        journal=out.with_name(f"{out.name}.trials"),
        minutes=minutes,
        n_trials=trials,
        max_units=max_units,
        judging_days=judging_days,
    )
    best, start = found.best, found.start
    measured = f"Recall@20 {best.recall_at_20:.4f}, MRR@20 {best.mrr_at_20:.4f} on the {judging_days} days before {as_of}"
    write_settings(out, best.model, base=base, comment=f"sbr tune, {found.n_trials} trials: {measured}")
    if as_json:
        _print(
            {
                "file": str(out),
                "trials": found.n_trials,
                "pruned": found.n_pruned,
                "present": {"recall_at_20": start.recall_at_20, "mrr_at_20": start.mrr_at_20},
                "best": {"recall_at_20": best.recall_at_20, "mrr_at_20": best.mrr_at_20},
                "changes": changes(start.model, best.model),
            },
            as_json,
        )
        return
    _echo(search_table(found))
    _echo(f"Trials: {found.n_trials}, {found.n_pruned} of them stopped early. Written to {out}.")
    if best.is_start:
        _echo(f"None beat the present settings, so {out} repeats them.")


@app.command("settings")
def show_settings(overrides: Overrides = None) -> None:
    """Print the settings in force, as JSON, with secrets masked."""
    _echo(json.dumps(masked(load_settings(overrides or ()).model_dump(mode="json")), ensure_ascii=False, indent=2))


def _names_source(overrides: list[str] | None, source: str | None) -> bool:
    """Whether the source was named for this command alone, by a person who knows that the file is complete."""
    return source is not None or any(one.partition("=")[0].strip() == "source.path" for one in overrides or ())


def _with_source(overrides: list[str] | None, source: str | None, format_name: str | None) -> list[str]:
    given = list(overrides or ())
    if source:
        place = source if "://" in source else str(Path(source).expanduser().absolute())
        given.append(f"source.path={json.dumps(place)}")
    if format_name:
        given.append(f"source.format={json.dumps(format_name)}")
    return given


def _open(overrides: list[str] | None, source: str | None = None, format_name: str | None = None) -> tuple[Store, Settings]:
    settings = load_settings(_with_source(overrides, source, format_name))
    return Store.open(settings), settings


def _echo(text: object, *, err: bool = False) -> None:
    """Prints text in which ids and reasons can't control the terminal."""
    typer.echo(printable(str(text)), err=err)


def _print(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        _echo(json.dumps(found, ensure_ascii=False, allow_nan=False))
        return
    for name, value in found.items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else value
        _echo(f"{name}: {text}")


if __name__ == "__main__":
    main()
