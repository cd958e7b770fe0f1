"""The Models page: an entry of Airflow's navigation, over a web app that asks for Airflow's login and permissions.

Airflow imports this file in all its processes, but only the api-server answers requests: the app is imported when the first
one comes.
"""

from __future__ import annotations

from typing import Any, ClassVar
from urllib.parse import urlsplit

from airflow.configuration import conf
from airflow.plugins_manager import AirflowPlugin

PREFIX = "/sbr-models"
AIRFLOW = urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
"""Airflow's path, where it isn't at the root of its host."""


async def web_app(scope: Any, receive: Any, send: Any) -> None:
    """Passes a request on."""
    from sbr_app import app

    await app(scope, receive, send)


class SbrPlugin(AirflowPlugin):
    """Adds the app and its entry in the navigation."""

    name = "sbr"
    fastapi_apps: ClassVar[list[Any]] = [{"app": web_app, "url_prefix": PREFIX, "name": "Models"}]
    external_views: ClassVar[list[Any]] = [
        {
            "name": "Models",
            "href": f"{AIRFLOW}{PREFIX}/",
            "destination": "nav",
            "nav_top_level": True,
            "url_route": "models",
            "icon": f"{AIRFLOW}{PREFIX}/static/icon.svg",
        }
    ]
