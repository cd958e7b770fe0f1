"""Pages as HTML: with what only a server can do where Airflow serves them, and without where they are files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from pydantic import BaseModel, Field

from sbr_tasks.days import day_in_words, describe_days
from sbr_tasks.errors import RegistryError, SettingsError
from sbr_tasks.evaluation.metrics import KNOWLEDGE, METRICS, RECALL_AMONG_KNOWN, metric_title
from sbr_tasks.plain_text import percent
from sbr_tasks.registry.exclusions import served_rule
from sbr_tasks.registry.gate import COMPARED, share_of_resamples
from sbr_tasks.registry.log import Entry, outcome_of
from sbr_tasks.registry.mlflow_projection import model_url
from sbr_tasks.report.choice import gru4rec_gain, own_item_rows, readout_in_words, share_rows, training_in_words
from sbr_tasks.report.figures import curve_figures, differences_figure, readout_figures, scores_figures
from sbr_tasks.report.overview import Overview
from sbr_tasks.report.plots import plots_of
from sbr_tasks.report.profile.build import cleansing_rows, key_numbers
from sbr_tasks.report.session import Column, side_by_side
from sbr_tasks.report.version import VersionPage
from sbr_tasks.report.words import OUTCOMES, Shown, count, headline, instant_in_words, score, scorer_title, signed
from sbr_tasks.settings import Settings
from sbr_tasks.store import Store
from sbr_tasks.window.record import PARTS

STATIC = Path(__file__).parent / "static"
"""The style sheet and the scripts of the pages; nothing in them comes from another host."""

_AIRFLOW_RUN = re.compile(r"(scheduled|manual|backfill|asset_triggered)__")
_DAGS = {"rollback": "rollback_champion", "pin": "pin_champion", "unpin": "pin_champion"}


@dataclass(frozen=True)
class MlflowLink:
    """What MLflow shows of a version, and where; `url` is None where MLflow is no server."""

    text: str
    url: str | None


class Query(BaseModel):
    """What the address of a page asks for.

    Attributes:
        items: Item ids of a session to recommend for; empty: none.
        version: The version beside the champion.
        k: Items that each recommends.
        outcome: The outcome of the decisions to list; empty: any.
        find: A part of the day or version of the decisions to list.
        rows: How many of them to show.
    """

    items: str = ""
    version: str = ""
    k: int = Field(10, ge=1, le=100)
    outcome: str = ""
    find: str = ""
    rows: int = Field(10, ge=1)


@dataclass(frozen=True)
class Live:
    """What a page has where Airflow serves it.

    Attributes:
        airflow: The path of Airflow on its host, without a slash at the end.
        may_roll_back: Whether the reader may trigger the DAG `rollback_champion`.
        may_pin: Whether the reader may trigger the DAG `pin_champion`.
        query: What the address asks for.
        columns: What versions recommend for the session in it.
        fault: Why they don't.
        root: What leads from the page's address to the Models page.
    """

    airflow: str = ""
    may_roll_back: bool = False
    may_pin: bool = False
    query: Query = field(default_factory=Query)
    columns: Sequence[Column] = ()
    fault: str = ""
    root: str = ""


def version_html(page: VersionPage, settings: Settings, *, mlflow: MlflowLink | None = None, live: Live | None = None) -> str:
    """The page of a version.

    Args:
        page: What it shows.
        settings: Name MLflow and the time zone.
        mlflow: Where MLflow shows the version; None where that isn't known.
        live: What a server adds; None: a file that needs nothing else.
    """
    decision, version, profile = page.decision, page.version, page.profile
    url = model_url(settings)
    if mlflow is None and url:
        mlflow = MlflowLink("All versions in MLflow", url)
    return _render(
        "version.html",
        live,
        page=page,
        mlflow=mlflow,
        timezone=settings.timezone,
        scores=scores_figures(decision) if decision else [],
        differences=differences_figure(decision) if decision else [],
        epochs=curve_figures(version.curve, version.choice.n_epochs) if version else [],
        key_numbers=key_numbers(profile.numbers) if profile else {},
        cleansing_rows=cleansing_rows(profile.numbers) if profile else [],
        plots=plots_of(profile.numbers, timezone=profile.inputs.timezone).values() if profile else [],
    )


def overview_html(page: Overview, live: Live) -> str:
    """The Models page."""
    return _render("overview.html", live, page=page, rows=page.rows(live.query.outcome, live.query.find))


def stale_html(stale: str | None) -> str:
    """A note that clicks of a version's window changed; empty where none did."""
    return _render("stale.html", Live(), stale=stale)


def error_html(sentence: str, root: str = "") -> str:
    """The page in place of one that can't be shown; `root` leads from its address to the Models page."""
    return _render("error.html", Live(root=root), sentence=sentence)


def with_session(store: Store, settings: Settings, live: Live, other: str) -> Live:
    """What champion and another version recommend for the session that the address names, if it names one."""
    if not live.query.items:
        return live
    try:
        columns = side_by_side(store, live.query.items, other, served_rule(settings), k=live.query.k)
        return replace(live, columns=columns)
    except (RegistryError, SettingsError) as error:
        return replace(live, fault=str(error))


def shown(entry: Entry) -> Shown:
    """How people see the outcome of a log entry."""
    return OUTCOMES[outcome_of(entry)]


def dag_of(entry: Entry) -> str | None:
    """The DAG whose run made a log entry; None where it was no run of Airflow."""
    return _DAGS.get(outcome_of(entry), "daily_retrain") if _AIRFLOW_RUN.match(entry.actor) else None


def _render(template: str, live: Live | None, **values: object) -> str:
    return _environment().get_template(template).render(live=live, **values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("sbr_tasks.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": count,
        "score": score,
        "signed": signed,
        "percent": percent,
        "day": day_in_words,
        "days": describe_days,
        "instant": instant_in_words,
        "title": metric_title,
        "scorer": scorer_title,
        "gru4rec_gain": gru4rec_gain,
        "training": training_in_words,
        "readout_figures": readout_figures,
        "readout": readout_in_words,
        "own_item_rows": own_item_rows,
        "share_rows": share_rows,
        "resamples": share_of_resamples,
        "headline": headline,
        "shown": shown,
        "dag": dag_of,
    }
    environment.globals |= {
        "css": Markup((STATIC / "page.css").read_text(encoding="utf-8")),  # noqa: S704
        "outcome_labels": {str(outcome): shown.label for outcome, shown in OUTCOMES.items()},
        "compared": COMPARED,
        "metrics": METRICS,
        "knowledge": KNOWLEDGE,
        "share_metrics": [metric for metric in KNOWLEDGE if metric != RECALL_AMONG_KNOWN],
        "parts": PARTS,
    }
    return environment
