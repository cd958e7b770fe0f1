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
_BASE = urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")  # where Airflow isn't at the root of its host


async def models_app(scope: Any, receive: Any, send: Any) -> None:
    """Passes a request on."""
    from sbr_models_app import app

    await app(scope, receive, send)


class SbrModelsPlugin(AirflowPlugin):
    """Adds the app and its entry in the navigation."""

    name = "sbr_models"
    fastapi_apps: ClassVar[list[Any]] = [{"app": models_app, "url_prefix": PREFIX, "name": "Models"}]
    external_views: ClassVar[list[Any]] = [
        {
            "name": "Models",
            "href": f"{_BASE}{PREFIX}/",
            "destination": "nav",
            "nav_top_level": True,
            "url_route": "models",
            "icon": f"{_BASE}{PREFIX}/static/icon.svg",
        }
    ]
