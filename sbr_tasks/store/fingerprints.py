"""Fingerprints: short texts that are equal if inputs, code or content are equal."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from sbr_tasks.store.records import to_json


def fingerprint(inputs: Mapping[str, Any]) -> str:
    """16 hexadecimal digits that identify a step's inputs: equal inputs, equal digits."""
    return hashlib.sha256(to_json(inputs)).hexdigest()[:16]


@cache
def code_version(*packages: str) -> str:
    """16 hexadecimal digits that identify the code of some packages of `sbr_tasks`, such as `"window"`.

    They change when behaviour may change, but not with a comment, a docstring or the formatting.
    """
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for package in packages:
        for file in sorted((root / package).rglob("*.py")):
            digest.update(f"{file.relative_to(root)}\0{syntax_of(file.read_text(encoding='utf-8'))}\0".encode())
    return digest.hexdigest()[:16]


def syntax_of(source: str) -> str:
    """The syntax tree of a Python program as text, without docstrings; equal in all versions of Python."""

    def text_of(value: object) -> str:
        if isinstance(value, ast.AST):
            # Empty fields are left out: newer versions of Python have more of them.
            fields = (f"{name}={text_of(part)}" for name, part in ast.iter_fields(value) if part is not None and part != [])
            return f"{type(value).__name__}({', '.join(fields)})"
        if isinstance(value, list):
            return f"[{', '.join(text_of(part) for part in value if not _is_docstring(part))}]"
        return repr(value)

    return text_of(ast.parse(source))


def _is_docstring(node: object) -> bool:
    """Whether a node is a bare string: the docstring of a module, class, function or constant."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def content_hash(table: pa.Table) -> str:
    """16 hexadecimal digits that identify a table's rows, whatever the file format or library version."""
    digest = hashlib.sha256()
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
        digest.update(f"{name}:{column.type}:{len(column)};".encode())
        if column.null_count:
            digest.update(np.packbits(column.is_null().to_numpy(zero_copy_only=False)).tobytes())
        if pa.types.is_string(column.type):
            filled = column.fill_null("")
            _, offsets, text = filled.buffers()
            ends = np.frombuffer(offsets or bytes(4), np.int32)[filled.offset : filled.offset + len(filled) + 1]
            digest.update(np.diff(ends).tobytes())
            if text is not None:
                digest.update(memoryview(text)[int(ends[0]) : int(ends[-1])])
        else:
            digest.update(column.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False).tobytes())
    return digest.hexdigest()[:16]
