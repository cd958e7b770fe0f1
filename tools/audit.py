"""Looks up every package of `requirements.lock` in a feed of known vulnerabilities: `make audit`.

It queries OSV's feed, or PyPI's, with `pip-audit`, which uv runs apart from the packages of the lock. Exit code 1: something is
vulnerable; 2: no feed could be reached, or not all packages were audited.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCK = ROOT / "requirements.lock"
PIP_AUDIT = "pip-audit==2.10.1"
FEEDS = ("osv", "pypi")
TIMEOUT_S = 15


def main() -> int:
    """Runs the command; returns its exit code."""
    lock = LOCK.read_text(encoding="utf-8")
    first = re.split(r"\n(?=\S)", lock)[0]
    reasons = []
    for feed in FEEDS:
        # One package first: its answer shows that the feed works before hundreds are looked up.
        _, reason = vulnerable(first, feed)
        if reason is None:
            return report(*vulnerable(lock, feed), feed)
        reasons.append(f"{feed}: {reason}")
    sys.stderr.write(
        f"Nothing was audited: no feed of vulnerabilities can be reached ({'; '.join(reasons)}). "
        "Run `make audit` with access to one.\n"
    )
    return 2


def vulnerable(requirements: str, feed: str) -> tuple[list[str], str | None]:
    """A line for each known vulnerability of the packages; and why not all could be looked up, if so."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "requirements.txt"
        file.write_text(requirements, encoding="utf-8")
        words = ["--requirement", str(file), "--disable-pip", "--require-hashes", "--vulnerability-service", feed]
        more = ["--format", "json", "--progress-spinner", "off", "--timeout", str(TIMEOUT_S)]
        command = [sys.executable, "-m", "uv", "tool", "run", "--quiet", PIP_AUDIT, *words, *more]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        return [], (done.stderr.strip().splitlines() or ["no answer"])[-1].partition(":")[0]
    skipped = [package for package in packages if "skip_reason" in package]
    lines = [
        f"{package['name']} {package['version']}: {flaw['id']}, fixed in {', '.join(flaw['fix_versions']) or 'no release'}"
        for package in packages
        for flaw in package.get("vulns", [])
    ]
    return lines, f"{len(skipped)} packages: {skipped[0]['skip_reason']}" if skipped else None


def report(vulnerabilities: list[str], reason: str | None, feed: str) -> int:
    """Says what was found; returns the exit code."""
    sys.stdout.write("".join(f"{line}\n" for line in vulnerabilities))
    if reason:
        sys.stderr.write(f"Not all packages were audited ({feed}: {reason}).\n")
        return 2
    sys.stdout.write(f"{len(vulnerabilities)} vulnerabilities are known of the packages of {LOCK.name} ({feed}).\n")
    return 1 if vulnerabilities else 0


if __name__ == "__main__":
    sys.exit(main())
