"""What the client of Airflow's REST API asks for again."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tools.local_airflow import api as client
from tools.local_airflow.api import Api, ApiError

Serve = Callable[..., AbstractContextManager[tuple[Api, list[str]]]]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    """Starts a server that gives some statuses in turn; yields a client and the methods that it used."""
    monkeypatch.setattr(client, "RETRY_S", 0.0)

    @contextmanager
    def started(*statuses: int) -> Iterator[tuple[Api, list[str]]]:
        methods = list[str]()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                methods.append(self.command)
                self.send_response(statuses[len(methods) - 1])
                self.end_headers()
                self.wfile.write(b"{}")

            do_POST = do_GET  # noqa: N815 - the name that http.server calls

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        api = Api(f"http://127.0.0.1:{server.server_port}", Path("no passwords"))
        api._token = "token"  # noqa: S105 - nobody checks it
        try:
            yield api, methods
        finally:
            server.shutdown()
            server.server_close()

    return started


def test_reading_is_repeated_while_the_server_fails(serve: Serve) -> None:
    with serve(500, 503, 200) as (api, methods):
        assert api.get("assets/events") == {}
    assert methods == ["GET"] * 3


@pytest.mark.parametrize("statuses", [(404,), (500, 500)])
def test_reading_ends_with_a_refusal_or_the_last_failure(statuses: tuple[int, ...], serve: Serve) -> None:
    with serve(*statuses) as (api, methods), pytest.raises(ApiError, match=str(statuses[0])):
        api.get("assets/events", attempts=2)
    assert len(methods) == len(statuses)


def test_writing_is_never_repeated(serve: Serve) -> None:
    with serve(500) as (api, methods), pytest.raises(ApiError, match="500"):
        api.post("backfills", {})
    assert methods == ["POST"]
