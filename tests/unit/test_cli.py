from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pytest

from benchmarks.seeded_history import seed_history
from sbr_tasks.__main__ import main as start
from sbr_tasks.registry.log import outcome_of
from sbr_tasks.registry.promotion import commit_pin
from sbr_tasks.settings import ModelSettings
from sbr_tasks.store import Store


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Sbr = Callable[..., Result]
LINES = "1,2014-09-23T10:00:00.000Z,10,S\n1,2014-09-24T10:00:00.500Z,11,0\n2,2014-09-24T11:00:00.000Z,10,0\n"


@pytest.fixture
def sbr(command_line: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Sbr:
    """Runs the command line in this process, on a store of the test's own."""
    monkeypatch.setenv("SBR_STORE", str(tmp_path / "store"))
    return lambda *words: Result(*command_line(*words))


@pytest.fixture
def clicks(tmp_path: Path) -> Path:
    file = tmp_path / "clicks.dat"
    file.write_text(LINES)
    return file


def test_ingest_counts_rows_rejects_and_days(sbr: Sbr, clicks: Path) -> None:
    done = sbr("ingest", "--from", str(clicks), "--format", "yoochoose", "--json")
    assert (done.code, json.loads(done.out)) == (
        0,
        {
            "rows": 3,
            "rejected": 0,
            "days": {"2014-09-23": 1, "2014-09-24": 2},
            "empty": [],
            "ledger": {"read": 3, "stored": 3, "rejected": 0, "filtered": 0, "left_out": {}},
            "warnings": [],
        },
    )


def test_ingest_names_days_without_clicks_in_json(sbr: Sbr, clicks: Path) -> None:
    words = ("ingest", "--from", str(clicks), "--json", *(f"--day=2014-09-{day}" for day in (20, 21, 24, 25)))
    assert json.loads(sbr(*words).out)["empty"] == ["2014-09-20/2014-09-21", "2014-09-25"]


def test_relative_path_is_of_the_working_folder(sbr: Sbr, clicks: Path) -> None:
    assert sbr("ingest", "--from", clicks.name).out == f"Ingested 3 clicks of 2014-09-23 to 2014-09-24 from {clicks}.\n"
    assert sbr("ingest", "--from", clicks.name).out == f"No new clicks in {clicks}.\n"


def test_ingest_says_where_rejected_lines_lie(sbr: Sbr, clicks: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with clicks.open("a") as file:
        file.write("oops\n")
    words = ("ingest", "--from", clicks.name, "--set", "ingest.max_rejected=0.5")
    sbr(*words)
    (kept,) = tmp_path.glob("**/rejects/*.jsonl")
    assert any("1 of 4 lines" in message and str(kept) in message for message in caplog.messages)
    assert json.loads(sbr(*words, "--json").out)["rejects"] == str(kept)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ("ingest", "--from", "nowhere.dat"),
            "sbr: Expected clicks in {folder}/nowhere.dat, but there is no such file. "
            "Check the path (source.path or --from).\n",
        ),
        (
            ("ingest", "--from", "clicks.dat", "--format", "yuchoose"),
            "sbr: Setting 'source.format' in the overrides (--set) is 'yuchoose': input should be "
            "'yoochoose', 'gru4rec', 'movielens', 'csv', 'jsonl', 'parquet', 'diginetica', 'retailrocket', 'rees46', "
            "'otto' or '30music'.\n",
        ),
        (
            ("retrain", "--day", "tomorrow"),
            "sbr: Expected a day as YYYY-MM-DD, such as 2020-06-30; found 'tomorrow'.\n",
        ),
        (
            ("runs", "--set", "windw.days=3"),
            "sbr: Unknown setting 'windw' in the overrides (--set). Did you mean 'window'? Known here: store, store_options, "
            "scratch, timezone, source, ingest, validation, window, model, training, evaluation, vsknn, "
            "vstan, gate, serving, recommend, mlflow, upkeep, alerts.\n",
        ),
        (("recommend", "--session", "1"), "sbr: There is no champion yet. Train one with `sbr retrain --day DAY`.\n"),
        (
            ("report", "--day", "2014-09-24"),
            "sbr: There is no decision for 2014-09-24 yet, so there is nothing to report. "
            "Run `sbr retrain --day 2014-09-24`.\n",
        ),
    ],
)
def test_mistake_is_one_sentence_and_exit_code_1(
    sbr: Sbr, clicks: Path, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    del clicks
    done = sbr(*words)
    assert (done.code, done.out, done.err) == (1, "", message.format(folder=tmp_path))


def test_day_with_no_clicks_is_refused_and_what_was_stored_stays(sbr: Sbr, clicks: Path, tmp_path: Path) -> None:
    sbr("ingest", "--from", str(clicks))
    done = sbr("retrain", "--day", "2014-09-25", "--from", str(clicks))
    assert done.code == 1
    assert done.err == (
        f"sbr: 2014-09-25 has no clicks in {clicks}: it holds clicks of 2014-09-23 to 2014-09-24. Check that the day's file "
        "was delivered, then run the day again.\n"
    )
    assert len(list((tmp_path / "store" / "clicks").rglob("*.parquet"))) == 2


def test_demo_clicks_are_written_previewed_and_ingested(sbr: Sbr, tmp_path: Path) -> None:
    file = str(tmp_path / "demo.dat")
    size = ("--days", "5", "--sessions-per-day", "50", "--end", "2014-09-30")
    written = json.loads(sbr("demo-clicks", "--out", file, *size, "--json").out)
    seen = json.loads(sbr("preview", "--from", file, "--days", "2", "--set", "window.days=5", "--json").out)
    assert seen["clicks"] == written["clicks"]
    assert (seen["first_day"], seen["last_days"]) == ("2014-09-26", ["2014-09-29", "2014-09-30"])
    assert seen["window_clicks"] == written["clicks"]
    assert seen["seconds_per_day"] > 0
    assert json.loads(sbr("ingest", "--from", file, "--json").out)["rows"] == written["clicks"]


def test_demo_clicks_that_do_not_fill_the_days_say_so(sbr: Sbr, tmp_path: Path) -> None:
    words = ("demo-clicks", "--out", str(tmp_path / "demo.dat"), "--days", "10", "--end", "2014-09-30", "--clicks")
    assert sbr(*words, "20000").err == ""
    done = sbr(*words, "10")
    assert done.code == 0
    assert done.err.startswith("10 clicks are too few for 10 days: the first is on 2014-09-")
    assert done.err.endswith(", not 2014-09-21.\n")


def test_preview_counts_stored_days_as_present_and_closed_days_as_not_missing(sbr: Sbr, clicks: Path, tmp_path: Path) -> None:
    preview = ("preview", "--from", str(clicks), "--days", "1", "--set", "window.days=5", "--set", "window.max_missing_days=0")
    assert sbr(*preview).code == 1
    earlier = tmp_path / "earlier.dat"
    earlier.write_text("7,2014-09-20T10:00:00Z,1,0\n7,2014-09-20T10:00:01Z,2,0\n")
    sbr("ingest", "--from", str(earlier))
    assert "needs 5 or more days with clicks among its 5, found 3" in sbr(*preview).err
    for day in ("2014-09-21", "2014-09-22"):
        sbr("days", "close", day, "--reason", "Holiday")
    found = json.loads(sbr(*preview, "--json").out)
    assert (found["lines"], found["clicks"], found["rejected"], found["window_clicks"]) == (3, 3, 0, 5)


def test_preview_of_two_far_clicks_is_one_short_sentence(sbr: Sbr, tmp_path: Path) -> None:
    far = tmp_path / "far.dat"
    far.write_text("1,2001-01-01T00:00:00Z,1,0\n2,2020-01-01T00:00:00Z,1,0\n")
    done = sbr("preview", "--from", str(far), "--days", "1", "--json")
    assert done.code == 1
    assert "has clicks on 2 days from 2001-01-01 to 2020-01-01." in done.err
    assert len(done.err) < 500


def test_preview_refuses_a_file_that_is_too_short_for_a_window(sbr: Sbr, clicks: Path) -> None:
    done = sbr("preview", "--from", str(clicks), "--days", "1")
    assert done.code == 1
    assert done.err == (
        f"sbr: {clicks} has clicks on 2 days from 2014-09-23 to 2014-09-24. The window of 2014-09-24 needs 23 or more days "
        "with clicks among its 30, found 2. Shorten the window (window.days, SBR_WINDOW__DAYS), "
        "or allow more days to be missing "
        "(window.max_missing_days, SBR_WINDOW__MAX_MISSING_DAYS).\n"
    )


def test_empty_store_says_what_to_do(sbr: Sbr) -> None:
    assert sbr("models").out == "There are no models yet. Train one with `sbr retrain --day DAY`.\n"
    store = json.loads(sbr("settings").out)["store"]
    start = "Start a run with `sbr retrain --day DAY`.\n"
    assert sbr("runs").out == f"No run has decided anything yet in {store}. {start}"
    assert sbr("log").out == f"The promotion log of {store} has no entries yet. {start}"
    assert json.loads(sbr("models", "--json").out) == {"champion": None, "pin": None, "models": []}


def test_validation_is_reported_in_sentences(sbr: Sbr, clicks: Path) -> None:
    with clicks.open("a") as file:
        file.write("".join(f"3,2014-09-24T12:00:0{n}.000Z,10,0\n" for n in (0, 0, 1, 2, 3)))
    sbr("ingest", "--from", clicks.name)
    done = sbr("validate")
    assert done.out == (
        "Accepted: 2014-09-23 to 2014-09-24.\nWarnings of 2014-09-24:\n  At most 1% of the clicks repeat another one (same "
        "session, item and time): broken by 1 of 7 clicks, such as session 3, item 10 at 2014-09-24 12:00:00+00:00\n"
    )
    assert sbr("validate").out == "Accepted: no day.\n"


def test_log_and_models_show_every_kind_of_entry(sbr: Sbr, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    entries = seed_history(store, date(2026, 11, 27), 30)
    pinned = commit_pin(store, reason="sale", actor="ann")
    log = sbr("log").out
    assert {type(entry).__name__ for entry in entries} == {"Decision", "Rollback"}
    assert all(f"{entry.version}  {outcome_of(entry)}" in log and entry.actor in log for entry in [*entries, pinned])
    models = sbr("models").out
    assert f"{pinned.version} was pinned" in models
    assert "by ann: sale" in models
    rows = json.loads(sbr("log", "--json").out)["entries"]
    assert [row["actor"] for row in rows] == [entry.actor for entry in [*entries, pinned]]


def test_session_without_ids_is_refused(sbr: Sbr) -> None:
    for session in ("", "1,,2"):
        said = f"sbr: Expected the session's item ids, such as 1,2,3; found {session!r}.\n"
        assert sbr("recommend", "--session", session) == Result(1, "", said)


def test_forced_promotion_that_is_never_to_be_is_refused(sbr: Sbr) -> None:
    done = sbr("retrain", "--day", "2014-09-24", "--promote", "never", "--force", "because")
    assert done == Result(1, "", "sbr: --force promotes the model, and --promote never forbids it. Use one of them.\n")


@pytest.mark.parametrize("words", [("models",), ("runs",), ("log",), ("store", "check"), ("quarantine", "list")])
def test_reading_commands_create_no_store(sbr: Sbr, tmp_path: Path, words: tuple[str, ...]) -> None:
    assert sbr(*words).code == 0
    assert not (tmp_path / "store").exists()


def test_what_the_system_refuses_is_a_sentence(sbr: Sbr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system", "/full/out")

    monkeypatch.setattr(Path, "mkdir", refuse)
    done = sbr("demo-clicks", "--out", str(tmp_path / "out" / "clicks.dat"))
    assert (done.code, done.out) == (1, "")
    assert done.err.startswith("sbr: The system refused (/full/out: read-only file system). Check that the place is right")


def test_settings_in_force_are_shown(sbr: Sbr) -> None:
    assert json.loads(sbr("settings", "--set", "window.days=9").out)["window"]["days"] == 9


def test_interruption_says_that_nothing_is_lost(sbr: Sbr, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sbr_tasks.workspace.load_settings", interrupt)
    done = sbr("runs")
    assert done.code == 130
    assert "run the same command again to continue" in done.err


def test_interruption_while_commands_are_loaded_is_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted:
        @staticmethod
        def find_spec(name: str, *_: object) -> None:
            if name == "sbr_tasks.cli":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "sbr_tasks.cli")
    monkeypatch.setattr(sys, "meta_path", [Interrupted, *sys.meta_path])
    with pytest.raises(SystemExit) as stop:
        start()
    assert stop.value.code == 130
    assert capsys.readouterr() == ("", "")


def test_profile_prints_numbers_and_writes_plots(sbr: Sbr, clicks: Path, tmp_path: Path) -> None:
    sbr("ingest", "--from", str(clicks))
    sbr("validate")
    words = ("profile", "--day", "2014-09-24", "--set", "window.days=3")
    found = json.loads(sbr(*words, "--json").out)
    assert (found["clicks"], found["sessions"], found["items"], found["files"]) == (3, 2, 2, [])
    assert sbr(*words, "--out", "plots").out.endswith("Numbers and plots: plots\n")
    assert json.loads((tmp_path / "plots" / "profile.json").read_text())["clicks"] == 3


TRAIN = [(session, (session + step) % 6, 100 * session + step) for session in range(30) for step in range(3)]
TEST = [(session, item, time + 5000) for session, item, time in TRAIN[:15]]
FAST = ("--set", "model.n_epochs=2", "--set", "model.layers=[8]", "--set", "model.n_sample=8")


def tab_separated(file: Path, clicks: list[tuple[int, int, int]]) -> str:
    lines = ["SessionId\tItemId\tTime", *("\t".join(map(str, click)) for click in clicks)]
    file.write_text("\n".join(lines) + "\n")
    return str(file)


def test_evaluate_prints_one_object(sbr: Sbr, tmp_path: Path) -> None:
    train, test = tab_separated(tmp_path / "train.txt", TRAIN), tab_separated(tmp_path / "test.txt", TEST[:9])
    more = tab_separated(tmp_path / "more.txt", TEST[9:])
    done = sbr(
        "evaluate", "--train", train, "--test", test, "--test", more, "--format", "gru4rec", "--seed", "3", *FAST, "--json"
    )
    assert done.code == 0, done.err
    found = json.loads(done.out)
    ties = ["conservative", "standard", "median"]
    metrics = [f"{metric}_at_{k}" for metric in ("recall", "mrr") for k in (1, 5, 10, 20)]
    speed = ["train_events_per_second", "epoch_seconds", "peak_rss_mb"]
    assert list(found) == [*ties, "n_events", *speed, "readout", "baselines"]
    assert all(found[name] > 0 for name in speed)
    for model in (found, *found["baselines"].values()):
        assert [list(model[mode]) for mode in ties] == [metrics] * 3
        assert model["n_events"] == 10
    assert {"popularity", "markov"} <= set(found["baselines"])
    assert not (tmp_path / "store").exists()


def test_evaluate_prints_a_table_and_a_line_on_training(sbr: Sbr, tmp_path: Path) -> None:
    train, test = tab_separated(tmp_path / "train.txt", TRAIN), tab_separated(tmp_path / "test.txt", TEST)
    lines = sbr("evaluate", "--train", train, "--test", test, "--format", "gru4rec", *FAST).out.splitlines()
    assert lines[0].split() == ["model", "ties", *(f"{metric}@{k}" for metric in ("R", "MRR") for k in (1, 5, 10, 20))]
    assert {line.split()[0] for line in lines[2:-2]} >= {"gru4rec", "popularity", "markov"}
    assert lines[-1].startswith("Tested on 10 events. Trained on 60 events an epoch: ")


@pytest.mark.parametrize(
    ("train", "test", "words", "message"),
    [
        (
            None,
            TEST,
            (),
            "Expected clicks in {folder}/train.txt, but there is no such file. Check the path (--train).",
        ),
        (
            TRAIN,
            None,
            (),
            "Expected clicks in {folder}/test.txt, but there is no such file. Check the path (--test).",
        ),
        (
            TRAIN,
            [],
            (),
            "Expected clicks in {folder}/test.txt, found none: the files hold no line. Check the path (--test).",
        ),
        (
            [(1, 10, 1), (2, 11, 1)],
            TEST,
            (),
            "Expected sessions of 2 or more clicks to train on in train.txt, found 2 clicks in 2 sessions of one. "
            "Check that its session ids are read from the right column (--format).",
        ),
        (
            TRAIN,
            [(1, 10, 1), (1, 11, 2)],
            (),
            "Expected clicks on the 6 items of train.txt in test.txt, found none among its 2 clicks. "
            "Give a test set of the same items, with ids that are written alike.",
        ),
        (
            TRAIN,
            [(1, 0, 1), (1, 11, 2), (2, 1, 3)],
            (),
            "Expected sessions with 2 or more clicks on items of train.txt in test.txt, found none among its 2 sessions "
            "(2 of 3 clicks are on such items). Give a larger test set.",
        ),
        (
            TRAIN,
            TEST,
            ("--set", "model.layer=[3]"),
            "Unknown setting 'model.layer' in the overrides (--set). Did you mean 'model.layers'? Known here: {model}.",
        ),
        (
            TRAIN,
            TEST,
            ("--seed", "-1"),
            "Setting 'training.seed' in the overrides (--set) is -1: input should be greater than or equal to 0.",
        ),
    ],
)
def test_what_evaluate_cannot_compare_is_one_sentence(
    sbr: Sbr,
    tmp_path: Path,
    train: list[tuple[int, int, int]] | None,
    test: list[tuple[int, int, int]] | None,
    words: tuple[str, ...],
    message: str,
) -> None:
    for name, clicks in (("train.txt", train), ("test.txt", test)):
        if clicks is not None:
            tab_separated(tmp_path / name, clicks)
    done = sbr("evaluate", "--train", "train.txt", "--test", "test.txt", "--format", "gru4rec", *words)
    expected = message.format(folder=tmp_path, model=", ".join(ModelSettings.model_fields))
    assert (done.code, done.out, done.err) == (1, "", f"sbr: {expected}\n")


def test_summaries_are_printed_and_not_logged_too(sbr: Sbr, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "clicks.dat").write_text(
        "".join(f"{day}{s},2014-09-{day}T10:00:0{n}.000Z,{n},0\n" for day in range(20, 24) for s in "12" for n in range(3))
    )
    caplog.set_level("INFO", "sbr_tasks")
    window = ("window", "--day", "2014-09-23", "--set", "window.days=4", "--set", "window.least_click=1")
    for words in (("ingest", "--from", "clicks.dat"), ("ingest", "--from", "clicks.dat"), ("validate",), window):
        caplog.clear()
        done = sbr(*words)
        assert done.code == 0, done.err
        assert done.out.strip()
        assert not [line for line in done.out.splitlines() if line.rstrip(".") in caplog.text], words
