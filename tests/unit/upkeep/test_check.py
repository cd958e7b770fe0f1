from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from sbr_tasks.errors import DamagedError
from sbr_tasks.registry.gate import Outcome
from sbr_tasks.registry.log import PromotionLog
from sbr_tasks.report.version import keep_verdict
from sbr_tasks.settings import Settings
from sbr_tasks.store import Store
from sbr_tasks.upkeep.check import Orphans, verify_store
from sbr_tasks.upkeep.clear import remove_day

from .shop import DAYS, LAST, NOW, bring_window

pytestmark = pytest.mark.slow

HARM: dict[str, Callable[[Path], object]] = {
    "deleted": lambda file: file.unlink(),
    "truncated": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "flipped": lambda file: file.write_bytes(bytes([file.read_bytes()[0] ^ 1]) + file.read_bytes()[1:]),
}


def one(folder: Path, pattern: str) -> Path:
    """The last file that fits."""
    return sorted((folder / "store").glob(pattern))[-1]


def key_of(folder: Path, file: Path) -> str:
    return file.relative_to(folder / "store").as_posix()


def test_undisturbed_store_is_whole(store: Store) -> None:
    checked = verify_store(store)
    assert (checked.faults, checked.orphaned.keys) == ((), ())
    assert checked.files == len(store.keys(""))
    assert "whole files" in str(checked)


@pytest.mark.parametrize("harm", HARM)
@pytest.mark.parametrize(
    ("pattern", "remedy"),
    [
        ("clicks/*/*/clicks.*.parquet", f"sbr store forget {LAST}"),
        ("validation/*/*/data_docs.*.html", f"sbr store forget {LAST}"),
        ("windows/*/*/train.*.parquet", f"sbr window --day {LAST}"),
        ("models/*/*/weights.*.npz", f"run {LAST} again"),
        ("models/*/manifest.json", f"run {LAST} again"),
        ("windows/*/*/manifest.json", f"sbr window --day {LAST}"),
        ("evaluations/*/*/*.parquet", "scored again"),
        ("serving/gru4rec/4/saved_model.pb", "sbr repair"),
        ("serving/published/00000004.json", "sbr repair"),
        ("promotions/00000002.json", "from a backup"),
        ("commits/clicks/00000002.json", "from a backup"),
    ],
)
def test_each_fault_is_found_named_and_has_a_remedy(store: Store, tmp_path: Path, harm: str, pattern: str, remedy: str) -> None:
    file = one(tmp_path, pattern)
    is_record = file.suffix == ".json"
    if harm == "truncated" and is_record:
        file.write_bytes(file.read_bytes()[:-3])  # without its last brace; a record without its last newline says the same
    else:
        HARM[harm](file)
    checked = verify_store(Store(store.url))
    fault = {fault.key: fault for fault in checked.faults}[key_of(tmp_path, file)]
    assert fault.kind == ("missing" if harm == "deleted" else "damaged")
    assert remedy in fault.remedy
    assert fault.record
    assert f"{fault.kind}: {fault.key}" in str(checked)


def test_manifest_that_says_other_inputs_than_its_name_is_damaged(store: Store, tmp_path: Path) -> None:
    file = one(tmp_path, "windows/*/*/manifest.json")
    file.write_text(file.read_text().replace('"shortest": 2', '"shortest": 3'))
    (fault,) = verify_store(store).faults
    assert (fault.kind, fault.key) == ("damaged", key_of(tmp_path, file))


@pytest.mark.parametrize(
    "key",
    [
        "clicks/day=2020-06-30/rev=00/clicks.000000000000.parquet",
        "windows/day=2020-06-30/00/train.000000000000.parquet",
        "models/2020-06-30-00000000/00/weights.000000000000.npz",
        "serving/gru4rec/9/saved_model.pb",
        "reports/day=2020-06-30/00000099.html",
        "reports/day=2020-06-30/2020-06-30-00000000.json",
        "recommendations/2020-06-30-00000000/next_items.parquet",
        "clicks/day=2020-06-30/rev=00/clicks.000000000000.parquet#1",
    ],
)
def test_what_no_record_names_is_an_orphan_and_no_fault(store: Store, tmp_path: Path, key: str) -> None:
    file = tmp_path / "store" / key
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"left over")
    checked = verify_store(store)
    assert checked.faults == ()
    assert checked.orphaned == Orphans(files=1, bytes=9, keys=(key,))


def test_verdict_on_a_version_without_a_decision_is_whole(store: Store) -> None:
    decision = next(iter(PromotionLog(store).state().decisions.values()))
    keep_verdict(store, decision.model_copy(update={"number": 0, "outcome": Outcome.NOT_ASKED}))
    checked = verify_store(store)
    assert (checked.faults, checked.orphaned.keys) == ((), ())


def test_folders_of_others_are_left_alone(store: Store, tmp_path: Path) -> None:
    for name in ("mlflow/mlflow.db", "scratch/export-1-x/file", "notes.txt"):
        (tmp_path / "store" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "store" / name).write_bytes(b"not the store's")
    assert verify_store(store).orphaned.keys == ()


def test_checkpoint_is_verified_by_the_hash_that_it_begins_with(store: Store) -> None:
    store.replace("checkpoints/0123456789abcdef.npz", bytes(64))
    (fault,) = verify_store(store).faults
    assert (fault.kind, fault.key) == ("damaged", "checkpoints/0123456789abcdef.npz")


def test_champion_without_its_serving_copy_is_reported(store: Store, tmp_path: Path) -> None:
    number = PromotionLog(store).state().champion_entry
    for file in (tmp_path / "store" / "serving").rglob("*"):
        if file.is_file():
            file.unlink()
    (fault,) = verify_store(store).faults
    assert (fault.kind, fault.key) == ("missing", f"serving/published/{number:08d}.json")
    assert "`sbr repair`" in fault.remedy


def test_damaged_day_is_forgotten_and_comes_from_the_source_again(store: Store, settings: Settings, tmp_path: Path) -> None:
    file = one(tmp_path, f"clicks/day={DAYS[-2]}/*/clicks.*.parquet")
    before = file.read_bytes()
    HARM["flipped"](file)
    assert len(verify_store(store).faults) == 1
    remove_day(store, DAYS[-2], reason="damaged", now=NOW)
    assert verify_store(store).faults == ()
    window = bring_window(store, settings, LAST)
    assert DAYS[-2] in window.inputs.revisions
    assert file.read_bytes() == before
    assert verify_store(store).faults == ()


def test_one_changed_character_of_any_record_is_noticed(store: Store, tmp_path: Path) -> None:
    """Wherever it leaves valid JSON: a digit of a day, of a count, of a hash, or a letter of a name."""
    keys = [key for key in store.keys("") if key.endswith(".json") and not key.startswith("validation/")]
    n_changed = 0
    for key in keys:
        content = store.get(key)
        for place in range(0, len(content), max(1, len(content) // 50)):
            other = {ord("1"): b"2", ord("a"): b"b"}.get(content[place], b"1")
            changed = content[:place] + other + content[place + 1 :]
            try:
                is_other = json.loads(changed) != json.loads(content)
            except ValueError:
                is_other = False
            if not is_other:
                continue
            n_changed += 1
            (tmp_path / "store" / key).write_bytes(changed)
            with pytest.raises(DamagedError):
                store.get_json(key)
        (tmp_path / "store" / key).write_bytes(content)
    assert n_changed > 10 * len(keys)
    assert verify_store(store).faults == ()


def test_damaged_profile_is_found_and_has_a_remedy(store: Store, tmp_path: Path) -> None:
    file = one(tmp_path, "profiles/*/*/manifest.json")
    file.write_bytes(file.read_bytes()[:-3])
    fault = {fault.key: fault for fault in verify_store(store).faults}[key_of(tmp_path, file)]
    assert f"sbr profile --day {LAST}" in fault.remedy


def test_changed_day_of_a_validation_is_named(store: Store, tmp_path: Path) -> None:
    file = one(tmp_path, "commits/clicks/*.json")
    other = str(DAYS[0])
    file.write_text(file.read_text().replace(str(LAST), other))
    assert [fault.key for fault in verify_store(store).faults if fault.key == key_of(tmp_path, file)]


@pytest.mark.parametrize(
    "pattern",
    [
        "commits/clicks/*.json",
        "windows/*/*/manifest.json",
        "models/*/manifest.json",
        "evaluations/*/*/*.json",
        "profiles/*/*/manifest.json",
        "promotions/*.json",
        "serving/published/*.json",
    ],
)
def test_record_with_a_damaged_key_is_named_and_stops_no_check(store: Store, tmp_path: Path, pattern: str) -> None:
    file = one(tmp_path, pattern)
    whole = file.read_text()
    for name in json.loads(whole):
        file.write_text(whole.replace(f'"{name}":', f'"{name[:-1]}?":', 1))
        assert key_of(tmp_path, file) in {fault.key for fault in verify_store(store).faults}, name


def test_removal_with_a_damaged_key_is_named_and_stops_no_check(store: Store, tmp_path: Path) -> None:
    remove_day(store, LAST, reason="test clicks", now=NOW)
    file = one(tmp_path, "commits/clicks/*.json")
    file.write_text(file.read_text().replace('"files":', '"fi1es":', 1))
    assert key_of(tmp_path, file) in {fault.key for fault in verify_store(store).faults}
