from __future__ import annotations

import gzip
from datetime import date
from pathlib import Path

import obstore
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sbr_tasks.clicks.catalog import ClickCatalog
from sbr_tasks.clicks.ingest import ingest, ingest_missing
from sbr_tasks.clicks.sources import find_files, source_fingerprint
from sbr_tasks.errors import NotArrivedError, StoreError
from sbr_tasks.settings import Settings, load_settings, parse_overrides
from sbr_tasks.store import Store, open_backend

LINES = b"1,2014-09-24T09:58:32.124Z,5,0\n1,2014-09-24T09:59:00Z,6,0\n2,2014-09-25T09:59:00Z,6,0\n"


@pytest.fixture
def put(s3_options: dict[str, str], request: pytest.FixtureRequest) -> str:
    """Some objects in a bucket; returns the URL of their folder."""
    backend = open_backend("s3://clicks", s3_options)
    root = f"sources-{request.node.name.split('[')[0]}"
    for name in ("2014/09/24.dat", "2014/09/25.dat", "2014/10/01.dat", "2014/09/_hidden", "2014/09/notes.txt", "2014x/1.dat"):
        obstore.put(backend, f"{root}/{name}", LINES)
    return f"s3://clicks/{root}"


def settings_of(tmp_path: Path, path: str, options: dict[str, str], *others: str) -> Settings:
    given = {f"source.options.{name}": value for name, value in options.items()}
    return load_settings({"store": str(tmp_path / "store"), "source.path": str(path), **given, **parse_overrides(others)})


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("2014/09/24.dat", ["2014/09/24.dat"]),
        ("2014/09", ["2014/09/24.dat", "2014/09/25.dat", "2014/09/notes.txt"]),
        ("2014/09/", ["2014/09/24.dat", "2014/09/25.dat", "2014/09/notes.txt"]),
        ("2014/09/*.dat", ["2014/09/24.dat", "2014/09/25.dat"]),
        ("2014/*/2[0-4].dat", ["2014/09/24.dat"]),
        ("2014/*.dat", []),
        ("**/*1.dat", ["2014/10/01.dat", "2014x/1.dat"]),
        ("2014/**/01.dat", ["2014/10/01.dat"]),
        ("2014/0", []),
        ("2015", []),
    ],
)
def test_objects_are_found_as_files_are(
    put: str, s3_options: dict[str, str], tmp_path: Path, pattern: str, found: list[str]
) -> None:
    local = tmp_path / "clicks"
    for name in ("2014/09/24.dat", "2014/09/25.dat", "2014/10/01.dat", "2014/09/_hidden", "2014/09/notes.txt", "2014x/1.dat"):
        (local / name).parent.mkdir(parents=True, exist_ok=True)
        (local / name).write_bytes(LINES)
    if not found:
        for place in (f"{put}/{pattern}", str(local / pattern)):
            with pytest.raises(NotArrivedError, match=r"^Expected clicks in .*, but there is no such "):
                find_files(place, s3_options)
        return
    assert [str(file) for file in find_files(f"{put}/{pattern}", s3_options)] == [f"{put}/{name}" for name in found]
    assert [str(file) for file in find_files(str(local / pattern))] == [str(local / name) for name in found]


def test_bucket_gives_the_same_revisions_as_files(s3_options: dict[str, str], tmp_path: Path) -> None:
    backend = open_backend("s3://clicks", s3_options)
    times = pa.array([1_411_552_712_000_000, 1_411_552_713_000_000]).cast(pa.timestamp("us", tz="UTC"))
    pq.write_table(pa.table({"session_id": [1, 1], "item_id": [5, 6], "clicked_at": times}), tmp_path / "c.parquet")
    contents = {"c.dat": LINES, "c.dat.gz": gzip.compress(LINES), "c.parquet": (tmp_path / "c.parquet").read_bytes()}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        obstore.put(backend, f"same/{name}", content)
        format_name = "source.format=parquet" if name.endswith(".parquet") else "source.format=yoochoose"
        revisions = []
        for i, path in enumerate((str(tmp_path / name), f"s3://clicks/same/{name}")):
            store = Store(str(tmp_path / f"{name}-{i}"))
            revisions.append(ingest(store, settings_of(tmp_path, path, s3_options, format_name)).revisions)
        assert revisions[0] == revisions[1]
        assert revisions[0]


def test_changed_object_is_read_again_and_the_same_one_is_not(s3_options: dict[str, str], tmp_path: Path) -> None:
    backend, day = open_backend("s3://clicks", s3_options), date(2014, 9, 25)
    settings = settings_of(tmp_path, "s3://clicks/changes/*.dat", s3_options, "window.days=3")
    store = Store.open(settings)
    with pytest.raises(NotArrivedError):
        ingest_missing(store, settings, day)
    obstore.put(backend, "changes/a.dat", LINES)
    assert ingest_missing(store, settings, day) is not None
    assert ingest_missing(store, settings, day) is None
    obstore.put(backend, "changes/b.dat", b"9,2014-09-25T10:59:00Z,6,0\n")
    assert ingest_missing(store, settings, day) is not None
    incoming = ClickCatalog(store).days()[day].incoming
    assert incoming is not None
    assert incoming.rows == 2


def test_how_long_a_run_waits_is_no_reason_to_read_again(tmp_path: Path) -> None:
    (tmp_path / "c.dat").write_bytes(LINES)
    files = find_files(str(tmp_path / "c.dat"))
    first, second = (load_settings({"source.wait_minutes": n}) for n in (0, 60))
    assert source_fingerprint(files, first) == source_fingerprint(files, second)
    assert source_fingerprint(files, first) != source_fingerprint(files, load_settings({"timezone": "Asia/Tokyo"}))


def test_bucket_out_of_reach_is_an_error_that_is_tried_again(s3_options: dict[str, str]) -> None:
    with pytest.raises(StoreError, match=r"^s3://nowhere can't be listed: .*Check source\.path, source\.options and the cred"):
        find_files("s3://nowhere/*.dat", s3_options)
