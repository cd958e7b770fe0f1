"""Reads a compose file as `docker compose` does: merges, `${VARIABLES}`, profiles."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

_VARIABLE = re.compile(r"\$(?:(?P<escaped>\$)|\{(?P<name>\w+)(?:(?P<rule>:?[-?+])(?P<word>[^{}]*))?\}|(?P<bare>[A-Za-z_]\w*))")


class ComposeError(Exception):
    """The file can't be used with these variables; the text is what compose would say."""


@dataclass(frozen=True)
class Service:
    """What the runner uses of a service."""

    name: str
    image: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    depends_on: Mapping[str, str]
    is_restarted: bool
    check: tuple[str, ...]
    check_timeout_s: float
    check_pause_s: float
    ports: tuple[int, ...]
    published: Mapping[int, int]
    volumes: Mapping[str, str]


def read(file: Path, variables: Mapping[str, str]) -> dict[str, Any]:
    """The file after interpolation, as plain data.

    Raises:
        ComposeError: A variable that must be set isn't.
    """
    return dict(_interpolated(yaml.safe_load(file.read_text(encoding="utf-8")), variables))


def services(file: Path, variables: Mapping[str, str], profiles: frozenset[str] = frozenset()) -> dict[str, Service]:
    """The services that `docker compose up` would start.

    Raises:
        ComposeError: A variable that must be set isn't.
    """
    definitions = read(file, variables)["services"]
    return {
        name: _service(name, definition, variables)
        for name, definition in definitions.items()
        if not definition.get("profiles") or profiles & set(definition["profiles"])
    }


def _service(name: str, given: Mapping[str, Any], variables: Mapping[str, str]) -> Service:
    # A name without a value is passed on from where compose runs, and isn't set at all if it isn't set there.
    environment = {
        key: variables.get(key) if value is None else str(value) for key, value in given.get("environment", {}).items()
    }
    check = given.get("healthcheck", {})
    published = [port.split(":") for port in given.get("ports", [])]
    return Service(
        name=name,
        image=given["image"],
        command=tuple(given.get("command", [])),
        environment={key: value for key, value in environment.items() if value is not None},
        depends_on={other: rule["condition"] for other, rule in given.get("depends_on", {}).items()},
        is_restarted=given.get("restart", "no") != "no",
        check=tuple(check.get("test", [])),
        check_timeout_s=_seconds(check.get("timeout", "30s")),
        check_pause_s=_seconds(check.get("start_interval", check.get("interval", "30s"))),
        ports=tuple(int(port) for port in given.get("expose", [])),
        published={int(outside): int(inside) for _, outside, inside in published},
        volumes=dict(_volume(text) for text in given.get("volumes", [])),
    )


def _volume(text: str) -> tuple[str, str]:
    """(path in the container, volume or path outside)."""
    outside, inside, *_ = text.split(":")
    return inside, outside


def _seconds(duration: str) -> float:
    return float(duration[:-1]) * {"s": 1, "m": 60, "h": 3600}[duration[-1]]


def _interpolated(node: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(node, str):
        return _VARIABLE.sub(lambda match: _value(match, variables), node)
    if isinstance(node, dict):
        return {key: _interpolated(value, variables) for key, value in node.items()}
    if isinstance(node, list):
        return [_interpolated(value, variables) for value in node]
    return node


def _value(match: re.Match[str], variables: Mapping[str, str]) -> str:
    if match["escaped"]:
        return "$"
    name, rule, word = match["name"] or match["bare"], match["rule"] or "", match["word"] or ""
    value = variables.get(name)
    is_there = bool(value) if rule.startswith(":") else value is not None
    if rule.endswith("+"):
        return word if is_there else ""
    if is_there:
        return str(value)
    if rule.endswith("?"):
        raise ComposeError(f"required variable {name} is missing a value: {word}")
    return word
