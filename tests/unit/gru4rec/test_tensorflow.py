"""TensorFlow starts silently, and its messages are shown where it fails to start."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sbr_tasks.gru4rec._tensorflow import silent_start


def test_tensorflow_starts_without_a_word() -> None:
    code = "from sbr_tasks.gru4rec._tensorflow import tf; tf.constant(1)"
    started = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert started.stdout + started.stderr == ""


def test_messages_of_a_start_are_hidden_unless_it_fails(capfd: pytest.CaptureFixture[str]) -> None:
    with silent_start():
        os.write(2, b"hidden")
    with pytest.raises(ImportError), silent_start():
        os.write(2, b"no such library")
        raise ImportError
    os.write(2, b", shown")
    assert capfd.readouterr().err == "no such library, shown"
