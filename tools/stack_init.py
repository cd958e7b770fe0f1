"""Prepares the production stack: databases, Airflow's tables, pools, connections and the first admin.

The service `init` of `docker-compose.yaml` runs it before all else. It may run again at any time: what exists stays as it is,
so that a pool's size or the admin's password can be changed in Airflow. Passwords of the databases follow the environment.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from urllib.parse import urlsplit

from sbr_tasks.airflow.pools import create_missing

SLOTS = {"training": 1}  # the stack starts with one training worker, which has one slot
SHORTEST = 16
FEWEST_LETTERS = 6

_log = logging.getLogger("stack_init")


class StackError(Exception):
    """The stack can't be prepared; the text is meant for people."""


def main() -> int:
    """Runs the command; returns its exit code."""
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
    try:
        require_secrets(os.environ)
        create_databases(os.environ)
        migrate()
        create_pools()
        create_connections(os.environ.get("STACK_CONNECTIONS") or "{}")
        create_admin(os.environ["STACK_ADMIN_USER"], os.environ["STACK_ADMIN_PASSWORD"])
    except StackError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    _log.info("The stack is ready.")
    return 0


def secrets_of(environment: Mapping[str, str]) -> dict[str, str]:
    """The secrets of the stack, by the name under which `.env` holds them."""
    in_a_url = {"AIRFLOW_DB_PASSWORD": "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "REDIS_PASSWORD": "AIRFLOW__CELERY__BROKER_URL"}
    plain = {
        "AIRFLOW_ADMIN_PASSWORD": "STACK_ADMIN_PASSWORD",
        "API_SECRET_KEY": "AIRFLOW__API__SECRET_KEY",
        "FERNET_KEY": "AIRFLOW__CORE__FERNET_KEY",
        "JWT_SECRET": "AIRFLOW__API_AUTH__JWT_SECRET",
        "MLFLOW_DB_PASSWORD": "STACK_MLFLOW_DB_PASSWORD",
        "POSTGRES_PASSWORD": "STACK_POSTGRES_PASSWORD",
    }
    return {name: environment.get(variable, "") for name, variable in plain.items()} | {
        name: _password(environment.get(variable, "")) for name, variable in in_a_url.items()
    }


def require_secrets(environment: Mapping[str, str]) -> None:
    """Rejects a secret that is absent, can be guessed, is used twice, or would break a URL.

    Raises:
        StackError: Names them and how to generate better ones; never a value.
    """
    secrets = secrets_of(environment)
    faults = [f"{name} {fault}" for name, value in sorted(secrets.items()) if (fault := _fault(name, value, secrets))]
    if faults:
        raise StackError(
            f"The stack doesn't start with these secrets: {'; '.join(faults)}. Take such lines out of .env and run `python3 "
            "tools/stack_secrets.py`, which generates what is missing (docs/production.md#secrets)."
        )


def _fault(name: str, value: str, secrets: Mapping[str, str]) -> str | None:
    if not value:
        return "is not set"
    if name == "FERNET_KEY":
        # Several keys with commas between them: while what the old key encrypted is being re-encrypted.
        return (
            None
            if all(_is_fernet_key(key) for key in value.split(","))
            else "is not a Fernet key (32 random bytes in URL-safe base64)"
        )
    if name != "AIRFLOW_ADMIN_PASSWORD" and not all(
        letter.isascii() and (letter.isalnum() or letter in "-_.~") for letter in value
    ):
        return "has characters other than letters, digits and -_.~, which a URL can't contain"
    if len(value) < SHORTEST or len(set(value)) < FEWEST_LETTERS:
        return f"can be guessed (expected {SHORTEST} random characters or more)"
    same = [other for other, its in secrets.items() if its == value and other != name]
    return f"is the same as {same[0]}" if same else None


def _is_fernet_key(value: str) -> bool:
    try:
        return len(urlsafe_b64decode(value)) == 32 and len(set(urlsafe_b64decode(value))) >= FEWEST_LETTERS
    except ValueError:
        return False


def _password(url: str) -> str:
    """The password in a URL, even if it has characters that a URL can't contain."""
    before, _, _ = url.rpartition("@")
    return before.partition("://")[2].partition(":")[2]


def create_databases(environment: Mapping[str, str]) -> None:
    """Creates the databases of Airflow and of MLflow, each with a role that owns it and can't enter the other one.

    Raises:
        StackError: PostgreSQL can't be reached, or doesn't accept POSTGRES_PASSWORD.
    """
    import psycopg2
    from psycopg2 import sql

    url = urlsplit(environment["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"])
    secrets = secrets_of(environment)
    try:
        connection = psycopg2.connect(
            host=url.hostname,
            port=url.port,
            user="postgres",
            password=secrets["POSTGRES_PASSWORD"],
            dbname="postgres",
            connect_timeout=30,
        )
    except psycopg2.OperationalError as error:
        raise StackError(
            f"PostgreSQL at {url.hostname}:{url.port} can't be used: {str(error).strip().splitlines()[-1]}. Its password is "
            "the POSTGRES_PASSWORD with which the volume `postgres` was first made."
        ) from None
    connection.autocommit = True
    with connection.cursor() as cursor:
        for name, password in (("airflow", secrets["AIRFLOW_DB_PASSWORD"]), ("mlflow", secrets["MLFLOW_DB_PASSWORD"])):
            role = sql.Identifier(name)
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name])
            verb = sql.SQL("ALTER" if cursor.fetchone() else "CREATE")
            cursor.execute(sql.SQL("{} ROLE {} LOGIN PASSWORD {}").format(verb, role, sql.Literal(password)))
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
            if not cursor.fetchone():
                cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))
                _log.info("Created the database %s.", name)
            # Each time: a killed run may have created the database without doing this.
            cursor.execute(sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(role))
    connection.close()


def migrate() -> None:
    """Migrates Airflow's tables to its release.

    Raises:
        StackError: The migration failed; its output says why.
    """
    done = subprocess.run([sys.executable, "-m", "airflow", "db", "migrate"], check=False)
    if done.returncode:
        raise StackError(f"`airflow db migrate` ended with {done.returncode}; its lines above say why.")


def create_pools() -> None:
    """Creates the missing pools."""
    for pool in create_missing(SLOTS):
        _log.info("Created the pool %s with %d slot.", pool.name, pool.slots)


def create_connections(text: str) -> None:
    """Creates the missing connections; their passwords and extras are encrypted with the Fernet key.

    Args:
        text: A JSON object with a URI for each connection id.

    Raises:
        StackError: It is something else.
    """
    from airflow.exceptions import AirflowException
    from airflow.models.connection import Connection
    from airflow.utils.session import create_session
    from sqlalchemy import select

    with create_session() as session:
        existing = set(session.scalars(select(Connection.conn_id)))
        for name, uri in wanted_connections(text).items():
            if name in existing:
                continue
            try:
                session.add(Connection(conn_id=name, uri=uri))
            except (ValueError, AirflowException):
                # The original error may quote the password.
                raise StackError(
                    f"The connection {name} in AIRFLOW_CONNECTIONS is not a URI such as smtp://user:password@host:587; in user "
                    "and password, characters other than letters, digits and -_.~ are written as %XX."
                ) from None
            _log.info("Created the connection %s.", name)


def wanted_connections(text: str) -> dict[str, str]:
    """The URI of each connection.

    Raises:
        StackError: The text is no JSON object of texts.
    """
    try:
        uris = json.loads(text)
    except ValueError:
        uris = None
    if not isinstance(uris, dict) or not all(isinstance(uri, str) for uri in uris.values()):
        raise StackError(
            'AIRFLOW_CONNECTIONS is not a JSON object of URIs, such as {"smtp_default": "smtp://user:password@host:587"}.'
        )
    return uris


def create_admin(name: str, password: str) -> None:
    """Creates the first user, with the role Admin, unless it is there.

    Raises:
        StackError: Airflow refuses it.
    """
    from airflow.providers.fab.auth_manager.cli_commands.utils import get_application_builder

    with get_application_builder() as builder:
        security = builder.sm
        if security.find_user(name):
            return
        role = security.find_role("Admin")
        if not security.add_user(name, "Airflow", "Admin", f"{name}@localhost", role, password):
            raise StackError(f"Airflow refused to create the user {name}; its lines above say why.")
    _log.info("Created the user %s with the role Admin.", name)


if __name__ == "__main__":
    sys.exit(main())
