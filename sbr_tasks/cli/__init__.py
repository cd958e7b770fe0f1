"""Run every step of the daily retraining without Airflow."""

from __future__ import annotations

import logging
import os
import sys

import typer

from sbr_tasks.cli import champion, clicks, days, experiments, models, quarantine, runs, settings, store
from sbr_tasks.cli.output import echo
from sbr_tasks.errors import INTERRUPTED, SbrError, system_error
from sbr_tasks.plain_text import PrintableFormatter

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)

app.add_typer(models.app, name="models")
app.add_typer(store.app, name="store")
app.add_typer(quarantine.app, name="quarantine")
app.add_typer(days.app, name="days")

app.command("demo-clicks")(clicks.demo_clicks)
app.command("ingest")(clicks.ingest)
app.command("validate")(clicks.validate)
app.command("window")(runs.window)
app.command("retrain")(runs.retrain)
app.command("runs")(runs.list_runs)
app.command("log")(champion.show_log)
app.command("rollback")(champion.roll_back)
app.command("pin")(champion.pin)
app.command("unpin")(champion.unpin)
app.command("recommend")(models.recommend)
app.command("report")(runs.report)
app.command("profile")(clicks.profile)
app.command("repair")(champion.repair)
app.command("preview")(clicks.preview)
app.command("evaluate")(experiments.evaluate)
app.command("tune")(experiments.tune)
app.command("settings")(settings.show_settings)


def main() -> None:
    """Runs the command line; an error that a person can correct is one sentence on standard error and exit code 1."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PrintableFormatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    try:
        app()
    except SbrError as error:
        echo(f"sbr: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        echo(
            f"sbr: The system refused ({system_error(error)}). Check that the place is right and may be read and written; "
            "`sbr settings` shows which store, scratch, mlflow and source are set; the environment variable TMPDIR names the "
            "system's folder for temporary files.",
            err=True,
        )
        sys.exit(1)
    except SystemExit as stop:
        if stop.code == INTERRUPTED:
            echo("sbr: interrupted. What was committed is kept; run the same command again to continue.", err=True)
        raise
