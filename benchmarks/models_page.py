"""Response time of the Models page, with a synthetic log of many versions.

    python -m benchmarks.models_page [--versions 1000] [--rounds 9] [--airflow]

The store is a local folder with a decision a day, as many versions, two commits of clicks a day and a rollback. In turns:

- `page`: one request for it as the plugin answers it, log and HTML, in a process that has answered before;
- `store read again`: the same in a process that caches nothing, so every log entry is read from the store each time;
- `first request`: the same in a new process, with the imports;
- `drawn`: from the start of the navigation until the page shows champion, charts and table, in headless Chromium (`CHROMIUM`,
  or `chromium` on the PATH; left out where there is none). A plain server answers, without Airflow and its login;
- `drawn by Airflow` (`--airflow`): the same from a real Airflow's api-server, its scheduler and dag-processor beside it, to a
  browser that has logged in; and `in Airflow's frame`, where Airflow's navigation opens it.

Milliseconds, medians over the rounds.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from threading import Thread
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tabulate import tabulate

from benchmarks.seeded_history import seed_history
from sbr_tasks.report.overview import overview, shared_store
from sbr_tasks.report.render import STATIC, Live, overview_html
from sbr_tasks.settings import Settings, load_settings
from sbr_tasks.store import Store
from tools.browser import VIEWPORT, chromium, find_chromium, log_in
from tools.local_airflow.server import LocalAirflow
from tools.local_airflow.supervisor import free_port, stop

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOT = Path(__file__).resolve().parents[1]
LAST = date(2026, 11, 27)
TODAY = LAST + timedelta(days=1)
TYPES = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
FIRST = """
import sys, time
began = time.perf_counter()
import json
from datetime import date
from sbr_tasks.report.overview import overview
from sbr_tasks.report.render import Live, overview_html
from sbr_tasks.store import Store
overview_html(overview(Store(sys.argv[1]), date.fromisoformat(sys.argv[2])), Live())
print(1000 * (time.perf_counter() - began))
"""


def main() -> None:
    """Writes the log, measures in turns, prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--versions", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--airflow", action="store_true", help="also from a real Airflow, which takes a minute to start")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        settings = load_settings({"store": str(folder)})
        seed_history(Store.open(settings), LAST, options.versions)
        size = len(answer(settings))
        contenders: dict[str, Callable[[], float]] = {
            "page": lambda: milliseconds(lambda: answer(settings)),
            "store read again": lambda: milliseconds(lambda: answer(settings, is_anew=True)),
            "first request": lambda: first_request(settings),
        }
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(settings))
        Thread(target=server.serve_forever, daemon=True).start()
        program = find_chromium()
        rounds = [{name: measure() for name, measure in contenders.items()} for _ in range(options.rounds)]
        took = {name: [one[name] for one in rounds] for name in contenders}
        if program:
            took["drawn"] = drawn(program, f"http://127.0.0.1:{server.server_port}/", options.rounds)
        server.shutdown()
        if program and options.airflow:
            took |= drawn_by_airflow(program, settings, options.rounds)
    rows = [[name, median(times), min(times), max(times)] for name, times in took.items()]
    print(f"{options.versions:,} versions, {size / 1e6:.2f} MB of HTML, {options.rounds} rounds\n")
    print(tabulate(rows, headers=["", "median, ms", "least", "most"], floatfmt=".0f"))


def answer(settings: Settings, *, is_anew: bool = False) -> bytes:
    """The page, as the plugin sends it."""
    store = Store.open(settings) if is_anew else shared_store(settings)
    return overview_html(overview(store, TODAY), Live(may_roll_back=True, may_pin=True)).encode()


def milliseconds(work: Callable[[], object]) -> float:
    """How long something takes."""
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)


def first_request(settings: Settings) -> float:
    """What a new process takes from its start on, the interpreter's own aside."""
    command = [sys.executable, "-c", FIRST, settings.store, str(TODAY)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def handler_of(settings: Settings) -> type[BaseHTTPRequestHandler]:
    """Responds as the plugin does, without a login."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            file = STATIC / path.rsplit("/", 1)[-1]
            if path == "/":
                body, kind = answer(settings), "text/html"
            else:  # the note on late clicks is empty
                body, kind = (file.read_bytes(), TYPES[file.suffix]) if file.is_file() else (b"", "text/html")
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing is printed between the figures."""

    return Handler


def drawn(program: str, url: str, rounds: int) -> list[float]:
    """Milliseconds from the navigation's start to the page's mark `drawn`."""
    with browser_page(program, url) as page:
        return drawn_on(page, "/", rounds)


def drawn_by_airflow(program: str, settings: Settings, rounds: int) -> dict[str, list[float]]:
    """The same inside an Airflow that is started for it and works on that store; no DAG runs."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        environment = {"SBR_STORE": settings.store, "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True"}
        airflow = LocalAirflow(folder, folder / "home", ROOT, free_port(), environment)
        airflow.start(lambda line: print(line, file=sys.stderr))
        try:
            password = json.loads((folder / "passwords.json").read_text(encoding="utf-8"))["admin"]
            with browser_page(program, airflow.url) as page:
                log_in(page, "admin", password)
                return {
                    "drawn by Airflow": drawn_on(page, "/sbr-models/", rounds),
                    "in Airflow's frame": drawn_on(page, "/plugin/models", rounds, framed=True),
                }
        finally:
            stop(folder)


@contextmanager
def browser_page(program: str, url: str) -> Iterator[Page]:
    """A page of a headless Chromium, on which paths are those of the site `url`."""
    with chromium(program) as browser:
        yield browser.new_page(base_url=url, viewport=VIEWPORT)


def drawn_on(page: Page, path: str, rounds: int, *, framed: bool = False) -> list[float]:
    """When the page, or the frame in it, was drawn, in milliseconds from its navigation on; a first visit isn't counted."""
    found = []
    for _ in range(rounds + 1):
        page.goto(path)
        inside = page.frame_locator('iframe[title="Models"]') if framed else page
        inside.locator("#plots svg").first.wait_for()
        mark = "performance.getEntriesByName('drawn')[0].startTime"
        found.append(float(inside.locator("main").evaluate(f"() => {mark}")))
    return found[1:]


if __name__ == "__main__":
    main()
