"""Experiments with models, beside the daily runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sbr_tasks.cli.options import AsJson, Format, RunDay, Set, open_workspace
from sbr_tasks.cli.output import show
from sbr_tasks.experiments.offline import comparison_table


def evaluate(
    train: Annotated[str, typer.Option("--train", metavar="FILE", help="Clicks to train on: a file, folder or glob.")],
    test: Annotated[
        list[str], typer.Option("--test", metavar="FILE", help="Clicks to test on. Repeatable; all files form one test set.")
    ],
    format_name: Format = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Random seed (setting training.seed).")] = None,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Compare GRU4Rec with baselines as papers do: train on one file, test on another."""
    comparison = open_workspace(overrides, format_name=format_name, seed=seed).evaluate(train, test)
    show(comparison.as_dict(), comparison_table(comparison), as_json=as_json)


def tune(
    day: RunDay,
    minutes: Annotated[float, typer.Option("--minutes", min=0, help="Time limit in minutes.")] = 30,
    trials: Annotated[int | None, typer.Option("--trials", min=1, help="Maximum number of trials. Default: no limit.")] = None,
    max_units: Annotated[int, typer.Option("--max-units", min=64, max=4096, help="Maximum units of the layer.")] = 512,
    judging_days: Annotated[
        int, typer.Option("--judging-days", min=1, help="Number of days before DAY to score trials on; they aren't trained on.")
    ] = 7,
    out: Annotated[Path, typer.Option("--out", help="Settings file to write; FILE.trials keeps all trials.")] = Path(
        "sbr.tuned.toml"
    ),
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Search for better hyperparameters on a day's window. Run the same command again to continue the search.

    Trials are scored on days before the test day, never on the test day itself. The file that is written holds the current
    settings with the best hyperparameters. To use it in every run, set SBR_SETTINGS=FILE or rename it to sbr.toml.
    """
    tuned = open_workspace(overrides).tune(
        day, out, minutes=minutes, trials=trials, max_units=max_units, judging_days=judging_days
    )
    show(tuned, as_json=as_json)
