"""How `sbr` runs on the clicks of a demo shop, apart from the settings of the shell."""

from __future__ import annotations

import json
import os
from pathlib import Path


def demo_settings(clicks: Path, store: Path | str, *, wait_minutes: int = 0) -> str:
    """Settings under which a day of `demo_clicks` is trained in seconds, and well enough for the gate."""
    place, times = json.dumps(str(clicks)), f"wait_minutes = {wait_minutes}, check_every_minutes = 0.25, settle_seconds = 0"
    return f"""
        store = {json.dumps(str(store))}
        source = {{ path = {place}, {times} }}
        window = {{ days = 5, least_click = 2 }}
        model = {{ n_epochs = 10, layers = [32], batch_size = 32 }}
        """


def environment() -> dict[str, str]:
    """The environment of a command that must find its settings in the shop's folder."""
    return {name: value for name, value in os.environ.items() if not name.startswith("SBR_")} | {"PYTHONUNBUFFERED": "1"}
