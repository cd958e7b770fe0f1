from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sbr_tasks.errors import DamagedError, StoreError
from sbr_tasks.registry.gate import Outcome
from sbr_tasks.registry.listing import log_rows
from sbr_tasks.registry.log import PromotionLog
from sbr_tasks.report.runs import run_rows
from sbr_tasks.settings import Settings
from sbr_tasks.store import INCOMPLETE, Store
from sbr_tasks.upkeep import copy as copy_module
from sbr_tasks.upkeep.check import verify_store
from sbr_tasks.upkeep.clear import remove_day, remove_unneeded
from sbr_tasks.upkeep.copy import copy_objects

from .shop import DAYS, LAST, NOW, bring_window, decide, write_days, write_version
from .test_check import one

pytestmark = pytest.mark.slow

Sbr = Callable[..., tuple[int, str, str]]


@pytest.fixture
def target(tmp_path: Path) -> Store:
    """An empty place on this machine."""
    return Store(str(tmp_path / "copy"))


@pytest.fixture(params=["folder", "s3"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty place on this machine, or in a bucket."""
    if request.param == "folder":
        return Store(str(tmp_path / "copy"))
    return Store(f"s3://clicks/copies/{request.node.name}", request.getfixturevalue("s3_options"))


def everything(store: Store) -> dict[str, bytes]:
    return {key: store.get(key) for key in store.keys("")}


def assert_is_copy(source: Store, target: Store) -> None:
    """The target is a store of its own, whole, that says and holds what the source does."""
    fresh = Store(target.url, {}) if "://" not in target.url else target
    assert everything(fresh) == everything(source)
    checked = verify_store(fresh)
    assert (checked.faults, checked.orphaned.keys) == ((), ())
    assert log_rows(fresh) == log_rows(source)
    assert run_rows(fresh) == run_rows(source)


def stop_after(monkeypatch: pytest.MonkeyPatch, store: Store, n_writes: int) -> None:
    """Lets a store be written so many times, and no more."""
    left = [n_writes]

    def counted(write: Callable[..., Any]) -> Callable[..., Any]:
        def run(*args: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return write(*args)

        return run

    for name in ("replace", "put_new"):
        monkeypatch.setattr(store, name, counted(getattr(store, name)))


def stop_at(monkeypatch: pytest.MonkeyPatch, store: Store, stopped: str) -> None:
    """Ends the copy at one file, once those that are under way at the same time are there."""

    def until(write: Callable[..., Any]) -> Callable[..., Any]:
        def run(key: str, data: bytes) -> Any:
            if key == stopped:
                time.sleep(0.1)
                raise KeyboardInterrupt
            return write(key, data)

        return run

    for name in ("replace", "put_new"):
        monkeypatch.setattr(store, name, until(getattr(store, name)))


def test_copy_holds_all_that_the_store_holds(store: Store, anywhere: Store) -> None:
    copied = copy_objects(store, anywhere)
    assert_is_copy(store, anywhere)
    assert (copied.files, copied.present) == (len(store.keys("")), 0)
    assert copied.bytes == sum(len(content) for content in everything(store).values())
    state = PromotionLog(anywhere).state()
    assert (copied.log_entries, copied.champion) == (state.n_entries, state.champion) == (6, state.champion)


def test_copy_comes_back_from_a_bucket(store: Store, s3_options: dict[str, str], tmp_path: Path) -> None:
    there, back = Store("s3://clicks/copies/there", s3_options), Store(str(tmp_path / "back"))
    copy_objects(store, there)
    copy_objects(there, back)
    assert_is_copy(store, back)


def test_what_no_record_names_is_not_copied(store: Store, target: Store, tmp_path: Path) -> None:
    before = everything(store)
    for key in ("mlflow/mlflow.db", "scratch/x", "notes.txt", "clicks/day=2020-06-30/rev=0/left.parquet", "checkpoints/00.npz"):
        store.replace(key, b"not of the history")
    copy_objects(store, target)
    assert everything(target) == before


def test_store_that_was_cleared_is_copied(store: Store, settings: Settings, target: Store) -> None:
    remove_unneeded(store, settings, keep_days=6, now=NOW)
    copy_objects(store, target)
    assert_is_copy(store, target)


@pytest.mark.parametrize("share", [0, 0.5, 0.96, 1])
def test_copy_that_was_stopped_is_no_store_until_the_same_again_completes_it(
    store: Store, anywhere: Store, monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    n_writes = int(share * (len(store.keys("")) + 2)) - 1 if share else 2  # the last but one, or the marks alone
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, anywhere, n_writes)
        copy_objects(store, anywhere)
    with pytest.raises(DamagedError, match=r"is a copy that isn't complete: .* Run the same command again"):
        PromotionLog(anywhere).state()
    with pytest.raises(DamagedError, match="is a copy that isn't complete"):
        run_rows(anywhere)
    assert "Run `sbr store copy` again" in verify_store(anywhere).faults[0].remedy
    there = len(anywhere.keys("")) - 2
    copied = copy_objects(store, anywhere)
    assert copied.present == there
    assert_is_copy(store, anywhere)


def test_records_come_after_what_they_name(store: Store, target: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    written, replace, put_new = list[str](), target.replace, target.put_new
    monkeypatch.setattr(target, "replace", lambda key, data: (written.append(key), replace(key, data))[1])
    monkeypatch.setattr(target, "put_new", lambda key, data: (written.append(key), put_new(key, data))[1])
    copy_objects(store, target)
    logs = [*store.keys("commits/clicks"), *store.keys("promotions")]
    assert written[-len(logs) :] == logs
    assert written[:2] == [f"commits/clicks/{INCOMPLETE}", f"promotions/{INCOMPLETE}"]
    for record in (key for key in written if key.startswith("models/") and key.endswith("/manifest.json")):
        folder = record.removesuffix("manifest.json")
        assert max(written.index(key) for key in store.keys(folder)) == written.index(record)
    manifests = [written.index(key) for key in written if key.startswith(("models/", "windows/")) and key.endswith("t.json")]
    referring = [written.index(key) for key in written if key.startswith(("evaluations/", "serving/pub")) and ".json" in key]
    assert max(manifests) < min(referring)


@pytest.mark.parametrize("harm", ["deleted", "changed"])
@pytest.mark.parametrize("pattern", ["models/*/*/weights.*.npz", "validation/*/*/data_docs.*.html", "reports/*/*.html"])
def test_damaged_source_is_refused_in_a_sentence_and_the_copy_resumes_once_it_is_fixed(
    store: Store, target: Store, tmp_path: Path, harm: str, pattern: str
) -> None:
    file = one(tmp_path, pattern)
    before = file.read_bytes()
    file.unlink() if harm == "deleted" else file.write_bytes(before[:-9] + b"x" * 9)
    key = file.relative_to(store.url).as_posix()
    if harm == "deleted" and pattern.startswith("reports"):
        copy_objects(store, target)  # no record names it
        return
    with pytest.raises(DamagedError) as refused:
        copy_objects(store, target)
    kind = "missing" if harm == "deleted" else "damaged"
    assert str(refused.value).startswith(f"The copy stopped: {store.where(key)} is {kind}.")
    assert str(refused.value).endswith("`sbr store check` names all faults; the same command then continues.")
    assert not [key for key in target.keys("promotions") if not key.endswith(INCOMPLETE)]
    file.write_bytes(before)
    copy_objects(store, target)
    assert_is_copy(store, target)


def test_log_with_a_hole_is_not_copied(store: Store, target: Store, tmp_path: Path) -> None:
    one(tmp_path, "promotions/00000003.json").unlink()
    with pytest.raises(DamagedError, match=r"promotions/00000003\.json is missing"):
        copy_objects(store, target)
    assert target.keys("") == []


def test_copy_is_brought_up_to_date_and_is_whole_meanwhile(
    store: Store, settings: Settings, anywhere: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_objects(store, anywhere)
    window = bring_window(store, settings, DAYS[6])
    decide(store, window, write_version(store, window), Outcome.PROMOTE)
    before = log_rows(anywhere)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_after(patch, anywhere, 3)
        copy_objects(store, anywhere)
    assert log_rows(anywhere) == before
    assert verify_store(anywhere).faults == ()
    copied = copy_objects(store, anywhere)
    assert 0 < copied.files < copied.present
    assert_is_copy(store, anywhere)
    assert copy_objects(store, anywhere).files == 0


def test_copy_is_whole_wherever_bringing_it_up_to_date_stops(
    store: Store, settings: Settings, target: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_objects(store, target)
    earlier = shutil.copytree(target.url, tmp_path / "earlier")
    window = bring_window(store, settings, DAYS[6])
    decide(store, window, write_version(store, window), Outcome.PROMOTE)
    news = sorted(set(store.keys("")) - set(target.keys("")))
    assert "serving/gru4rec/7/saved_model.pb" in news
    for key in news:
        shutil.rmtree(target.url)
        shutil.copytree(earlier, target.url)
        stopped = Store(target.url)
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            stop_at(patch, stopped, key)
            copy_objects(store, stopped)
        left = Store(target.url)
        assert not left.exists(key)
        assert verify_store(left).faults == (), key
        assert log_rows(left) == log_rows(store)[:6]
    copy_objects(store, Store(target.url))
    assert_is_copy(store, target)


def test_no_entry_of_a_log_is_written_after_one_that_failed(
    store: Store, target: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, target, "promotions/00000003.json")
        copy_objects(store, target)
    assert target.keys("promotions") == [f"promotions/{name}" for name in ("00000001.json", "00000002.json", INCOMPLETE)]


def clicks_that_came_and_went(store: Store, settings: Settings, folder: Path) -> str:
    day = LAST + timedelta(days=1)
    write_days(folder, [day])
    bring_window(store, settings, day)
    remove_day(store, day, reason="wrong", now=NOW)
    return store.keys("commits/clicks")[-1]


def champion_whose_serving_copy_went(store: Store, settings: Settings, folder: Path) -> str:
    for day in DAYS[6:9]:
        window = bring_window(store, settings, day)
        decide(store, window, write_version(store, window, seed=1), Outcome.PROMOTE)
    remove_unneeded(store, settings, keep_days=100, now=NOW)
    return store.keys("promotions")[-2]


@pytest.mark.parametrize("history", [clicks_that_came_and_went, champion_whose_serving_copy_went])
def test_copy_that_is_stopped_where_it_lacks_what_went_since_is_no_store_until_it_resumes(
    store: Store,
    settings: Settings,
    target: Store,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    history: Callable[[Store, Settings, Path], str],
) -> None:
    copy_objects(store, target)
    entry = history(store, settings, tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        stop_at(patch, target, entry)
        copy_objects(store, target)
    with pytest.raises(DamagedError, match="is a copy that isn't complete"):
        PromotionLog(target).state()
    copy_objects(store, target)
    assert verify_store(target).faults == ()
    assert log_rows(target) == log_rows(store)


def test_day_that_was_forgotten_is_forgotten_in_the_copy_too(store: Store, target: Store) -> None:
    copy_objects(store, target)
    remove_day(store, LAST, reason="wrong", now=NOW)
    copy_objects(store, target)
    assert run_rows(target) == run_rows(store)
    checked = verify_store(target)
    assert checked.faults == ()
    assert {key.split("/")[1] for key in checked.orphaned.keys} == {f"day={LAST}"}  # its files: `sbr store gc` removes them


def test_decision_that_is_made_during_the_copy_is_copied_too(
    store: Store, settings: Settings, target: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, runs = copy_module._copy, [DAYS[6]]

    def copy_beside_work(*args: Any) -> Any:
        done = copy(*args)
        if runs:
            window = bring_window(store, settings, runs.pop())
            decide(store, window, write_version(store, window), Outcome.WOULD_KEEP)
        return done

    monkeypatch.setattr(copy_module, "_copy", copy_beside_work)
    assert copy_objects(store, target).log_entries == 7
    assert_is_copy(store, target)


def test_decision_that_is_made_while_the_store_is_listed_comes_after_what_it_names(
    store: Store, settings: Settings, target: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, written = [DAYS[6]], list[str]()
    stats, replace, put_new = store.stats, target.replace, target.put_new

    def stats_beside_work(prefix: str) -> Any:
        if prefix == "promotions" and runs:  # the models were listed before
            window = bring_window(store, settings, runs.pop())
            decide(store, window, write_version(store, window), Outcome.PROMOTE)
        return stats(prefix)

    monkeypatch.setattr(store, "stats", stats_beside_work)
    monkeypatch.setattr(target, "replace", lambda key, data: (written.append(key), replace(key, data))[1])
    monkeypatch.setattr(target, "put_new", lambda key, data: (written.append(key), put_new(key, data))[1])
    copy_objects(store, target)
    assert written[-1] == "promotions/00000007.json"
    assert_is_copy(store, target)


def clear(store: Store, settings: Settings) -> None:
    remove_unneeded(store, settings, keep_days=6, now=NOW)


def forget(store: Store, settings: Settings) -> None:
    remove_day(store, LAST, reason="wrong", now=NOW)


def on_first_read(monkeypatch: pytest.MonkeyPatch, store: Store, prefix: str, act: Callable[[], object]) -> None:
    """Does something just before the first file below a folder is read, after the store was listed."""
    get, acts = store.get, [act]

    def run(key: str) -> bytes:
        if key.startswith(prefix) and acts:
            acts.pop()()
        return get(key)

    monkeypatch.setattr(store, "get", run)


@pytest.mark.parametrize(
    ("prefix", "work"),
    [("clicks/", clear), ("evaluations/", clear), ("clicks/", forget)],
)
def test_what_is_removed_during_the_copy_does_not_stop_it(
    store: Store,
    settings: Settings,
    target: Store,
    monkeypatch: pytest.MonkeyPatch,
    prefix: str,
    work: Callable[[Store, Settings], None],
) -> None:
    other = Store(store.url)
    with monkeypatch.context() as patch:
        on_first_read(patch, store, prefix, lambda: work(other, settings))
        copied = copy_objects(store, target)
    assert (copied.files, copied.present) == (len(target.keys("")), 0)
    assert verify_store(target).faults == ()
    assert log_rows(target) == log_rows(store)
    assert run_rows(target) == run_rows(store)
    kept = everything(store)
    assert {key: content for key, content in everything(target).items() if key in kept} == kept


def test_file_that_is_lost_during_the_copy_stops_it(
    store: Store, target: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = one(tmp_path, "models/*/*/weights.*.npz")
    on_first_read(monkeypatch, store, "models/", lost.unlink)
    with pytest.raises(DamagedError, match=r"The copy stopped: .*weights\.\w+\.npz is missing"):
        copy_objects(store, target)


def test_store_that_never_comes_to_rest_ends_the_copy(store: Store, target: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    get = store.get

    def listed_and_gone(key: str) -> bytes:
        if key.startswith("validation/"):
            raise DamagedError(f"{key} is missing.")
        return get(key)

    monkeypatch.setattr(store, "get", listed_and_gone)
    with pytest.raises(StoreError, match=r"it changed each time, the last time validation/.* Run the same command"):
        copy_objects(store, target)


def other_shop(store: Store) -> None:
    store.put_new("commits/clicks/00000001.json", b'{"kind": "import", "days": {}}')


def copy_that_went_on(store: Store) -> None:
    n_entries = len(store.keys("promotions"))
    store.put_new(f"promotions/{n_entries + 1:08d}.json", store.get("promotions/00000001.json"))


def stopped_copy_of_another(store: Store) -> None:
    store.put_new(f"promotions/{INCOMPLETE}", b'{"store": "another"}')


def files_without_a_log(store: Store) -> None:
    store.put_new("models/x/manifest.json", b"{}")


@pytest.mark.parametrize(
    ("content", "is_copy", "sentence"),
    [
        (other_shop, False, "another store, or a copy that was used on its own. Copy to an empty place"),
        (copy_that_went_on, True, "another store, or a copy that was used on its own. Copy to an empty place"),
        (stopped_copy_of_another, False, "the copy of another store, which was stopped. Copy to an empty place"),
        (files_without_a_log, False, "holds files of a store and none of its logs. Copy to an empty place"),
    ],
)
def test_place_that_holds_something_else_is_refused_and_left_as_it_is(
    store: Store, target: Store, content: Callable[[Store], None], is_copy: bool, sentence: str
) -> None:
    if is_copy:
        copy_objects(store, target)
    content(target)
    before = everything(target)
    with pytest.raises(StoreError, match=sentence):
        copy_objects(store, target)
    assert everything(target) == before


def test_file_that_changed_in_the_copy_is_named(store: Store, target: Store, tmp_path: Path) -> None:
    copy_objects(store, target)
    (file,) = (tmp_path / "copy").glob(f"models/{LAST}-*/*/weights.*")
    file.write_bytes(bytes(file.stat().st_size))
    with pytest.raises(DamagedError, match=r"The copy isn't whole: .*weights\.\w+\.npz is damaged.* Delete it there and run"):
        copy_objects(store, target)
    file.unlink()
    assert copy_objects(store, target).files == 1
    assert_is_copy(store, target)


@pytest.mark.parametrize("place", [".", "inside", ".."])
def test_store_is_not_copied_into_itself(store: Store, place: str) -> None:
    target = Store(str((Path(store.url) / place).resolve()))
    with pytest.raises(StoreError, match="can't be copied to itself or into itself"):
        copy_objects(store, target)


@pytest.mark.parametrize(
    ("url", "options", "is_same"),
    [
        ("s3://clicks/x", {"endpoint": "http://127.0.0.1:9"}, False),
        ("s3://clicks/x", {"aws_endpoint_url": "http://127.0.0.1:9"}, False),
        ("s3://clicks/x", {"access_key_id": "another", "secret_access_key": "another", "region": "eu-west-1"}, True),
        ("s3://clicks/x/inside", {}, True),
        ("s3://clicks/xy", {}, False),
    ],
)
def test_bucket_is_another_at_another_endpoint(
    s3_options: dict[str, str], url: str, options: dict[str, str], is_same: bool
) -> None:
    given = {name: value for name, value in s3_options.items() if name != "endpoint" or "aws_endpoint_url" not in options}
    with pytest.raises(StoreError, match="to itself or into itself" if is_same else "there is nothing to copy"):
        copy_objects(Store("s3://clicks/x", s3_options), Store(url, given | options))


def test_account_of_an_object_store_tells_it_from_others() -> None:
    stores = [Store("az://clicks/x", {"account_name": name, "account_key": "a2V5"}) for name in ("one", "two", "one")]
    with pytest.raises(StoreError, match="to itself or into itself"):
        copy_objects(stores[0], stores[2])
    assert stores[0].service != stores[1].service


def test_empty_store_is_not_copied(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is nothing to copy"):
        copy_objects(Store(str(tmp_path / "empty")), Store(str(tmp_path / "copy")))


@pytest.fixture
def sbr(command_line: Sbr, monkeypatch: pytest.MonkeyPatch, store: Store) -> Sbr:
    monkeypatch.setenv("SBR_STORE", store.url)
    return command_line


def test_command_copies_the_store_of_the_settings_or_the_one_that_is_named(sbr: Sbr, store: Store, tmp_path: Path) -> None:
    code, out, _ = sbr("store", "copy", "one", "--json")
    done = json.loads(out)
    assert (code, done["source"], done["target"], done["log_entries"]) == (0, store.url, str(tmp_path / "one"), 6)
    code, out, _ = sbr("store", "copy", "one", "two")
    assert code == 0
    assert "The copy is whole: 6 log entries, champion 2020-" in out
    assert_is_copy(store, Store(str(tmp_path / "two")))
    code, _, err = sbr("store", "copy", "mistyped", "three")
    assert (code, "found no such folder. Nothing was copied." in err) == (1, True)
    assert not any((tmp_path / name).exists() for name in ("mistyped", "three"))
    code, _, err = sbr("store", "copy", "one", "two", "three")
    assert (code, "Expected [FROM] TO, found 3 places." in err) == (2, True)
    code, _, err = sbr("store", "copy", "s3://clicks/x", "--to-option", "endpoint")
    assert (code, "Expected --to-option KEY=VALUE" in err) == (2, True)


def test_command_copies_to_a_bucket_with_keys_from_the_environment(
    sbr: Sbr, store: Store, s3_options: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    options = dict(s3_options)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", options.pop("access_key_id"))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", options.pop("secret_access_key"))
    words = [word for name, value in options.items() for word in ("--to-option", f"{name}={value}")]
    assert sbr("store", "copy", "s3://clicks/copies/command", *words)[0] == 0
    assert_is_copy(store, Store("s3://clicks/copies/command", s3_options))


def test_killed_copy_is_no_store_and_resumes(store: Store, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("SBR_")} | {"SBR_STORE": store.url}
    command = [sys.executable, "-m", "sbr_tasks", "store", "copy", str(tmp_path / "copy")]
    n_refused, expected = 0, log_rows(store)
    for share in (0, 0.5, 0.9):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        target = Store(str(tmp_path / "copy"))
        while process.poll() is None and len(target.keys("")) <= share * len(store.keys("")):
            time.sleep(0.001)
        process.kill()
        process.wait()
        try:
            assert log_rows(target) == expected
        except DamagedError:
            n_refused += 1
    assert n_refused
    subprocess.run(command, env=environment, check=True, capture_output=True)
    assert log_rows(Store(target.url)) == expected
    checked = verify_store(target)
    assert checked.faults == ()
    assert all(target.is_half_written(key) for key in checked.orphaned.keys)
