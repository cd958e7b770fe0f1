"""`sbr models`, and what a model recommends."""

from __future__ import annotations

from typing import Annotated

import typer
from tabulate import tabulate

from sbr_tasks.cli.options import AsJson, Set, open_workspace
from sbr_tasks.cli.output import show, show_tree
from sbr_tasks.registry.listing import LogRow, ModelRow
from sbr_tasks.registry.recommend import Recommendation

app = typer.Typer(help="List, show and compare model versions.")


@app.callback(invoke_without_command=True)
def list_models(context: typer.Context, overrides: Set = None, as_json: AsJson = False) -> None:
    """List the model versions: which one is champion, and which are stale (clicks of their days have changed since)."""
    if context.invoked_subcommand:
        return
    workspace = open_workspace(overrides)
    rows, pin = workspace.list_models(), workspace.show_pin()
    champion = next((row.version for row in rows if row.champion), None)
    nothing = "There are no models yet. Train one with `sbr retrain --day DAY`."
    show({"champion": champion, "pin": pin, "models": rows}, _table(rows, pin) if rows else nothing, as_json=as_json)


def _table(rows: list[ModelRow], pin: LogRow | None) -> str:
    cells = []
    for row in rows:
        marks = {name: name if getattr(row, name) else "" for name in ("champion", "retired", "lost")}
        if row.pinned:
            marks["champion"] = "champion, pinned"
        numbers = row.model_dump(mode="json", exclude={"pinned", *marks})
        cells.append({**numbers, **marks, "stale": row.stale_in_words})
    table = tabulate(cells, headers="keys", floatfmt=".4f", missingval="-")
    if not pin:
        return table
    why = pin.reasons[0].removesuffix(".")
    return f"{table}\n\n{pin.version} was pinned at {pin.at} by {pin.actor}: {why}. `sbr unpin` removes the pin."


@app.command("show")
def show_model(
    version: Annotated[str, typer.Argument(help="The version's name.")], overrides: Set = None, as_json: AsJson = False
) -> None:
    """Show a version: settings, learning curve, lineage, decisions."""
    show_tree(open_workspace(overrides).show_model(version), as_json=as_json)


@app.command("diff")
def diff_models(
    first: Annotated[str, typer.Argument(help="A version.")],
    second: Annotated[str, typer.Argument(help="Another version.")],
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Show what differs between two versions: settings, data, code and scores."""
    differences = open_workspace(overrides).diff_models(first, second)
    table = tabulate([[name, *pair] for name, pair in differences.items()], headers=["", first, second], missingval="-")
    show(differences, table, as_json=as_json)


def recommend(
    session: Annotated[
        str | None, typer.Option("--session", metavar="IDS", help="Item ids of the session, oldest first: 1,2,3.")
    ] = None,
    items: Annotated[
        list[str] | None,
        typer.Option(
            "--item",
            metavar="ID",
            help="An item id of the session, commas and spaces included. Repeatable, oldest first.",
        ),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Number of items.")] = 20,
    model: Annotated[str | None, typer.Option("--model", help="A version other than the champion.")] = None,
    overrides: Set = None,
    as_json: AsJson = False,
) -> None:
    """Recommend the next items of a session."""
    workspace = open_workspace(overrides)
    if (session is None) == (not items):
        raise typer.BadParameter("Expected the session as --session 1,2,3 or as --item 1 --item 2.")
    recommendation = workspace.recommend(items or [part.strip() for part in str(session).split(",")], k=k, model=model)
    show(recommendation, _in_words(recommendation), as_json=as_json)


def _in_words(recommendation: Recommendation) -> str:
    lines = [
        f"Item {item} is unknown to {recommendation.model_version} and was ignored."
        for item in dict.fromkeys(recommendation.unknown)
    ]
    if recommendation.is_fallback:
        lines.append("No item of the session is known, so these are the most clicked items, by number of clicks.")
    rows = [
        (rank, str(item), score)
        for rank, (item, score) in enumerate(zip(recommendation.items, recommendation.scores, strict=True), 1)
    ]
    headers = ["rank", "item", "clicks" if recommendation.is_fallback else "score"]
    floatfmt = ",.0f" if recommendation.is_fallback else ".4f"
    return "\n".join([*lines, tabulate(rows, headers=headers, floatfmt=floatfmt, disable_numparse=[1])])
