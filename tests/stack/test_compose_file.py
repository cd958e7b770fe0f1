"""What `docker-compose.yaml` says, whether or not it runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from tools.local_stack.compose import ComposeError, read, services
from tools.local_stack.runner import COMPLETED, COMPOSE_FILE, HEALTHY, ROOT
from tools.stack_secrets import new_secrets

CELERY = """
from airflow.providers.celery.executors.celery_executor import app

conf = app.conf
accepted = conf.result_accept_content or conf.accept_content
print(conf.accept_content, accepted, conf.task_serializer, conf.result_serializer, type(app.backend).__name__)
"""
SECRETS = new_secrets()
ONE_SHOT = {"init"}


@pytest.fixture(scope="module")
def stack() -> dict[str, Any]:
    return read(COMPOSE_FILE, SECRETS)


def test_it_keeps_the_schema_of_compose_files(stack: dict[str, Any]) -> None:
    schema = json.loads((files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json").read_text("utf-8"))
    written = yaml.safe_load(COMPOSE_FILE.read_text("utf-8"))
    for found in (written, stack):
        assert [error.message for error in jsonschema.Draft7Validator(schema).iter_errors(found)] == []


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("value", [None, ""])
def test_nothing_starts_without_a_secret(name: str, value: str | None) -> None:
    variables = {other: its for other, its in SECRETS.items() if other != name} | ({name: value} if value is not None else {})
    with pytest.raises(ComposeError, match=f"{name} is missing a value: run python3 tools/stack_secrets.py first"):
        read(COMPOSE_FILE, variables)


def test_no_password_has_a_default() -> None:
    text = COMPOSE_FILE.read_text("utf-8")
    defaults = re.findall(r"\$\{(\w*(?:PASSWORD|SECRET|KEY)\w*):?-", text)
    assert defaults == []


def test_ports_are_open_to_this_machine_only_unless_a_variable_says_otherwise(stack: dict[str, Any]) -> None:
    def addresses(found: dict[str, Any]) -> dict[str, set[str]]:
        services = found["services"].items()
        return {name: {port.split(":")[0] for port in service["ports"]} for name, service in services if "ports" in service}

    assert addresses(stack) == {"api-server": {"127.0.0.1"}, "serving": {"127.0.0.1"}}
    everywhere = read(COMPOSE_FILE, SECRETS | {"BIND_ADDRESS": "10.0.0.7"})
    assert addresses(everywhere) == {"api-server": {"10.0.0.7"}, "serving": {"10.0.0.7"}}


def test_databases_and_mlflow_which_asks_for_no_login_are_on_the_inner_network_alone(stack: dict[str, Any]) -> None:
    assert stack["networks"]["inside"] == {"internal": True}
    for name in ("postgres", "redis", "mlflow"):
        assert stack["services"][name]["networks"] == ["inside"]
        assert "ports" not in stack["services"][name], name


def test_every_service_is_bounded_and_not_root(stack: dict[str, Any]) -> None:
    for name, service in stack["services"].items():
        assert service["mem_limit"], name
        assert service["logging"]["options"].keys() == {"max-size", "max-file"}, name
        assert service["restart"] == ("no" if name in ONE_SHOT else "unless-stopped"), name
        assert service["user"].split(":")[0] not in ("0", "root"), name
        assert "privileged" not in service, name
        assert re.search(r":[\d.]+", service["image"]), name


def test_every_service_of_ours_waits_for_health_or_completion(stack: dict[str, Any]) -> None:
    services = stack["services"]
    assert {name for name, service in services.items() if "depends_on" not in service} == {"postgres", "redis", "serving"}
    for name, service in services.items():
        for other, rule in service.get("depends_on", {}).items():
            assert rule == {"condition": COMPLETED if other in ONE_SHOT else HEALTHY}, (name, other)
            assert other in ONE_SHOT or services[other]["healthcheck"]["test"]


def test_only_the_services_that_need_a_secret_have_it(stack: dict[str, Any]) -> None:
    def holders(secret: str) -> set[str]:
        return {name for name, service in stack["services"].items() if SECRETS[secret] in json.dumps(service)}

    assert holders("POSTGRES_PASSWORD") == {"postgres", "init"}
    assert holders("AIRFLOW_ADMIN_PASSWORD") == {"init"}
    assert holders("MLFLOW_DB_PASSWORD") == {"init", "mlflow"}
    assert not any(SECRETS[name] in json.dumps([s.get("command") for s in stack["services"].values()]) for name in SECRETS)


def test_temporary_files_lie_in_no_volume(stack: dict[str, Any]) -> None:
    for name, service in stack["services"].items():
        scratch = service.get("environment", {}).get("SBR_SCRATCH", "")
        inside = [volume for volume in service.get("volumes", []) if scratch.startswith(f"{volume.split(':')[1]}/")]
        assert inside == [], name
    assert stack["services"]["worker"]["environment"]["SBR_SCRATCH"]


def test_the_image_is_of_the_locked_airflow() -> None:
    locked = re.search(r"^apache-airflow==(\S+)", (ROOT / "requirements.lock").read_text("utf-8"), re.MULTILINE)
    assert locked
    [version] = re.findall(r"--python-version (\S+)", (ROOT / "Makefile").read_text("utf-8"))
    assert f"FROM apache/airflow:{locked[1]}-python{version}\n" in (ROOT / "Dockerfile").read_text("utf-8")


def test_one_service_builds_the_image_that_all_use(stack: dict[str, Any]) -> None:
    ours = {name for name, service in stack["services"].items() if service["image"].startswith("sbr:")}
    assert len(ours) > 5
    assert [name for name in ours if "build" in stack["services"][name]] == ["init"]


def test_the_image_is_named_after_the_release(stack: dict[str, Any]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    built = {service["image"] for service in stack["services"].values() if "build" in service}
    assert built == {f"sbr:{project['version']}"}


def test_serving_has_the_minor_release_of_the_tensorflow_that_exports(stack: dict[str, Any]) -> None:
    lock = (ROOT / "requirements.lock").read_text("utf-8")
    locked = re.search(r"^tensorflow==(\d+\.\d+)\.", lock, re.MULTILINE)
    assert locked
    assert stack["services"]["serving"]["image"].startswith(f"tensorflow/serving:{locked[1]}.")


def test_celery_reads_json_and_no_pickles(tmp_path: Path) -> None:
    environment = services(COMPOSE_FILE, SECRETS)["worker"].environment
    environment = {**environment, "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", CELERY], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    # A database would keep results as pickles, whatever their serializer.
    assert done.stdout.splitlines()[-1] == "['json'] ['json'] json json RedisBackend"
