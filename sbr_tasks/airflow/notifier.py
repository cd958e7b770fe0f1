"""Sending an alert with the Airflow notifier that the settings name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from sbr_tasks.errors import SettingsError
from sbr_tasks.settings import SMTP_NOTIFIER, AlertSettings

if TYPE_CHECKING:
    from sbr_tasks.report.alerts import Alert

MAIL = {"subject": "{{ alert.subject }}", "html_content": "{{ alert.html }}"}


def send(alert: Alert, settings: AlertSettings, context: Mapping[str, Any]) -> None:
    """Passes an alert to the notifier, whose templated arguments can use it as `alert`."""
    defaults = MAIL | {"to": list(settings.recipients)} if settings.notifier == SMTP_NOTIFIER else {}
    notifier = notifier_class(settings)(**(defaults | settings.arguments))
    # Without the DAG, templates are rendered in a sandbox.
    notifier({name: value for name, value in context.items() if name != "dag"} | {"alert": alert})


def notifier_class(settings: AlertSettings) -> Callable[..., Any]:
    """The class that `alerts.notifier` names.

    Raises:
        SettingsError: There is no such class.
    """
    try:
        notifier = resolve_name(settings.notifier)
    except (ImportError, AttributeError, ValueError) as error:
        raise SettingsError(
            f"Setting 'alerts.notifier' is {settings.notifier!r}: expected the dotted path of a notifier class, such as "
            f"{SMTP_NOTIFIER}; {error}. Correct the path, or install the provider package."
        ) from error
    if not isinstance(notifier, type):
        raise SettingsError(f"Setting 'alerts.notifier' is {settings.notifier!r}: expected a class, such as {SMTP_NOTIFIER}.")
    return notifier
