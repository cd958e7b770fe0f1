"""The class that sends alerts, by the name that the settings give it."""

from __future__ import annotations

from collections.abc import Callable
from pkgutil import resolve_name
from typing import Any

from sbr_tasks.errors import SettingsError
from sbr_tasks.settings import SMTP_NOTIFIER, AlertSettings


def notifier_of(alerts: AlertSettings) -> Callable[..., Any]:
    """The class that `alerts.notifier` names.

    Raises:
        SettingsError: There is no such class.
    """
    try:
        found = resolve_name(alerts.notifier)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(
            f"Setting 'alerts.notifier' is {alerts.notifier!r}: expected the dotted path of a notifier class, such as "
            f"{SMTP_NOTIFIER}; {error}. Correct the path, or install the provider package."
        ) from error
    if not isinstance(found, type):
        raise SettingsError(f"Setting 'alerts.notifier' is {alerts.notifier!r}: expected a class, such as {SMTP_NOTIFIER}.")
    return found
