"""What the web apps of the plugins share: who may read, which store they read, and how a page is kept apart from the login."""

from __future__ import annotations

from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import Depends, FastAPI
from fastapi.responses import HTMLResponse, Response

from sbr_tasks.report.models.overview import shared_store
from sbr_tasks.settings import load_settings
from sbr_tasks.store import Store

# What a run or Great Expectations wrote may show and script itself, but apart from Airflow's login, and load nothing.
WRITTEN = "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:"


def new_app() -> FastAPI:
    """An app whose every route needs the right to read the DAG `daily_retrain`, whose results it shows."""
    may_read = requires_access_dag(method="GET", param_dag_id="daily_retrain")
    return FastAPI(dependencies=[Depends(may_read)], docs_url=None, redoc_url=None, openapi_url=None)


def store_of_now() -> Store:
    """The store of the settings as they are at this request."""
    return shared_store(load_settings())


def html(content: bytes, policy: str = WRITTEN) -> Response:
    """A page under a content security policy; it is never kept by the browser."""
    return HTMLResponse(content, headers={"Content-Security-Policy": policy, "Cache-Control": "no-store"})
