"""Buttons on the pages of tasks that open what the run wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import attrs
from airflow.sdk import BaseOperatorLink
from airflow.sdk.configuration import conf

PAGES = "/sbr-models"
"""Where the plugin serves pages."""


@attrs.define
class XComLink(BaseOperatorLink):
    """A button on a task's page; its address is built when the task ends, whether it succeeded or not.

    Attributes:
        title: What the button says.
        address: The address, with names of what tasks returned in braces.
        needs: For each name the task that returned it, and under which key; None: all that it returned.
    """

    title: str
    address: str
    needs: Mapping[str, tuple[str, str | None]]

    @property
    def name(self) -> str:
        """What the button says."""
        return self.title

    @property
    def xcom_key(self) -> str:
        """Where Airflow keeps the address."""
        return f"_link_{self.title.replace(' ', '_').lower()}"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The address; empty, which Airflow shows as no button, while a value that it needs is missing."""
        del operator
        values = {}
        for name, (task_id, key) in self.needs.items():
            result = ti_key.xcom_pull(task_ids=task_id)  # in a task, Airflow passes the running instance
            values[name] = result.get(key) if isinstance(result, dict) and key else result
        if not all(values.values()):
            return ""
        # Where Airflow isn't at the root of its host.
        base = urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
        return f"{base if self.address.startswith('/') else ''}{self.address.format(**values)}"


_day = {"day": ("resolve_day", None)}
DATA_DOCS = XComLink("Data Docs of the day", f"{PAGES}/data-docs/{{day}}", _day)
REPORT = XComLink(
    "Report of the run",
    f"/plugin/models{PAGES}/version?name={{version}}",
    {"version": ("train_gru4rec", "model_version")},
)
MLFLOW = XComLink("MLflow version", "{url}", {"url": ("train_gru4rec", "mlflow_url")})


def with_links(task: Any, *links: XComLink) -> Any:
    """The task, with buttons on its page."""
    task.operator.operator_extra_links = links
    return task
