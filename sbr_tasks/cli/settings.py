"""`sbr settings`."""

from __future__ import annotations

from sbr_tasks.cli.options import Set, open_workspace
from sbr_tasks.cli.output import show_tree
from sbr_tasks.plain_text import masked


def show_settings(overrides: Set = None) -> None:
    """Print the current settings as JSON, with secrets masked."""
    show_tree(masked(open_workspace(overrides).settings.model_dump(mode="json")), as_json=False)
