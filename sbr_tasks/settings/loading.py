"""Reading the settings from file, environment and overrides, and explaining what is wrong with them."""

from __future__ import annotations

import difflib
import json
import logging
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from functools import reduce
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from sbr_tasks.errors import SettingsError
from sbr_tasks.plain_text import MASK
from sbr_tasks.settings.schema import Settings

logger = logging.getLogger(__name__)

SETTINGS_FILE = "sbr.toml"
FILE_VARIABLE = "SBR_SETTINGS"
ENV_PREFIX = "SBR_"

_ALIKE = 0.75
"""How alike the name of a variable must be to that of a setting to be a slip of the pen, from 0 to 1."""
_EXAMPLES = {
    "tuple_type": """a value, several with commas, or JSON such as '["a", "b"]'""",
    "dict_type": """JSON such as '{"region": "eu-west-1"}'""",
}
"""What is expected instead of a value that isn't a list or an object, by the type of pydantic's error."""


class _Variables(Settings, BaseSettings):
    """How variables of the environment are named; never instantiated."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, env_nested_delimiter="__")


class _Environment(EnvSettingsSource):
    """The environment. What isn't JSON is passed on as text, so that the settings themselves say what they expect."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        try:
            return super().decode_complex_value(field_name, field, value)
        except ValueError:
            return value


def load_settings(overrides: Mapping[str, Any] | None = None, *, cwd: Path | None = None) -> Settings:
    """Reads the settings from file, environment and overrides.

    Args:
        overrides: Settings that win over file and environment, by dotted name (`{"window.days": 7}`), nested
            (`{"window": {"days": 7}}`), or both; a place may be a `Path`.
        cwd: The folder that is searched for `sbr.toml`; the working folder by default.

    Raises:
        SettingsError: A key is unknown, a value is out of bounds, or a file is absent or isn't TOML.
    """
    folder = cwd or Path.cwd()
    file = settings_file(folder)
    _reject_unknown_variables()
    sources = {
        "the overrides (--set)": _nested(overrides or {}),
        "the environment": _Environment(_Variables)(),
        **({str(file): _read(file)} if file else {}),
    }
    try:
        settings = Settings.model_validate(reduce(_merged, reversed(sources.values())))
    except ValidationError as error:
        raise SettingsError(_explain(error, sources)) from error
    return _with_absolute_paths(settings, file.parent if file else folder)


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"Settings file {file} is not valid TOML: {error}.") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"Settings file {file} is not valid UTF-8: {error}.") from error


def _merged(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """The values of both trees; where both have one, that of `upper`."""
    merged = dict(lower)
    for key, value in upper.items():
        below = merged.get(key)
        merged[key] = _merged(below, value) if isinstance(below, Mapping) and isinstance(value, Mapping) else value
    return merged


def settings_file(folder: Path | None = None) -> Path | None:
    """The settings file for a folder, by default the working folder; None if there is none.

    Raises:
        SettingsError: `SBR_SETTINGS` names a file that isn't there.
    """
    folder = folder or Path.cwd()
    named = os.environ.get(FILE_VARIABLE)
    if named:
        file = Path(named).expanduser().resolve()
        if not file.is_file():
            raise SettingsError(f"{FILE_VARIABLE} names {file}, but there is no such file; create it or unset {FILE_VARIABLE}.")
        return file
    file = (folder / SETTINGS_FILE).resolve()
    return file if file.is_file() else None


def parse_overrides(words: Iterable[str]) -> dict[str, Any]:
    """Parses overrides of the command line (`window.days=7`), by dotted name; of repeated ones, the last counts.

    Raises:
        SettingsError: A word isn't `key=value`.
    """
    overrides: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise SettingsError(f"Expected --set key=value, such as --set window.days=7; found {word!r}.")
        try:
            overrides[key.strip()] = json.loads(text)
        except json.JSONDecodeError:
            overrides[key.strip()] = text
    return overrides


def _nested(overrides: Mapping[str, Any]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key, value in overrides.items():
        *sections, leaf = key.split(".")
        node = tree
        for section in sections:
            node = node.setdefault(section, {})
            if not isinstance(node, dict):
                raise SettingsError(f"{key!r} sets a part of {section!r}, which is also given as a whole; use one of them.")
        node[leaf] = os.fspath(value) if isinstance(value, os.PathLike) else deepcopy(value)
    return tree


def _reject_unknown_variables() -> None:
    sections = {_variable(name) for name in Settings.model_fields}
    for variable in os.environ:
        name = variable.upper()
        if name.startswith(ENV_PREFIX) and name != FILE_VARIABLE and name.split("__", 1)[0] not in sections:
            close = difflib.get_close_matches(name, [*sections, *map(_variable, _all_keys())], n=1, cutoff=_ALIKE)
            if not close and "__" not in name:  # of another program, or of tests
                logger.warning("The variable %s isn't a setting; it is ignored.", variable)
                continue
            hint = f" Did you mean {close[0]}?" if close else ""
            raise SettingsError(f"Unknown setting {variable!r} in the environment.{hint} Known: {', '.join(sorted(sections))}.")


def _explain(error: ValidationError, sources: Mapping[str, Mapping[str, Any]]) -> str:
    sentences = []
    for problem in error.errors():
        loc = [str(part) for part in problem["loc"] if part != "[key]"]
        key = ".".join(loc)
        where = next((source for source, tree in sources.items() if _holds(tree, loc)), "the settings")
        if problem["type"] == "extra_forbidden":
            fields = _fields_at(loc[:-1])
            elsewhere = [setting for setting in _all_keys() if setting.rpartition(".")[2] == loc[-1]]
            close = [".".join([*loc[:-1], name]) for name in difflib.get_close_matches(loc[-1], fields, n=1)]
            hint = f" Did you mean {' or '.join(map(repr, elsewhere or close))}?" if elsewhere or close else ""
            sentences.append(f"Unknown setting {key!r} in {where}.{hint} Known here: {', '.join(fields)}.")
        else:
            expected = _EXAMPLES.get(problem["type"])
            reason = f"expected {expected}" if expected else problem["msg"].removeprefix("Value error, ")
            value = MASK if loc[0] == "store_options" or loc[:2] == ["source", "options"] else repr(problem["input"])
            sentences.append(f"Setting {key!r} in {where} is {value}: {reason[0].lower()}{reason[1:]}.")
    return " ".join(sentences)


def _holds(tree: Any, loc: list[str]) -> bool:
    """Whether a source gives a value, or a list or text that it is a part of."""
    for part in loc:
        if not isinstance(tree, Mapping):
            return True
        if part not in tree:
            return False
        tree = tree[part]
    return True


def _fields_at(loc: list[str]) -> list[str]:
    model: Any = Settings
    for part in loc:
        model = model.model_fields[part].annotation
    return list(model.model_fields)


def _all_keys() -> Iterator[str]:
    """All settings, such as `store` and `window.days`."""
    for name, field in Settings.model_fields.items():
        section = field.annotation
        if isinstance(section, type) and issubclass(section, BaseModel):
            yield from (f"{name}.{leaf}" for leaf in section.model_fields)
        else:
            yield name


def _variable(key: str) -> str:
    """The environment variable of a setting."""
    return f"{ENV_PREFIX}{key.replace('.', '__')}".upper()


def is_url(place: str) -> bool:
    """Whether a store, source or folder is named by a URL (s3://, gs://, az://, file://, memory://) and not by a path."""
    return "://" in place


def absolute_place(place: str, base: Path) -> str:
    """A URL as it is; a path as an absolute one, seen from the folder `base`."""
    return place if is_url(place) else str((base / Path(place).expanduser()).resolve())


def _with_absolute_paths(settings: Settings, base: Path) -> Settings:
    store = absolute_place(settings.store, base)
    inside = Path(store) if not is_url(store) else base.resolve() / "var"
    if settings.mlflow.tracking_uri is None and (bad := [letter for letter in "?%" if letter in str(inside)]):
        raise SettingsError(
            f"The folder {str(inside)!r} has {' and '.join(bad)} in its name, which the address of MLflow's database in it "
            "can't hold. Choose another store (setting store), or say where MLflow is (mlflow.tracking_uri)."
        )
    source, recommend, mlflow = settings.source, settings.recommend, settings.mlflow
    return settings.model_copy(
        update={
            "store": store,
            "scratch": absolute_place(settings.scratch or str(inside / "scratch"), base),
            "source": source.model_copy(update={"path": absolute_place(source.path, base) if source.path else None}),
            "recommend": recommend.model_copy(
                update={"exclude": absolute_place(recommend.exclude, base) if recommend.exclude else None}
            ),
            "mlflow": mlflow.model_copy(
                update={
                    "tracking_uri": mlflow.tracking_uri or f"sqlite:///{inside / 'mlflow' / 'mlflow.db'}",
                    "artifact_root": absolute_place(mlflow.artifact_root or str(inside / "mlflow" / "artifacts"), base),
                }
            ),
        }
    )
