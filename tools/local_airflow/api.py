"""Airflow's public REST API (v2), with a login."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

Json = dict[str, Any]

# A proxy of the environment can't reach this machine's own ports.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_NOT_NOW = {502, 503, 504}
RETRY_S = 1.0


class ApiError(Exception):
    """Airflow refused a request (`status` and its reason), or didn't respond (`status` 0)."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"{status} {reason}" if status else reason)
        self.status = status


class Api:
    """A client that logs in as `admin` when it first has to. A path that begins with / isn't below /api/v2."""

    def __init__(self, url: str, passwords: Path, user: str = "admin") -> None:
        self._url, self._passwords, self._user = url, passwords, user
        self._token: str | None = None

    def get(self, path: str, *, login: bool = True, attempts: int = 5, **query: Any) -> Json:
        """The response to GET /api/v2/`path`; retried a few times while the server is too busy or fails."""
        if query:
            path += "?" + urllib.parse.urlencode(query, doseq=True)
        return self._call("GET", path, None, login=login, attempts=attempts)

    def post(self, path: str, body: Json) -> Json:
        """The response to POST /api/v2/`path`. Never retried: the server may have finished part of it."""
        return self._call("POST", path, body, attempts=1)

    def patch(self, path: str, body: Json) -> Json:
        """The response to PATCH /api/v2/`path`."""
        return self._call("PATCH", path, body)

    def put(self, path: str) -> Json:
        """The response to PUT /api/v2/`path`."""
        return self._call("PUT", path, None)

    def password(self) -> str:
        """The password that Airflow made for the user."""
        return str(json.loads(self._passwords.read_text(encoding="utf-8"))[self._user])

    def _call(self, method: str, path: str, body: Json | None, *, login: bool = True, attempts: int = 5) -> Json:
        for attempts_left in reversed(range(attempts)):
            try:
                if login and self._token is None:
                    credentials = {"username": self._user, "password": self.password()}
                    self._token = self._send("POST", "/auth/token", credentials)["access_token"]
                return self._send(method, path if path.startswith("/") else f"/api/v2/{path}", body)
            except ApiError as error:
                if error.status == 401:
                    self._token = None  # expired; the next attempt logs in again
                elif error.status not in _NOT_NOW and not (error.status in (0, 500) and method == "GET"):
                    raise
                if not attempts_left:
                    raise
            time.sleep(RETRY_S)
        raise AssertionError("unreachable")

    def _send(self, method: str, path: str, body: Json | None) -> Json:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, headers, method=method)  # noqa: S310 - our own server
        try:
            with _OPENER.open(request, timeout=60) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            raise ApiError(error.code, _reason(error.read())) from error
        except OSError as error:
            raise ApiError(0, f"Airflow isn't responding on {self._url}: {error}") from error
        return json.loads(text) if text else {}


def _reason(text: bytes) -> str:
    try:
        detail = json.loads(text)["detail"]
    except (ValueError, KeyError, TypeError):
        return text.decode(errors="replace")[:500]
    return detail if isinstance(detail, str) else json.dumps(detail)


def midnight(day: date) -> str:
    """The start of a UTC day, as the API reads it."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC).isoformat()
