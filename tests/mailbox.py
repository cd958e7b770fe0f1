"""A mail server on this machine, and what it got."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from socket import socket
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import Envelope


class Mailbox:
    """Takes every mail."""

    def __init__(self) -> None:
        self.mails = list[EmailMessage]()
        self.connection = ""

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd calls it
        """Keeps a mail."""
        del server, session
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content, policy=policy.default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return "250 OK"

    def about(self, text: str, timeout_s: float = 0) -> list[EmailMessage]:
        """The mails whose subject holds a text, once there is one."""
        deadline = time.monotonic() + timeout_s
        while not (found := [mail for mail in self.mails if text in str(mail["subject"])]) and time.monotonic() < deadline:
            time.sleep(0.5)
        return found


def body_of(mail: EmailMessage) -> str:
    """The HTML of a mail."""
    part = mail.get_body(("html",))
    assert part is not None
    return str(part.get_content())


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    """Starts a server; `connection` is what Airflow's variable AIRFLOW_CONN_SMTP_DEFAULT must be to reach it."""
    box = Mailbox()
    with socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    controller = Controller(box, hostname="127.0.0.1", port=port, server_hostname="mail.shop.test")
    controller.start()
    try:
        box.connection = smtp_connection(port)
        yield box
    finally:
        controller.stop()


def smtp_connection(port: int) -> str:
    """An Airflow connection to a mail server on this machine."""
    extra = {"disable_ssl": True, "disable_tls": True, "from_email": "airflow@shop.test", "timeout": 5, "retry_limit": 1}
    return json.dumps({"conn_type": "smtp", "host": "127.0.0.1", "port": port, "extra": extra})
