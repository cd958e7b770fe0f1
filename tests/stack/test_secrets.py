"""How secrets are made, which ones the stack refuses, and how they are looked for."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.local_stack.compose import services
from tools.local_stack.leaks import files_below, leaks
from tools.local_stack.runner import COMPOSE_FILE, ROOT
from tools.stack_init import StackError, require_secrets
from tools.stack_secrets import new_secrets

CREATE_CONNECTIONS = """
import sys
from airflow.utils.db import initdb
from tools.stack_init import StackError, create_connections
initdb()
for text in sys.argv[1:]:
    try:
        create_connections(text)
    except StackError as error:
        print("REFUSED", error)
"""
UNREADABLE = {
    '["smtp://user:S3CRET@host"]': "is not a JSON object of URIs",
    '{"smtp_default": {"conn_type": "smtp", "password": "S3CRET"}}': "is not a JSON object of URIs",
    '{"smtp_default": "smtp://user:S3CRET/and@host:587"}': "The connection smtp_default in AIRFLOW_CONNECTIONS is not a URI",
}


def make(file: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", str(ROOT / "tools" / "stack_secrets.py"), str(file)]
    return subprocess.run(command, capture_output=True, text=True, check=True)


def values(file: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in file.read_text("utf-8").splitlines())


def test_all_secrets_are_made_for_the_owner_only_and_never_shown(tmp_path: Path) -> None:
    said = make(tmp_path / ".env").stdout
    found = values(tmp_path / ".env")
    assert found.keys() == new_secrets().keys()
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    assert not any(value in said for value in found.values())
    environment = services(COMPOSE_FILE, found)["init"].environment
    require_secrets(environment)  # the stack takes them


def test_two_installations_share_no_secret(tmp_path: Path) -> None:
    make(tmp_path / "one")
    make(tmp_path / "two")
    assert not set(values(tmp_path / "one").values()) & set(values(tmp_path / "two").values())


def test_what_a_file_holds_stays_and_what_it_lacks_is_added(tmp_path: Path) -> None:
    file = tmp_path / ".env"
    kept = "# ours\nAIRFLOW_PORT=9090\nREDIS_PASSWORD=kept-0123456789-kept\nexport FERNET_KEY='kept too'\n"
    file.write_text(f'JWT_SECRET=\n{kept}API_SECRET_KEY=""\n', "utf-8")
    file.chmod(0o644)
    make(file)
    first = file.read_text("utf-8")
    assert first.startswith(kept)
    assert [first.count(f"{name}=") for name in ("JWT_SECRET", "API_SECRET_KEY", "FERNET_KEY")] == [1, 1, 1]
    assert file.stat().st_mode & 0o777 == 0o600
    make(file)
    assert file.read_text("utf-8") == first


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("REDIS_PASSWORD", "redis", "REDIS_PASSWORD can be guessed"),
        ("AIRFLOW_ADMIN_PASSWORD", "aaaaaaaaaaaaaaaaaaaa", "AIRFLOW_ADMIN_PASSWORD can be guessed"),
        ("POSTGRES_PASSWORD", "with spaces and more", "POSTGRES_PASSWORD has characters other than"),
        ("REDIS_PASSWORD", "with/slash@and#more?", "REDIS_PASSWORD has characters other than"),
        ("AIRFLOW_DB_PASSWORD", "with/slash@and#more?", "AIRFLOW_DB_PASSWORD has characters other than"),
        ("FERNET_KEY", "not-a-key", "FERNET_KEY is not a Fernet key"),
        ("FERNET_KEY", "A" * 43 + "=", "FERNET_KEY is not a Fernet key"),
    ],
)
def test_initialisation_refuses_a_weak_secret_with_what_to_do(name: str, value: str, reason: str) -> None:
    environment = services(COMPOSE_FILE, new_secrets() | {name: value})["init"].environment
    with pytest.raises(StackError, match=reason) as refused:
        require_secrets(environment)
    assert "run `python3 tools/stack_secrets.py`" in str(refused.value)
    assert value not in str(refused.value)


def test_the_admin_may_have_any_long_password() -> None:
    made = new_secrets() | {"AIRFLOW_ADMIN_PASSWORD": "correct horse/battery?staple"}
    require_secrets(services(COMPOSE_FILE, made)["init"].environment)


def test_connections_that_cant_be_read_are_refused_without_their_passwords(tmp_path: Path) -> None:
    database = f"sqlite:///{tmp_path / 'airflow.db'}"
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": database}
    words = [sys.executable, "-c", CREATE_CONNECTIONS, *UNREADABLE]
    done = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    refused = [line for line in done.stdout.splitlines() if line.startswith("REFUSED")]
    assert [reason in line for line, reason in zip(refused, UNREADABLE.values(), strict=True)] == [True] * len(UNREADABLE)
    assert "S3CRET" not in done.stderr + done.stdout


def test_initialisation_refuses_one_secret_for_two_things() -> None:
    made = new_secrets()
    environment = services(COMPOSE_FILE, made | {"MLFLOW_DB_PASSWORD": made["AIRFLOW_DB_PASSWORD"]})["init"].environment
    with pytest.raises(StackError, match="AIRFLOW_DB_PASSWORD is the same as MLFLOW_DB_PASSWORD"):
        require_secrets(environment)


def test_initialisation_ends_with_the_sentence_before_it_touches_anything() -> None:
    command = [sys.executable, "-m", "tools.stack_init"]
    done = subprocess.run(command, env={"PATH": "/usr/bin"}, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "JWT_SECRET is not set" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
@pytest.mark.parametrize("is_encoded", [False, True])
def test_a_secret_is_found_wherever_it_is_in_a_file(tmp_path: Path, before: str, is_encoded: bool) -> None:
    secret = new_secrets()["REDIS_PASSWORD"]
    content = f"{before}redis://:{secret}@redis".encode()
    file = tmp_path / "deep" / "worker.log"
    file.parent.mkdir()
    file.write_bytes(base64.b64encode(content) if is_encoded else content)
    (tmp_path / "other.log").write_text(new_secrets()["REDIS_PASSWORD"], "utf-8")
    assert leaks({"REDIS_PASSWORD": secret}, files_below([tmp_path])) == [("REDIS_PASSWORD", str(file))]
