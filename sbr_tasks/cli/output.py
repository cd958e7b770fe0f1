"""What commands print."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import typer
from pydantic_core import to_jsonable_python

from sbr_tasks.plain_text import printable
from sbr_tasks.summary import Result, fields_as_text


def show(result: Result | Mapping[str, Any], text: str | None = None, *, as_json: bool) -> None:
    """Prints a result as one JSON object, or as text.

    Args:
        result: What a step returned, or the fields to print.
        text: The text; None: the result's own, or a line for each field.
        as_json: Whether the option `--json` was given.
    """
    fields = to_jsonable_python(result)
    if as_json:
        echo(json.dumps(fields, ensure_ascii=False, allow_nan=False))
    elif text is not None:
        echo(text)
    else:
        echo(result if isinstance(result, Result) else fields_as_text(fields))


def show_tree(tree: Result | Mapping[str, Any], *, as_json: bool) -> None:
    """Prints nested fields as JSON in either case, indented for people."""
    show(tree, json.dumps(to_jsonable_python(tree), ensure_ascii=False, indent=2), as_json=as_json)


def echo(text: object, *, err: bool = False) -> None:
    """Prints text in which ids and reasons can't control the terminal."""
    typer.echo(printable(str(text)), err=err)
