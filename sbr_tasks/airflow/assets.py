"""The asset that a change of champion updates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.sdk import Asset, get_current_context
from airflow.sdk.exceptions import AirflowSkipException

CHAMPION = Asset("champion")
"""Updated when another version becomes champion; the event's extra holds `model_version`, `day` and `log_entry`."""


def announce(event: Mapping[str, Any] | None, otherwise: str = "") -> dict[str, Any]:
    """Adds facts about the new champion to the event of the current task, whose outlet is the asset.

    Args:
        event: The extra of the event; None if there is no new champion.
        otherwise: Why there is no new champion.

    Raises:
        AirflowSkipException: There is no new champion, so the asset must not be updated.
    """
    if event is None:
        raise AirflowSkipException(otherwise)
    get_current_context()["outlet_events"][CHAMPION].extra.update(event)
    return dict(event)
