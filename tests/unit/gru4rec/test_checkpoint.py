import importlib.metadata
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sbr_tasks.gru4rec import training as under_test
from sbr_tasks.gru4rec.batches import Batches, Chunk
from sbr_tasks.gru4rec.checkpoint import Checkpoint, Checkpoints, bind, load_checkpoint, save_checkpoint
from sbr_tasks.gru4rec.curve import Epoch
from sbr_tasks.gru4rec.training import EpochProgress, Trained, train
from sbr_tasks.settings import EvaluationSettings, ModelSettings, TrainingSettings
from sbr_tasks.window.sessions import ItemIndex, Sessions

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[3]
N_ITEMS = 90
SMALL = {"layers": (8,), "batch_size": 4, "n_sample": 16, "n_epochs": 4}


class Memory:
    """Checkpoints in memory."""

    def __init__(self, data: bytes | None = None) -> None:
        self.data = data

    def load(self) -> bytes | None:
        return self.data

    def save(self, data: bytes) -> None:
        self.data = data


class Files:
    """Checkpoints in a file."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def load(self) -> bytes | None:
        return self.file.read_bytes() if self.file.exists() else None

    def save(self, data: bytes) -> None:
        aside = self.file.with_suffix(".new")
        aside.write_bytes(data)
        aside.replace(self.file)


class Stop(Exception):  # noqa: N818 - no error
    """What interrupts a training."""


def stop_at(epoch: int, *, events: int = 0) -> Callable[[EpochProgress], None]:
    """Stops in an epoch, once `events` of it are trained."""

    def on_progress(at: EpochProgress) -> None:
        if at.epoch == epoch and at.events_done >= events:
            raise Stop

    return on_progress


def walks(n_sessions: int, *, seed: int) -> Sessions:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 8, n_sessions)
    items = rng.zipf(1.3, lengths.sum()) % N_ITEMS
    return Sessions.of_ids(np.concatenate([[0], np.cumsum(lengths)]), items)


TRAINING, VALIDATION = walks(600, seed=1), walks(40, seed=2)
SLOT = np.array([-0.0, 1e-42, 0.1, -3], np.float32)
CHECKPOINT = Checkpoint((Epoch(1, 0.1, 1 / 3, None, 0.7, 1e5),), {"a.0": SLOT}, {"b": SLOT}, 64)


def run(
    checkpoints: Checkpoints | None = None,
    on_progress: Callable[[EpochProgress], None] | None = None,
    *,
    sessions: Sessions = TRAINING,
    validation: Sessions = VALIDATION,
    seed: int = 1,
    patience: int = 9,
    **hyperparameters: object,
) -> Trained:
    return train(
        sessions,
        ItemIndex(*np.unique(sessions.item_ids, return_counts=True)),
        validation,
        model=ModelSettings(**{**SMALL, **hyperparameters}),
        training=TrainingSettings(seed=seed, patience=patience, min_validation_events=1),
        evaluation=EvaluationSettings(batch_size=64),
        on_progress=on_progress,
        checkpoints=checkpoints,
    )


def assert_same(resumed: Trained, undisturbed: Trained) -> None:
    """Bitwise, except for what a clock says."""
    assert resumed.weights.to_files() == undisturbed.weights.to_files()
    clock = {"took_s": 0.0, "events_per_second": 0.0}
    assert [asdict(epoch) | clock for epoch in resumed.curve] == [asdict(epoch) | clock for epoch in undisturbed.curve]
    assert (resumed.best_epoch, resumed.n_events) == (undisturbed.best_epoch, undisturbed.n_events)


class _Found:
    """A stub of an evaluation with a given Recall@20."""

    n_events = 1

    def __init__(self, recall: float) -> None:
        self.recall = recall

    def recall_at(self, k: int) -> float:
        return self.recall

    def mrr_at(self, k: int) -> float:
        return self.recall / 3


def script_recalls(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next evaluations find 0.2, 0.5, 0.4, 0.3, 0.9, whatever the model."""
    recalls = iter([0.2, 0.5, 0.4, 0.3, 0.9])
    monkeypatch.setattr(under_test, "evaluate", lambda *_, **__: _Found(next(recalls)))


def test_resumed_training_stops_early_with_bitwise_the_same_best_epoch(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    settings = {"momentum": 0.3, "patience": 2, "n_epochs": 5}
    script_recalls(monkeypatch)
    undisturbed = run(**settings)
    assert (undisturbed.best_epoch, len(undisturbed.curve)) == (2, 4)

    kept = Memory()
    script_recalls(monkeypatch)
    with pytest.raises(Stop):
        run(kept, stop_at(3, events=1500), **settings)
    with pytest.raises(Stop):
        run(kept, stop_at(4), **settings)
    with caplog.at_level("INFO"):
        assert_same(run(kept, **settings), undisturbed)
    assert "Resuming from the checkpoint after epoch 3 of 5" in caplog.text

    # Stopped between the end of training and whatever its caller does next: nothing is trained again.
    assert_same(run(kept, stop_at(1), **settings), undisturbed)


def test_steps_stay_as_wide_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums over a wider step may round differently."""
    settings = {"n_sample": 120, "n_epochs": 2}
    monkeypatch.setattr(Batches, "_expected_columns", lambda _: 16)
    kept, epoch, widths = Memory(), Batches.epoch, []

    def watched(self: Batches, number: int) -> Iterator[Chunk]:
        widths.append((number, self.n_columns))
        if number == 2:
            raise Stop
        return epoch(self, number)

    monkeypatch.setattr(Batches, "epoch", watched)
    for _ in range(2):
        with pytest.raises(Stop):
            run(kept, **settings)
    (_, narrow), (_, wide), resumed = widths
    assert narrow == 16
    assert wide > narrow
    assert resumed == (2, wide)


STACKED: dict[str, Any] = {"layers": (8, 6), "constrained_embedding": False, "embedding": 5, "momentum": 0.1, "n_epochs": 3}


def child(file: str) -> None:
    """Trains and is killed in the middle of epoch 3."""

    def on_progress(at: EpochProgress) -> None:
        if at.epoch == 3 and at.events_done < at.n_events:
            os.kill(os.getpid(), signal.SIGKILL)

    under_test._MIN_EVENTS_TO_COMPILE = 0
    run(Files(Path(file)), on_progress, **STACKED)


@pytest.fixture(scope="module", autouse=True)
def killed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.Popen[str], Files]]:
    """A training that will be killed; it runs beside the first tests, because importing TensorFlow takes long."""
    file = tmp_path_factory.mktemp("killed") / "checkpoint"
    script = f"from {__name__} import child; child({str(file)!r})"
    with subprocess.Popen([sys.executable, "-c", script], cwd=REPOSITORY, stderr=subprocess.PIPE, text=True) as process:
        yield process, Files(file)
        process.kill()


def test_compiled_stacked_layers_with_a_separate_embedding_end_bitwise_the_same_after_a_kill(
    killed: tuple[subprocess.Popen[str], Files], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(under_test, "_MIN_EVENTS_TO_COMPILE", 0)
    process, kept = killed
    _, errors = process.communicate(timeout=300)
    assert process.returncode == -signal.SIGKILL, errors
    reports: list[EpochProgress] = []
    assert_same(run(kept, reports.append, **STACKED), run(**STACKED))
    assert reports[0].epoch == 3


def test_checkpoint_of_anything_else_is_refused(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    bindings: list[str] = []

    def load(_: object, binding: str) -> None:
        bindings.append(binding)
        raise Stop

    clicked = TRAINING.item_ids.copy()
    clicked[[0, 1]] = clicked[[1, 0]]
    swapped = Sessions.of_ids(TRAINING.offsets, clicked)
    other_ids = Sessions.of_ids(TRAINING.offsets, TRAINING.item_ids + 1)
    fewer = VALIDATION.take(np.arange(VALIDATION.n_sessions - 1))
    others: list[dict[str, Any]] = [{"seed": 2}, {"patience": 8}, {"logq": 0.5}, {"n_epochs": 9}]
    others += [{"sessions": swapped}, {"sessions": other_ids}, {"validation": fewer}, {"validation": walks(0, seed=1)}]
    with monkeypatch.context() as patched:
        patched.setattr(under_test, "load_checkpoint", load)
        for settings in [{}, {}, *others]:
            with pytest.raises(Stop):
                run(Memory(), **settings)
    assert bindings[0] == bindings[1]
    assert len(set(bindings)) == 1 + len(others)

    kept = Memory()
    save_checkpoint(kept, CHECKPOINT, bindings[2])
    with pytest.raises(Stop):  # that is, epoch 1 is trained
        run(kept, stop_at(1))
    assert "other settings, data or package versions" in caplog.text


def test_checkpoint_comes_back_bitwise() -> None:
    kept = Memory()
    assert load_checkpoint(kept, "x") is None
    save_checkpoint(kept, CHECKPOINT, "x")
    found = load_checkpoint(kept, "x")
    assert found is not None
    assert (found.curve, found.n_columns) == (CHECKPOINT.curve, 64)
    assert {name: array.tobytes() for name, array in found.slots.items()} == {"a.0": SLOT.tobytes()}
    assert found.best is not None
    assert found.best["b"].tobytes() == SLOT.tobytes()
    save_checkpoint(kept, replace(CHECKPOINT, best=None), "x")
    found = load_checkpoint(kept, "x")
    assert found is not None
    assert found.best is None


@pytest.mark.parametrize("damage", ["empty", "cut", "foreign", "a bit"])
def test_damaged_checkpoint_is_refused_with_a_warning(damage: str, caplog: pytest.LogCaptureFixture) -> None:
    kept = Memory()
    save_checkpoint(kept, CHECKPOINT, "x")
    assert kept.data is not None
    flipped = bytearray(kept.data)
    flipped[len(flipped) // 2] ^= 1
    damaged = {"empty": b"", "cut": kept.data[:-1], "foreign": b"{}" * 40, "a bit": bytes(flipped)}[damage]
    assert load_checkpoint(Memory(damaged), "x") is None
    assert f"({len(damaged)} bytes) is damaged, so training starts from scratch" in caplog.text


def test_a_new_version_of_a_numerical_package_makes_checkpoints_unusable(monkeypatch: pytest.MonkeyPatch) -> None:
    before = bind({}, [])
    assert bind({}, []) == before
    monkeypatch.setattr(importlib.metadata, "version", lambda package: f"{package} 99")
    assert bind({}, []) != before
