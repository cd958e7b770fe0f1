"""Looks up every package of `requirements.lock` in a feed of known vulnerabilities: `make audit`.

It needs such a feed: OSV's, or that of PyPI, asked by `pip-audit`, which uv runs apart from the packages of the lock. Where
neither can be reached it says so. Exit code 1: something is vulnerable; 2: nothing was audited, or not all.
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
        # One package first: an answer shows that the feed is there, and a feed that isn't isn't asked for hundreds.
        _, reason = vulnerable(first, feed)
        if reason is None:
            return report(*vulnerable(lock, feed), feed)
        reasons.append(f"{feed}: {reason}")
    sys.stderr.write(
        f"Nothing was audited: no feed of vulnerabilities can be reached from here ({'; '.join(reasons)}). "
        "Run `make audit` where one can.\n"
    )
    return 2


def vulnerable(requirements: str, feed: str) -> tuple[list[str], str | None]:
    """Each vulnerability that a feed knows of the packages, in a line; and why it couldn't be asked about all, if so."""
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
    found = [
        f"{package['name']} {package['version']}: {known['id']}, mended in {', '.join(known['fix_versions']) or 'no release'}"
        for package in packages
        for known in package.get("vulns", [])
    ]
    return found, f"{len(skipped)} packages: {skipped[0]['skip_reason']}" if skipped else None


def report(found: list[str], reason: str | None, feed: str) -> int:
    """Says what was found; returns the exit code."""
    sys.stdout.write("".join(f"{line}\n" for line in found))
    if reason:
        sys.stderr.write(f"Not all packages were audited ({feed}: {reason}).\n")
        return 2
    sys.stdout.write(f"{len(found)} vulnerabilities are known of the packages of {LOCK.name} ({feed}).\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
