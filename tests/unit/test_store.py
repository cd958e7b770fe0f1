from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pytest

from sbr_tasks.errors import AlreadyExistsError, DamagedError, FormatError, StoreError
from sbr_tasks.report.overview import shared_store
from sbr_tasks.settings import load_settings
from sbr_tasks.store import (
    FileRecord,
    NumberedLog,
    Record,
    Store,
    code_version,
    content_hash,
    file_name,
    fingerprint,
    from_parquet,
    kinds,
    syntax_of,
    to_parquet,
)
from sbr_tasks.store.kinds import Kind
from sbr_tasks.store.objects import FORMAT
from sbr_tasks.workspace import Workspace

LOG = Kind("log/{number:08d}.json", "")


@pytest.fixture(params=["folder", "s3", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return Store(str(tmp_path / "a store"))
    if request.param == "s3":
        options = request.getfixturevalue("s3_options")
        return Store(f"s3://clicks/{request.node.name.replace('[', '-').replace(']', '')}", options)
    return Store("memory:///")


def test_second_writer_of_a_key_is_refused_and_changes_nothing(store: Store) -> None:
    store.put_new("commits/1.json", b"first")
    with pytest.raises(AlreadyExistsError):
        store.put_new("commits/1.json", b"second")
    assert store.get("commits/1.json") == b"first"


def test_exactly_one_of_many_concurrent_writers_creates_an_entry(store: Store) -> None:
    log = NumberedLog(store, LOG)
    start = threading.Barrier(8)

    def write(writer: int) -> bool:
        start.wait()
        try:
            log.create(1, {"writer": writer})
        except AlreadyExistsError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        won = [writer for writer, created in enumerate(pool.map(write, range(8))) if created]
    assert [entry.body["writer"] for entry in log.entries()] == won
    assert len(won) == 1


class Written(Record):
    """A record of who wrote it."""

    writer: int


def test_concurrent_appends_lose_nothing(store: Store) -> None:
    log = NumberedLog(store, LOG)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda writer: log.append(lambda _: Written(writer=writer)), range(12)))
    entries = log.entries()
    assert [entry.number for entry in entries] == list(range(1, 13))
    assert sorted(entry.body["writer"] for entry in entries) == list(range(12))


def test_record_is_read_as_it_was_written(store: Store) -> None:
    store.create_record("models/x/manifest.json", {"b": (1, 2.5), "a": {3: None}, "é": "ü"})
    assert store.get_json("models/x/manifest.json") == {"a": {"3": None}, "b": [1, 2.5], "é": "ü"}
    with pytest.raises(AlreadyExistsError):
        store.create_record("models/x/manifest.json", {})


class Made(Record):
    """A record of a file."""

    file: FileRecord


def test_record_is_made_once_and_again_where_it_can_not_be_used(store: Store) -> None:
    made: list[str] = []

    def make() -> Made:
        made.append("made")
        return Made(file=store.publish("models/x/file", b"content"))

    record = store.once("models/x/manifest.json", Made, make)
    assert store.once("models/x/manifest.json", Made, make, check=lambda one: store.read(one.file)) == record
    assert len(made) == 1
    store.replace(record.file.key, b"damaged")
    assert store.once("models/x/manifest.json", Made, make) == record, "nobody asked whether its file is whole"
    with pytest.raises(DamagedError):
        store.read(record.file)
    store.delete(record.file.key)
    assert store.once("models/x/manifest.json", Made, make, check=lambda one: store.read(one.file)) == record
    assert (len(made), store.read(record.file)) == (2, b"content")


def test_record_that_another_run_made_first_wins(store: Store) -> None:
    first = Made(file=FileRecord(key="first", size=0, sha256=""))

    def make() -> Made:
        store.create_record("models/x/manifest.json", first.as_dict())
        return Made(file=FileRecord(key="second", size=0, sha256=""))

    assert store.once("models/x/manifest.json", Made, make) == first


def test_record_under_another_key_is_refused(store: Store) -> None:
    store.create_record("log/00000001.json", {"day": "2020-06-01"})
    store.put_new("log/00000002.json", store.get("log/00000001.json"))
    with pytest.raises(DamagedError, match=r"log/00000002\.json is damaged: it was changed after it was written"):
        NumberedLog(store, LOG).entries()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"17",
        b"{}",
        b'{"checksum": NaN, "day": 1}',
        b'{"checksum": "x", "day": NaN}',
        b'{"checksum": "x", "day": "\\ud800"}',
        b'{"checksum": "x", "day": "\xff"}',
        b'{"checksum": "x", "day": ' + b"9" * 5000 + b"}",
        b"[" * 100_000,
        b'{"day":' * 100_000 + b"1" + b"}" * 100_000,
        b'{"checksum": ["x"], "day": 1}',
    ],
    ids=lambda content: content[:24].decode("latin-1"),
)
def test_whatever_takes_the_place_of_a_record_is_damage_in_one_line(store: Store, content: bytes) -> None:
    store.put_new("log/00000001.json", content)
    with pytest.raises(DamagedError, match=r"log/00000001\.json is damaged: ") as caught:
        store.get_json("log/00000001.json")
    assert len(str(caught.value).splitlines()) == 1


def test_published_file_is_verified_by_its_name(store: Store) -> None:
    record = store.publish("validation/result.json", b"{}")
    assert store.get_published(record.key) == b"{}"
    store.replace(record.key, b"{ }")
    with pytest.raises(DamagedError, match="doesn't match the hash in its name"):
        store.get_published(record.key)


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a/../../up", "", "a\\b", "a\0b", "a/\x1b[2J", "a\nb", "."])
def test_names_that_lead_out_of_a_folder_are_refused(name: str) -> None:
    with pytest.raises(DamagedError, match="which leads elsewhere"):
        file_name(name)
    assert str(file_name("variables/variables.index")) == "variables/variables.index"


def test_damaged_file_is_refused(store: Store) -> None:
    record = store.publish("clicks/day.parquet", b"what was published")
    assert store.read(record) == b"what was published"
    store.replace(record.key, b"what is there now")
    with pytest.raises(DamagedError, match=r"clicks/day\.\w{12}\.parquet is damaged: its record says 18 bytes"):
        store.read(record)


def test_other_content_never_takes_the_place_of_what_was_published(store: Store) -> None:
    first, second = (store.publish("models/weights.npz", content) for content in (b"one", b"two"))
    assert (store.read(first), store.read(second)) == (b"one", b"two")
    assert store.publish("models/weights.npz", b"one") == first


def test_missing_file_is_named(store: Store) -> None:
    with pytest.raises(StoreError, match=r"nowhere\.parquet is missing\. Restore it from a backup; "):
        store.read(FileRecord(key="nowhere.parquet", size=1, sha256="00"))


def test_table_survives_publication(store: Store) -> None:
    table = pa.table({"id": [3, 1], "at": pa.array([1, 2], pa.timestamp("us", tz="UTC")), "text": ["a", None]})
    assert store.read_table(store.publish_table("t.parquet", table)).equals(table)


def test_keys_of_a_folder_are_sorted_and_complete(store: Store) -> None:
    for name in ("b", "a/c", "a/b"):
        store.put_new(f"folder/{name}", b"")
    store.put_new("elsewhere", b"")
    assert store.keys("folder") == ["folder/a/b", "folder/a/c", "folder/b"]
    assert store.keys("nothing") == []
    assert store.exists("folder/b")
    assert not store.exists("folder/z")


def test_log_with_a_hole_is_refused(tmp_path: Path) -> None:
    log = NumberedLog(Store(str(tmp_path)), LOG)
    for number in (1, 2, 3):
        log.create(number, {})
    (tmp_path / "log" / "00000002.json").unlink()
    with pytest.raises(StoreError, match="has no entry 2 but an entry 3"):
        log.entries()


@pytest.mark.parametrize("ids", [[1, 2, 3], ["x", "yy", "x"]])
def test_content_hash_depends_on_rows_only(ids: list[object]) -> None:
    table = pa.table({"id": ids, "at": pa.array([1, 2, 3], pa.timestamp("us", tz="UTC"))})
    chunked = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    assert content_hash(table) == content_hash(chunked)
    assert content_hash(table.slice(1)) == content_hash(pa.concat_tables([chunked]).slice(1))
    assert content_hash(table) != content_hash(table.take([1, 0, 2]))
    assert content_hash(table) != content_hash(table.slice(0, 2))


def test_content_hash_tells_null_from_empty_and_moved_characters() -> None:
    hashes = {content_hash(pa.table({"s": pa.array(rows, pa.string())})) for rows in (["a", "b"], ["ab", ""], ["ab", None])}
    assert len(hashes) == 3


def test_fingerprint_ignores_the_order_of_keys() -> None:
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1}) != fingerprint({"a": 1, "b": 3})


def test_code_version_differs_by_package() -> None:
    assert code_version("window") == code_version("window") != code_version("clicks")


SOURCE = """
LIMIT = 3

def double(x: int = 1) -> int:
    return 2 * x
"""
PROSE = """
'''What this module is for.'''
LIMIT = 3  # why three
'''What the limit means.'''


def double(
    x: int = 1,
) -> int:
    '''Twice x.'''
    # why
    return 2 * x
"""


def test_prose_and_layout_leave_the_code_version_alone() -> None:
    assert syntax_of(PROSE) == syntax_of(SOURCE)


@pytest.mark.parametrize(("was", "becomes"), [("2 * x", "x * 2"), ("= 3", "= 3.0"), ("= 1", "= None"), ("return ", "")])
def test_each_change_of_behaviour_changes_the_code_version(was: str, becomes: str) -> None:
    assert syntax_of(SOURCE.replace(was, becomes)) != syntax_of(SOURCE)


def test_store_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match="can't be opened"):
        Store(str(tmp_path / "file" / "store"))


def test_reading_creates_no_folder_and_sees_what_another_writes(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "store"
    reader = Store(str(folder))
    assert NumberedLog(reader, LOG).entries() == []
    assert not reader.exists("a")
    with pytest.raises(DamagedError, match="is missing"):
        reader.get("a")
    assert not list(tmp_path.iterdir())
    Store(str(folder)).put_new("a", b"1")
    assert reader.get("a") == b"1"


def test_write_that_is_refused_says_what_to_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(tmp_path / "store"))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(StoreError, match=r"could not be written .*Check that the store \(setting store\) may be written"):
        Store(str(tmp_path / "store")).put_new("a", b"1")


def test_entries_of_a_log_are_read_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    log, read = NumberedLog(store, LOG), list[str]()
    get = store.get
    monkeypatch.setattr(store, "get", lambda key: read.append(key) or get(key))
    for number in (1, 2):
        log.create(number, {"n": number})
        assert [entry.body for entry in log.entries()] == [{"n": n} for n in range(1, number + 1)]
    assert read == ["log/00000001.json", "log/00000002.json"]


def test_parquet_comes_back_as_it_was_in_some_columns_and_as_dictionaries() -> None:
    table = pa.table({"a": ["x", "y", "x"], "b": [1, 2, 3]})
    data = to_parquet(table)
    assert from_parquet(data).equals(table)
    assert from_parquet(data, ["b"]).column_names == ["b"]
    assert pa.types.is_dictionary(from_parquet(data, dictionaries=["a"]).schema.field("a").type)


def test_store_of_another_format_is_refused(tmp_path: Path) -> None:
    settings = load_settings({"store": str(tmp_path / "store")})
    NumberedLog(Store.open(settings), kinds.COMMIT).create(1, {"kind": "closing", "at": "", "days": {}})
    assert Store.open(settings).get_json("commits/format.json") == {"format": FORMAT}
    (tmp_path / "store" / "commits" / "format.json").unlink()
    with pytest.raises(StoreError, match=f"Expected a store of format {FORMAT} .*, found format 1, .* name an empty place"):
        Store.open(settings)
    Store(str(tmp_path / "store")).create_record("commits/format.json", {"format": FORMAT + 1})
    with pytest.raises(StoreError, match=f"found format {FORMAT + 1}"):
        Store.open(settings)


def test_store_of_another_format_is_refused_by_pages_and_copies_too(tmp_path: Path) -> None:
    other, new = str(tmp_path / "other"), str(tmp_path / "new")
    Store(other).create_record("commits/format.json", {"format": FORMAT + 1})
    with pytest.raises(FormatError):
        shared_store(load_settings({"store": other}))
    workspace = Workspace.open({"store": new})
    (tmp_path / "new").mkdir()
    for source, target in ((other, new), (new, other)):
        with pytest.raises(FormatError):
            workspace.copy_store(target, source=source)


def test_store_of_another_format_is_not_written_to(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    store.create_record("commits/format.json", {"format": FORMAT + 1})
    with pytest.raises(StoreError, match=f"found format {FORMAT + 1}"):
        NumberedLog(store, kinds.COMMIT).create(1, {})
    assert store.keys("commits") == ["commits/format.json"]
