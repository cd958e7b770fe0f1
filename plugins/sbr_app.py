"""The web app of the Models page and of versions' pages: routes, rights and headers. `sbr_tasks.report` renders the pages.

Every route needs the right to read the DAG `daily_retrain`, whose results it shows. Rolling back and pinning aren't routes: the
page triggers the DAGs `rollback_champion` and `pin_champion` through Airflow's own API, which checks the right to do so and
writes its audit log.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi import Query as QueryParameters
from fastapi.responses import HTMLResponse, Response
from sbr_plugin import AIRFLOW

from sbr_tasks.errors import DayError, RegistryError, SbrError
from sbr_tasks.report.overview import overview, shared_store, stale_in_words
from sbr_tasks.report.render import (
    STATIC,
    Live,
    Query,
    error_html,
    overview_html,
    stale_html,
    version_html,
    with_session,
)
from sbr_tasks.report.stored import data_docs_of
from sbr_tasks.report.version import version_page
from sbr_tasks.settings import load_settings
from sbr_tasks.store import Store

MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

# A page loads its own files only. Great Expectations' pages may run their own scripts, but isolated from Airflow's login.
OWN = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; frame-ancestors 'self'"
WRITTEN = "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"


def may_trigger(dag: str) -> Callable[[Request, GetUserDep], bool]:
    """Whether Airflow's API will let the user trigger a DAG, by the same check."""
    require = requires_access_dag(method="POST", access_entity=DagAccessEntity.RUN, param_dag_id=dag)

    def may(request: Request, user: GetUserDep) -> bool:
        try:
            require(request, user)
        except HTTPException:
            return False
        return True

    return may


def open_store() -> Store:
    """The store of the settings as they are at this request."""
    return shared_store(load_settings())


def live_of(
    query: Annotated[Query, QueryParameters()],
    may_roll_back: Annotated[bool, Depends(may_trigger("rollback_champion"))],
    may_pin: Annotated[bool, Depends(may_trigger("pin_champion"))],
) -> Live:
    """What the address asks for and the user may do."""
    return Live(AIRFLOW, may_roll_back, may_pin, query)


OpenStore = Annotated[Store, Depends(open_store)]
OfRequest = Annotated[Live, Depends(live_of)]

may_read = requires_access_dag(method="GET", param_dag_id="daily_retrain")
app = FastAPI(dependencies=[Depends(may_read)], docs_url=None, redoc_url=None, openapi_url=None)


def html(content: str | bytes, policy: str = OWN, status: int = 200) -> Response:
    """A page under a content security policy; browsers don't cache it."""
    return HTMLResponse(content, status, headers={"Content-Security-Policy": policy, "Cache-Control": "no-store"})


@app.exception_handler(SbrError)
def say_why(request: Request, error: SbrError) -> Response:
    """A page with the error's message."""
    is_below = request.url.path.rpartition("/")[0].endswith("/data-docs")
    status = 404 if isinstance(error, RegistryError | DayError) else 500
    return html(error_html(str(error), root="../" if is_below else ""), status=status)


@app.get("/")
def show_overview(store: OpenStore, live: OfRequest) -> Response:
    """The first view."""
    settings = load_settings()
    today = datetime.now(settings.zone).date()
    return html(overview_html(overview(store, today), with_session(store, settings, live, live.query.version)))


@app.get("/version")
def show_version(name: str, store: OpenStore, live: OfRequest) -> Response:
    """The page of a version, which is the report of its run."""
    settings = load_settings()
    return html(version_html(version_page(store, name), settings, live=with_session(store, settings, live, name)))


@app.get("/stale")
def show_stale(name: str, store: OpenStore) -> Response:
    """A note that clicks of a version's window came late, for its page."""
    return html(stale_html(stale_in_words(store, name)))


@app.get("/data-docs/{day}")
def show_data_docs(day: str, store: OpenStore, rev: str | None = None) -> Response:
    """What Great Expectations said of a day: of one revision of its clicks, or of the one that was validated last."""
    return html(data_docs_of(store, day, rev), WRITTEN)


@app.get("/static/{name}")
def show_static(name: str) -> Response:
    """A style sheet, script or icon."""
    file = next((file for file in STATIC.iterdir() if file.name == name and file.suffix in MEDIA_TYPES), None)
    if file is None:
        raise HTTPException(404, f"The Models page has no file {name!r}.")
    return Response(file.read_bytes(), media_type=MEDIA_TYPES[file.suffix], headers={"Cache-Control": "no-cache"})
