"""Mutated files of every format, from a seed: a valid line is stored exactly, or nothing is and the message is one sentence."""

from __future__ import annotations

import gzip
import json
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sbr_tasks.clicks.ingest import read_files
from sbr_tasks.clicks.rejects import Rejects
from sbr_tasks.errors import SourceError
from sbr_tasks.settings import SourceSettings

pytestmark = pytest.mark.slow

Click = tuple[object, ...]

N_LINES = 12
AT_S = 1_577_872_800
PIECES = [
    b"null",
    b"{}",
    b'"',
    b"\\",
    b"\0",
    b"\xff",
    b"\xc3",
    b"\r",
    b"\n",
    b"-",
    b"0",
    b"1e9",
    b"::",
    b"\t",
    b"}{",
    b"[" * 2000,
]
VALUES = [
    b"NaN",
    b"-Infinity",
    b"Inf",
    b"true",
    b"null",
    b"5",
    b'"5"',
    b"05",
    b"-0",
    b"5.0",
    b"9223372036854775808",
    b'"\\ud800"',
    b'"\\u0035"',
    b"{}",
    b"[" * 3000 + b"]" * 3000,
    b'"a, b"',
]
"""What replaces a value, in each format."""


def click(i: int) -> Click:
    return (i % 4, 100 + i, (AT_S + i) * 1_000_000)


def iso(i: int) -> str:
    return f"2020-01-01T10:00:{i:02d}Z"


LINES: dict[str, tuple[str, Callable[[int], str]]] = {
    "yoochoose": ("", lambda i: f"{i % 4},{iso(i)},{100 + i},S"),
    "gru4rec": ("SessionId\tItemId\tTime", lambda i: f"{i % 4}\t{100 + i}\t{AT_S + i}"),
    "csv": ("session_id,item_id,clicked_at,x", lambda i: f'{i % 4},"{100 + i}",{iso(i)},"a,b"'),
    "jsonl": (
        "",
        lambda i: json.dumps({"session_id": i % 4, "item_id": 100 + i, "clicked_at": iso(i), "x": {"y": "}" if i == 7 else 0}}),
    ),
    "diginetica": ("session_id;item_id;timeframe;eventdate", lambda i: f"{i % 4};{100 + i};{36_000_000 + i * 1000};2020-01-01"),
    "rees46": (
        "event_time,event_type,product_id,category_id,user_session",
        lambda i: f"2020-01-01 10:00:{i:02d} UTC,view,{100 + i},7,{i % 4}",
    ),
    "otto": (
        "",
        lambda i: json.dumps({"session": i % 4, "events": [{"aid": 100 + i, "ts": (AT_S + i) * 1000, "type": "clicks"}]}),
    ),
    "30music": ("SessionId\tUserId\tItemId\tTime", lambda i: f"{i % 4}\t9\t{100 + i}\t{AT_S + i}"),
}
"""Header and lines, each line one click."""


def mutate(data: bytes, draw: random.Random) -> bytes:
    """Changes bytes in one of a few ways."""
    at = draw.randrange(len(data) + 1)
    kind = draw.randrange(6)
    if kind == 0:
        return data[:at] + bytes([draw.randrange(256)]) + data[at + 1 :]
    if kind == 1:
        return data[:at] + draw.choice(PIECES) + data[at:]
    if kind == 2:
        return data[:at] + data[at + draw.randrange(1, 20) :]
    if kind == 3:
        start = draw.randrange(len(data) + 1)
        return data[:at] + data[start : start + draw.randrange(40)] + data[at:]
    if kind == 4 and (values := list(re.finditer(rb"(?<=[:,;\t ])[^,;\t{}\[\] ]+", data))):
        value = draw.choice(values)
        return data[: value.start()] + draw.choice(VALUES) + data[value.end() :]
    return draw.choice(PIECES)


def stored(file: Path, source: SourceSettings) -> Counter[Click] | None:
    """What is stored of a file; None where it is refused, in one sentence."""
    try:
        tables = list(read_files([file], source, Rejects(0.95)))
    except SourceError as error:
        message = str(error)
        assert re.fullmatch(r"[^\x00-\x1f\x7f]{10,}\.", message), ascii(message)
        return None
    rows = [row for table in tables for row in table.select(["session_id", "item_id", "clicked_at"]).to_pylist()]
    times = [us for table in tables for us in table.column("clicked_at").cast(pa.int64()).to_pylist()]
    return Counter((_number(row["session_id"]), _number(row["item_id"]), us) for row, us in zip(rows, times, strict=True))


def _number(value: object) -> object:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


def check_lines(folder: Path, format_name: str, draw: random.Random) -> bool:
    """Mutates some lines of a file; whether the others were stored. The fate of the mutated ones is what it is alone."""
    header, line = LINES[format_name]
    lines = [line(i).encode() for i in range(N_LINES)]
    touched = set(draw.sample(range(1, N_LINES), draw.choice([1, 1, 2, 3])))
    for i in touched:
        lines[i] = mutate(lines[i], draw)
    start = [header.encode()] if header else []
    content = b"\n".join([*start, *lines]) + b"\n"
    is_packed = draw.random() < 0.2
    file = folder / f"clicks{'.gz' if is_packed else ''}"
    file.write_bytes(gzip.compress(content, 1) if is_packed else content)
    source = SourceSettings(format=format_name)  # type: ignore[arg-type]
    found = stored(file, source)
    if found is None:
        return False
    expected = Counter(click(i) for i in range(N_LINES) if i not in touched)
    for i in touched:
        # A line that is valid beside one good line is valid beside any, and gives the same clicks.
        file.write_bytes(
            gzip.compress(b"\n".join([*start, lines[0], lines[i]]), 1)
            if is_packed
            else b"\n".join([*start, lines[0], lines[i]])
        )
        alone = stored(file, source)
        assert alone is not None
        expected += alone - Counter([click(0)])
    assert found == expected, (format_name, [lines[i] for i in touched], found - expected, expected - found)
    return True


def check_bytes(folder: Path, content: bytes, name: str, source: SourceSettings, draw: random.Random) -> None:
    """Damages a packed file anywhere: all clicks, fewer of them, or a sentence; never another traceback."""
    file = folder / name
    damaged = content
    for _ in range(draw.choice([1, 1, 2, 5])):
        damaged = mutate(damaged, draw)
    file.write_bytes(damaged)
    found = stored(file, source)
    if name.endswith(".gz") and found is not None:  # a checksum guards it
        assert found == Counter(click(i) for i in range(N_LINES)) or damaged[:2] != b"\x1f\x8b" or len(damaged) != len(content)


def packed_yoochoose() -> bytes:
    return gzip.compress("".join(LINES["yoochoose"][1](i) + "\n" for i in range(N_LINES)).encode(), mtime=0)


def parquet_file(folder: Path) -> bytes:
    columns = list(zip(*(click(i) for i in range(N_LINES)), strict=True))
    table = pa.table({"session_id": columns[0], "item_id": list(map(str, columns[1])), "clicked_at": columns[2]})
    pq.write_table(table, folder / "whole.parquet", row_group_size=5)
    return (folder / "whole.parquet").read_bytes()


def fuzz(folder: Path, seed: int, n_mutations: int) -> int:
    """Runs so many mutations, of lines and of packed files; returns how many files of lines were stored."""
    draw, n_stored = random.Random(seed), 0
    packed, columnar = packed_yoochoose(), parquet_file(folder)
    parquet = SourceSettings(format="parquet", time_unit="us")
    for n in range(n_mutations):
        kind = n % (len(LINES) + 2)
        if kind < len(LINES):
            n_stored += check_lines(folder, list(LINES)[kind], draw)
        elif kind == len(LINES):
            check_bytes(folder, packed, "clicks.dat.gz", SourceSettings(), draw)
        else:
            check_bytes(folder, columnar, "clicks.parquet", parquet, draw)
    return n_stored


def test_mutated_files_lose_no_valid_line(tmp_path: Path) -> None:
    assert fuzz(tmp_path, seed=18, n_mutations=2_000) > 1_400


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_many_mutated_files_lose_no_valid_line(tmp_path: Path, seed: int) -> None:
    assert fuzz(tmp_path, seed, n_mutations=5_000) > 3_500
