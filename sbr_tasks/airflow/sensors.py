"""Waiting for clicks that haven't arrived."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from airflow.sdk import PokeReturnValue, get_current_context

from sbr_tasks.errors import NotArrivedError
from sbr_tasks.settings import SourceSettings

logger = logging.getLogger(__name__)


def polling(source: SourceSettings) -> dict[str, timedelta]:
    """How often a sensor checks for clicks, and its time limit."""
    return {
        "poke_interval": timedelta(minutes=source.check_every_minutes),
        "timeout": timedelta(minutes=source.wait_minutes),
    }


def wait_for_clicks(day: str, source: SourceSettings, ingest: Callable[[], Any]) -> PokeReturnValue:
    """What `ingest` returns; a scheduled run whose clicks haven't arrived waits for them, if the settings allow that."""
    try:
        return PokeReturnValue(True, ingest())
    except NotArrivedError as error:
        is_scheduled = get_current_context()["dag_run"].run_type == "scheduled"
        if not is_scheduled or not source.wait_minutes:
            raise
        logger.warning(
            "Waiting for the clicks of %s: %s Checking every %g minutes, for up to %d minutes after the first attempt.",
            day, error, source.check_every_minutes, source.wait_minutes,
        )  # fmt: skip
        return PokeReturnValue(False)
