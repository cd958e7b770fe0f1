"""What the image holds, as far as its `Dockerfile` can tell without building it."""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from tools.local_stack.runner import ROOT
from tools.stack_secrets import new_secrets

UV = Path(sys.executable).with_name("uv")
LOCK = ROOT / "requirements.lock"


@pytest.fixture(scope="module")
def instructions() -> list[tuple[str, str]]:
    """(instruction, its words) of the Dockerfile, in order."""
    text = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text("utf-8"))
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(name, words) for name, _, words in (line.partition(" ") for line in lines)]


@pytest.fixture(scope="module")
def installation(instructions: list[tuple[str, str]]) -> list[str]:
    """The command that installs packages, without the extra for Spark."""
    [command] = [words for name, words in instructions if name == "RUN" and "-r pyproject.toml" in words]
    return shlex.split(command.replace("${SPARK:+--extra spark}", ""))


def test_it_runs_as_a_user_without_rights(instructions: list[tuple[str, str]]) -> None:
    users = [words for name, words in instructions if name == "USER"]
    assert users[-1] == "airflow"
    as_root = instructions[instructions.index(("USER", "root")) : instructions.index(("USER", "airflow"))]
    assert "pip" not in str(as_root)


def test_no_secret_is_built_in(instructions: list[tuple[str, str]]) -> None:
    copies = [words.split()[:-1] for name, words in instructions if name in ("COPY", "ADD")]
    copied = [word for words in copies for word in words if not word.startswith("--")]
    assert set(copied) == {
        "requirements.lock", "pyproject.toml", "README.md", "LICENSE", "sbr_tasks", "dags", "plugins", "tools",
    }  # fmt: skip
    assert {words for name, words in instructions if name in ("ARG", "ENV")} == {"SPARK="}
    assert not any(secret in str(instructions) for secret in new_secrets())
    left_out = (ROOT / ".dockerignore").read_text("utf-8").split()
    assert {".env*", "secrets", "settings", "clicks", "var"} <= set(left_out)


def test_every_package_of_the_lock_has_one_version_and_hashes() -> None:
    packages = re.split(r"\n(?=\S)", LOCK.read_text("utf-8").strip())
    assert len(packages) > 200
    assert [package for package in packages if not re.match(r"[\w.-]+==[\w.!+-]+ .*--hash=sha256:", package, re.DOTALL)] == []


def test_it_installs_what_production_needs_and_no_tool_of_developers(installation: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    asked = [installation[at + 1] for at, word in enumerate(installation) if word == "--extra"]
    assert asked == ["stack"]
    names = {re.split(r"[\[<>=;]", line)[0] for line in project["dependencies"] + project["optional-dependencies"]["stack"]}
    assert not names & {"pytest", "moto", "ruff", "mypy", "playwright", "hatchling", "pyspark"}
    assert {"tensorflow", "apache-airflow-providers-celery"} <= names


@pytest.mark.parametrize("is_tampered_with", [False, True])
def test_a_package_with_another_hash_is_not_installed(installation: list[str], tmp_path: Path, is_tampered_with: bool) -> None:
    found = wheel(tmp_path / "index", "parcel")
    sha256 = "0" * 64 if is_tampered_with else hashlib.sha256(found.read_bytes()).hexdigest()
    (tmp_path / "requirements.lock").write_text(f"parcel==1 --hash=sha256:{sha256}\n", "utf-8")
    stack = '[project]\nname = "shop"\nversion = "1"\n[project.optional-dependencies]\nstack = ["parcel"]\n'
    (tmp_path / "pyproject.toml").write_text(stack, "utf-8")
    words = ["--no-index", "--find-links", str(found.parent), "--target", str(tmp_path / "installed")]
    assert installation[:3] == ["uv", "pip", "install"]
    command = [str(UV), *installation[1:], "--python", sys.executable, *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode != 0) == is_tampered_with, done.stderr
    assert (tmp_path / "installed" / "parcel.py").exists() != is_tampered_with
    if is_tampered_with:
        assert "Hash mismatch" in done.stderr


def wheel(folder: Path, name: str) -> Path:
    """A package of one empty module, as a file that can be installed."""
    folder.mkdir()
    file = folder / f"{name}-1-py3-none-any.whl"
    contents = {
        f"{name}.py": b"",
        f"{name}-1.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n".encode(),
        f"{name}-1.dist-info/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = f"{name}-1.dist-info/RECORD"
    lines = [f"{path},sha256={digest(content)},{len(content)}" for path, content in contents.items()]
    with zipfile.ZipFile(file, "w") as archive:
        for path, content in (contents | {record: "\n".join([*lines, f"{record},,"]).encode()}).items():
            archive.writestr(path, content)
    return file


def digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
