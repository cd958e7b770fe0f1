"""The event that a new champion makes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from airflow.sdk import Context
from airflow.sdk.exceptions import AirflowSkipException
from airflow.sdk.execution_time.context import set_current_context

from sbr_tasks.airflow.assets import CHAMPION, announce


def test_event_of_the_asset_says_which_version_is_champion() -> None:
    extra: dict[str, Any] = {}
    event = {"model_version": "2020-06-30-1a2b3c4d", "day": "2020-06-30", "log_entry": 7}
    with set_current_context(cast("Context", {"outlet_events": {CHAMPION: SimpleNamespace(extra=extra)}})):
        assert announce(event) == event
    assert extra == event


def test_without_a_new_champion_the_task_is_skipped_and_says_why() -> None:
    with pytest.raises(AirflowSkipException, match="the champion stays"):
        announce(None, otherwise="keep_champion: the champion stays.")
