from __future__ import annotations

import json
import logging
from collections.abc import Callable

import pytest

from sbr_tasks.errors import SourceError
from sbr_tasks.plain_text import MASK, PrintableFormatter, masked, percent, printable, without_credentials

CommandLine = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://sbr:secret@db/mlflow", "postgresql://db/mlflow"),
        ("MLflow at https://sbr:p@ss/w:rd@mlflow:5000 failed", "MLflow at https://mlflow:5000 failed"),
        ("https://token@host/x and s3://u:p@bucket/y", "https://host/x and s3://bucket/y"),
        ("'redis://:secret@redis:6379'", "'redis://redis:6379'"),
        ("MLflow at postgresql://sbr:two words@db/x failed", "MLflow at postgresql://db/x failed"),
        ("http://host:8080/a failed, mail ann@shop.example", "http://host:8080/a failed, mail ann@shop.example"),
        ("http://host:8080, then http://ann:secret@host", "http://host:8080, then http://host"),
        ("s3://bucket/a@b, mail ann@shop.example", "s3://bucket/a@b, mail ann@shop.example"),
        ("http://host:8080/path", "http://host:8080/path"),
        (
            "at postgresql://db/x?user=ann&password=hush&sslmode=require",
            "at postgresql://db/x?user=ann&password=***&sslmode=require",
        ),
        ("'https://a.blob.example/c?sv=1&sig=hush%3D'", "'https://a.blob.example/c?sv=1&sig=***'"),
    ],
)
def test_urls_are_shown_without_user_and_password(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


def test_control_characters_are_written_out() -> None:
    assert printable("a\x1b[31mb\x9b2Jc\x00\u202ed\x7f") == "a\\u001b[31mb\\u009b2Jc\\u0000\\u202ed\\u007f"
    assert printable("tab\tand\nline") == "tab\tand\nline"


def test_error_is_one_line_without_secrets() -> None:
    error = SourceError("Expected a day at https://ann:secret@host/x,\n  found \x1b]0;title\x07.\n")
    assert str(error) == "Expected a day at https://host/x, found \\u001b]0;title\\u0007."


def test_log_lines_are_printable_and_without_secrets() -> None:
    record = logging.LogRecord("sbr", logging.INFO, "", 0, "session %s of %s", ("\x1b[2J", "s3://key:secret@bucket"), None)
    assert PrintableFormatter("%(message)s").format(record) == "session \\u001b[2J of s3://bucket"


def test_secret_options_are_masked() -> None:
    values = {
        "store_options": {
            "aws_secret_access_key": "hush",
            "region": "eu-west-1",
            "token": "",
            "connection_string": "AccountKey=hush",
        },
        "store": "s3://u:p@b",
    }
    assert masked(values) == {
        "store_options": {"aws_secret_access_key": MASK, "region": "eu-west-1", "token": "", "connection_string": MASK},
        "store": "s3://b",
    }


def test_settings_are_printed_without_secrets(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBR_STORE_OPTIONS", '{"secret_access_key": "hush-1", "endpoint": "http://minio:9000"}')
    monkeypatch.setenv("SBR_SOURCE__OPTIONS", '{"sas_token": "hush-2"}')
    monkeypatch.setenv("SBR_MLFLOW__TRACKING_URI", "postgresql://sbr:hush-3/p@ss@db/mlflow")
    code, out, err = command_line("settings")
    assert code == 0
    assert "hush" not in out + err
    assert json.loads(out)["store_options"]["endpoint"] == "http://minio:9000"
    assert json.loads(out)["mlflow"]["tracking_uri"] == "postgresql://db/mlflow"


def test_value_of_an_option_that_is_wrong_is_not_shown(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBR_STORE_OPTIONS", '"hush"')
    code, out, err = command_line("settings")
    assert code == 1
    assert "store_options" in err
    assert "hush" not in out + err


def test_option_that_is_wrong_is_not_shown(command_line: CommandLine, tmp_path: object) -> None:
    code, out, err = command_line("store", "copy", f"{tmp_path}/copy", "--to-option", "secret_access_key:hush")
    assert code == 2
    assert "hush" not in out + err


def test_messages_of_commands_do_not_control_the_terminal(command_line: CommandLine, tmp_path: object) -> None:
    code, _, err = command_line("ingest", "--from", f"{tmp_path}/no\x1b[31mfile")
    assert code == 1
    assert "\x1b" not in err
    assert "no\\u001b[31mfile" in err


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0%"),
        (0.0004, "less than 0.1%"),
        (0.032, "3.2%"),
        (0.1, "10%"),
        (0.284, "28%"),
        (0.998, "over 99%"),
        (1, "100%"),
        (1.5, "150%"),
    ],
)
def test_shares_are_shown_as_percentages(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(
    ("share", "limit", "text"),
    [(0.0503, 0.05, "5.03%"), (0.05, 0.05, "5%"), (0.07, 0.05, "7%"), (0.4999, 0.5, "49.99%"), (0.0005, 0.0009, "0.05%")],
)
def test_share_is_shown_apart_from_a_limit_that_it_does_not_equal(share: float, limit: float, text: str) -> None:
    assert percent(share, limit) == text
