"""Pages of the store behind Airflow's login: the report of a run and the Data Docs of a day, which task pages link to.

Airflow imports this file in all its processes, but only the api-server answers requests: the app is imported when the first
one comes.
"""

from __future__ import annotations

from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin


async def pages_app(scope: Any, receive: Any, send: Any) -> None:
    """Passes a request on."""
    from sbr_pages_app import app

    await app(scope, receive, send)


class SbrPagesPlugin(AirflowPlugin):
    """Adds the app; `sbr_tasks/airflow/links.py` has the links."""

    name = "sbr_pages"
    fastapi_apps: ClassVar[list[Any]] = [{"app": pages_app, "url_prefix": "/sbr-pages", "name": "Pages of the store"}]
