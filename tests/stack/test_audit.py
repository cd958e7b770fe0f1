"""What `make audit` makes of the answers of `pip-audit`."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest

from tools import audit

KNOWN = {"id": "CVE-2026-1", "fix_versions": ["2.0"]}
UNREACHABLE = "Traceback ...\nrequests.exceptions.ConnectionError: no such host"


def answer(monkeypatch: pytest.MonkeyPatch, **by_feed: Any) -> None:
    """Lets `pip-audit` print an answer, or fail with a text, by the feed that it asks."""

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        found = by_feed[command[command.index("--vulnerability-service") + 1]]
        if isinstance(found, str):
            return subprocess.CompletedProcess(command, 1, "", found)
        return subprocess.CompletedProcess(command, 0, json.dumps({"dependencies": [{"name": "parcel", **found}]}), "")

    monkeypatch.setattr(audit.subprocess, "run", run)


def test_a_vulnerable_package_is_named_with_the_release_that_mends_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(monkeypatch, osv={"version": "1.0", "vulns": [KNOWN]})
    assert audit.main() == 1
    assert "parcel 1.0: CVE-2026-1, fixed in 2.0\n" in capsys.readouterr().out


def test_the_second_feed_is_asked_where_the_first_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    answer(monkeypatch, osv=UNREACHABLE, pypi={"version": "1.0", "vulns": []})
    assert audit.main() == 0


def test_what_was_not_audited_is_never_called_sound(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer(monkeypatch, osv=UNREACHABLE, pypi={"skip_reason": "not found"})
    assert audit.main() == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("Nothing was audited: no feed of vulnerabilities can be reached (osv: requests.")
