"""The web app that serves pages of the store. Every route needs the right to read the DAG `daily_retrain`."""

from __future__ import annotations

from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import Depends, FastAPI
from fastapi.responses import HTMLResponse, PlainTextResponse, Response

from sbr_tasks.errors import DamagedError, DayError, RegistryError, SbrError
from sbr_tasks.report.stored import data_docs_of, report_of
from sbr_tasks.settings import load_settings
from sbr_tasks.store import Store

# What a run or Great Expectations wrote may show and script itself, but apart from Airflow's login, and load nothing.
POLICY = "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"
MISSING = (DamagedError, DayError, RegistryError)

may_read = requires_access_dag(method="GET", param_dag_id="daily_retrain")
app = FastAPI(dependencies=[Depends(may_read)], docs_url=None, redoc_url=None, openapi_url=None)


@app.exception_handler(SbrError)
def say_why(_request: object, error: SbrError) -> Response:
    """The sentence in place of the page."""
    return PlainTextResponse(str(error), status_code=404 if isinstance(error, MISSING) else 500)


@app.get("/reports/{version}")
def show_report(version: str) -> Response:
    """The page of the last decision on a version, or of its run if none was made."""
    return _page(report_of(Store.open(load_settings()), version))


@app.get("/data-docs/{day}")
def show_data_docs(day: str) -> Response:
    """What the last validation of a day found, whether it was accepted or not."""
    return _page(data_docs_of(Store.open(load_settings()), day))


def _page(content: bytes) -> Response:
    return HTMLResponse(content, headers={"Content-Security-Policy": POLICY, "Cache-Control": "no-store"})
