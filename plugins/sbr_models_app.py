"""The web app of the Models page. What it shows is made by `sbr_tasks.report.models`; here are routes, rights and headers.

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
from fastapi import Depends, HTTPException, Query, Request
from fastapi.responses import JSONResponse, Response
from sbr_web import html, new_app, store_of_now

from sbr_tasks.errors import DayError, RegistryError, SbrError
from sbr_tasks.report import stored
from sbr_tasks.report.models import STATIC, overview, session, version
from sbr_tasks.settings import load_settings
from sbr_tasks.store import Store

MEDIA_TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}

# A page loads its own files only.
OWN = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; frame-ancestors 'self'"

app = new_app()


def may_trigger(dag: str) -> Callable[[Request, GetUserDep], bool]:
    """Whether Airflow's API will let the user trigger a DAG: it asks the same."""
    require = requires_access_dag(method="POST", access_entity=DagAccessEntity.RUN, param_dag_id=dag)

    def may(request: Request, user: GetUserDep) -> bool:
        try:
            require(request, user)
        except HTTPException:
            return False
        return True

    return may


OpenStore = Annotated[Store, Depends(store_of_now)]
MayRollBack = Annotated[bool, Depends(may_trigger("rollback_champion"))]
MayPin = Annotated[bool, Depends(may_trigger("pin_champion"))]


@app.exception_handler(SbrError)
def say_why(_request: Request, error: SbrError) -> Response:
    """The page shows the sentence in place of what was asked for."""
    status = 404 if isinstance(error, RegistryError | DayError) else 500
    return JSONResponse({"detail": str(error)}, status_code=status)


@app.get("/")
def show_overview() -> Response:
    """The first view."""
    return html((STATIC / "overview.html").read_bytes(), OWN)


@app.get("/version")
def show_version() -> Response:
    """The page of the version that the query names; its script asks for the content."""
    return html((STATIC / "version.html").read_bytes(), OWN)


@app.get("/static/{name}")
def show_static(name: str) -> Response:
    """A style sheet, script or icon."""
    file = next((file for file in STATIC.iterdir() if file.name == name and file.suffix in MEDIA_TYPES), None)
    if file is None:
        raise HTTPException(404, f"The Models page has no file {name!r}.")
    return Response(file.read_bytes(), media_type=MEDIA_TYPES[file.suffix], headers={"Cache-Control": "no-cache"})


@app.get("/api/overview")
def get_overview(store: OpenStore, may_roll_back: MayRollBack, may_pin: MayPin) -> Response:
    """The champion and all decisions."""
    today = datetime.now(load_settings().zone).date()
    return JSONResponse(overview.overview(store, today) | {"may_roll_back": may_roll_back, "may_pin": may_pin})


@app.get("/api/version")
def get_version(name: str, store: OpenStore, may_roll_back: MayRollBack) -> Response:
    """All that is known of a version."""
    return JSONResponse(version.version_page(store, load_settings(), name) | {"may_roll_back": may_roll_back})


@app.get("/api/stale")
def get_stale(name: str, store: OpenStore) -> Response:
    """Whether clicks of its window came late."""
    return JSONResponse(overview.stale_in_words(store, name))


@app.get("/api/recommend")
def get_recommendations(
    items: str, store: OpenStore, version: str = "", k: Annotated[int, Query(ge=1, le=100)] = 10
) -> Response:
    """What the champion and a version recommend for a session."""
    return JSONResponse({"columns": session.side_by_side(store, items, version, k=k)})


@app.get("/report")
def show_report(name: str, store: OpenStore) -> Response:
    """The page that a version's run wrote about it."""
    return html(stored.report_of(store, name))


@app.get("/data-docs")
def show_data_docs(name: str, day: str, store: OpenStore) -> Response:
    """What Great Expectations said of a day that a version was trained on."""
    return html(version.data_docs_page(store, name, day))


@app.get("/plot")
def show_plot(name: str, plot: str, store: OpenStore) -> Response:
    """A plot of the clicks that a version was trained on."""
    return Response(version.profile_plot(store, name, plot), media_type=MEDIA_TYPES[".svg"])
