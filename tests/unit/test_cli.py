from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from sbr_tasks.cli import main


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str


Sbr = Callable[..., Result]
LINES = "1,2014-09-23T10:00:00.000Z,10,S\n1,2014-09-24T10:00:00.500Z,11,0\n2,2014-09-24T11:00:00.000Z,10,0\n"


@pytest.fixture
def sbr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Sbr:
    """Runs the command line in this process, on a store of the test's own."""
    monkeypatch.setenv("SBR_STORE", str(tmp_path / "store"))

    def run(*words: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["sbr", *words])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Result(code, *capsys.readouterr())

    return run


@pytest.fixture
def clicks(tmp_path: Path) -> Path:
    file = tmp_path / "clicks.dat"
    file.write_text(LINES)
    return file


def test_ingest_counts_rows_rejects_and_days(sbr: Sbr, clicks: Path) -> None:
    done = sbr("ingest", "--from", str(clicks), "--format", "yoochoose", "--json")
    assert (done.code, json.loads(done.out)) == (
        0,
        {"rows": 3, "rejected": 0, "days": {"2014-09-23": 1, "2014-09-24": 2}},
    )


def test_relative_path_is_of_the_working_folder(sbr: Sbr, clicks: Path) -> None:
    assert sbr("ingest", "--from", clicks.name).out == "3 clicks on 2014-09-23 to 2014-09-24, 0 lines rejected.\n"


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
            "'yoochoose', 'gru4rec', 'movielens', 'csv', 'jsonl' or 'parquet'.\n",
        ),
        (
            ("retrain", "--as-of", "tomorrow"),
            "sbr: Expected a day as YYYY-MM-DD, such as 2020-06-30; found 'tomorrow'.\n",
        ),
        (
            ("runs", "--set", "windw.days=3"),
            "sbr: Unknown setting 'windw' in the overrides (--set). Did you mean 'window'? Known here: store, store_options, "
            "scratch, timezone, source, validation, window, model, training, evaluation, gate, serving, "
            "mlflow.\n",
        ),
        (("recommend", "--session", "1"), "sbr: There is no champion yet. Train one with `sbr retrain --as-of DAY`.\n"),
        (
            ("report", "--as-of", "2014-09-24"),
            "sbr: Nothing was decided for 2014-09-24 yet, so there is nothing to report. "
            "Run `sbr retrain --as-of 2014-09-24`.\n",
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
    done = sbr("retrain", "--as-of", "2014-09-25", "--from", str(clicks))
    assert done.code == 1
    assert done.err == (
        f"sbr: 2014-09-25 has no clicks in {clicks}. Check that the day's file was delivered, then run the day again.\n"
    )
    assert len(list((tmp_path / "store" / "incoming").rglob("*.parquet"))) == 2


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
    assert sbr("models").out == "There is no model yet. Train one with `sbr retrain --as-of DAY`.\n"
    assert sbr("runs").out == "No run has decided anything yet. Start one with `sbr retrain --as-of DAY`.\n"
    assert json.loads(sbr("models", "--json").out) == {"champion": None, "models": []}


def test_settings_in_force_are_shown(sbr: Sbr) -> None:
    assert json.loads(sbr("settings", "--set", "window.days=9").out)["window"]["days"] == 9


def test_interruption_says_that_nothing_is_lost(sbr: Sbr, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sbr_tasks.cli.load_settings", interrupt)
    done = sbr("runs")
    assert done.code == 130
    assert "the same command goes on from there" in done.err
