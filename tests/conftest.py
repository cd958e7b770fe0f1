"""Fixtures for all tests, and the rule that in CI nothing is skipped for another reason than absent shared data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from threading import Lock
from typing import Any

import pytest
from hypothesis import settings
from xdist.scheduler import LoadScopeScheduling

settings.register_profile("sbr", deadline=None)
settings.load_profile("sbr")

# What each of these has set up is shared by its tests, which therefore run in one process, in their order.
TOGETHER = ("tests/integration/airflow/", "tests/stack/", "tests/integration/")
SHARED_DATA = Path(os.environ.get("SBR_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
NO_SKIP = os.environ.get("SBR_NO_SKIP") == "1"
_SHARED_REASON = "no shared click data at"
_other_skips: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also run the tests marked long")
    parser.addoption("--update-golden", action="store_true", help="rewrite the files in tests/golden")


def pytest_collection() -> None:
    """Tests, and the processes that they start, don't see the settings of the shell."""
    for name in [name for name in os.environ if name.startswith("SBR_")]:
        del os.environ[name]  # by now, pytest-xdist has started its workers with them


def part_of(nodeid: str) -> str:
    """The tests that the same process runs: a folder of `TOGETHER`, or a file."""
    return next((folder for folder in TOGETHER if nodeid.startswith(folder)), nodeid.split("::", maxsplit=1)[0])


class PartScheduling(LoadScopeScheduling):
    """Hands out parts as `part_of` finds them, in the order of the tests."""

    def _split_scope(self, nodeid: str) -> str:
        return part_of(nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> PartScheduling:
    config.option.loadscopereorder = False
    return PartScheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Puts the parts that take longest first, and leaves the tests marked long out of a normal run.

    They are deselected, so that they are not counted as skipped.
    """
    order = {folder: number for number, folder in enumerate(TOGETHER)}
    items.sort(key=lambda item: order.get(part_of(item.nodeid), len(order)))
    if config.getoption("--long"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    if long:
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and _SHARED_REASON not in str(report.longrepr):
        _other_skips.append(f"{report.nodeid}: {report.longrepr}")


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Under SBR_NO_SKIP=1 a skip for any other reason than absent shared data fails the run."""
    if NO_SKIP and _other_skips:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if NO_SKIP and _other_skips:
        terminalreporter.section("skips that SBR_NO_SKIP=1 forbids", red=True)
        for skip in _other_skips:
            terminalreporter.line(skip)


@pytest.fixture
def shared_data() -> Path:
    """The folder of real click data; the test is skipped where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"{_SHARED_REASON} {SHARED_DATA} (set SBR_SHARED_DATA)")
    return SHARED_DATA


@pytest.fixture(scope="session")
def s3_options() -> Iterator[dict[str, str]]:
    """A real S3 API on loopback, with the bucket `clicks`."""
    import boto3
    from moto.s3.responses import S3Response
    from moto.server import ThreadedMotoServer

    # S3 lets one writer through with `If-None-Match: *`; moto looks first and writes then, so its threads must take turns.
    put, one_at_a_time = S3Response._key_response_put, Lock()

    def put_alone(self: S3Response, query: dict[str, Any], key_name: str) -> Any:
        with one_at_a_time:
            return put(self, query, key_name)

    S3Response._key_response_put = put_alone
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
    endpoint = f"http://{host}:{port}"
    boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", **keys).create_bucket(Bucket="clicks")
    yield {
        "endpoint": endpoint,
        "region": "us-east-1",
        "access_key_id": "test",
        "secret_access_key": "test",
        "allow_http": "true",
        "virtual_hosted_style_request": "false",
    }
    server.stop()
    S3Response._key_response_put = put


@pytest.fixture(autouse=True)
def own_working_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tests don't see a settings file of the working folder."""
    monkeypatch.chdir(tmp_path)
