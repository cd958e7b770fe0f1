"""Exports a model as a TensorFlow SavedModel, which TF Serving and any TensorFlow runtime can load without this package.

Importing this module is cheap; `export_saved_model` imports TensorFlow, the other functions start a process that does.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sbr_tasks.errors import RegistryError
from sbr_tasks.evaluation.scorer import Indices, Scores, best_items
from sbr_tasks.gru4rec.answers import UNUSED_SCORE, unused_id
from sbr_tasks.gru4rec.ask_saved_model import ask
from sbr_tasks.gru4rec.model import Model
from sbr_tasks.readout.placement import SHOW_ALL, PlacementRule
from sbr_tasks.window.sessions import UNKNOWN

_TOLERANCE = 1e-4  # relative to a session's highest score: two implementations of float32 arithmetic may differ by that
_TIMEOUT_S = 600


def export_saved_model(model: Model, folder: Path, *, k: int = 20, rule: PlacementRule = SHOW_ALL) -> None:
    """Writes the model as a SavedModel into a folder of its own.

    The signature `serving_default` takes `item_ids`, shape `(batch, steps)`: the raw ids of sessions (int64 or string, like the
    model's), oldest click first, padded at either end with -1 or "". It returns `item_ids`, `(batch, k)`, the raw ids of the
    best items, best first, and `scores`, `(batch, k)`, float32. Ties are broken by the order of the index. Unknown ids are
    skipped. A session without a known id gets the items with the highest support, and their support as scores.

    Where the rule leaves fewer than `k` items, the last places are unused: their id is -1 or "" and their score the lowest
    finite float32, because JSON has no infinity.

    Args:
        model: The model.
        folder: Created if needed.
        k: Places of an answer; as many as there are items if the model knows fewer.
        rule: Which items are hidden.
    """
    from sbr_tasks.gru4rec._serving import serving_module
    from sbr_tasks.gru4rec._tensorflow import tf

    module = serving_module(model, k, rule)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.recommend})
    # It has a random id. Without it, which no runtime needs, two runs that publish the same model write the same bytes.
    (folder / "fingerprint.pb").unlink(missing_ok=True)


def export_apart(model: Model, folder: Path, *, k: int, rule: PlacementRule) -> None:
    """As `export_saved_model`, in a fresh process: this one doesn't import TensorFlow.

    Raises:
        RegistryError: The process failed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as files:
        for name, content in model.to_files().items():
            (Path(files) / name).write_bytes(content)
        mixture = model.mixture.as_dict() if model.mixture else None
        how = {"files": files, "mixture": mixture, "k": k, "rule": rule.as_dict()}
        _run("write_saved_model", folder, how, f"The model can't be written as a SavedModel to {folder}")


def check_saved_model(
    folder: Path,
    model: Model,
    sessions: Sequence[Sequence[Any]],
    *,
    k: int = 20,
    rule: PlacementRule = SHOW_ALL,
    is_apart: bool = True,
) -> None:
    """Loads an exported model and compares its answers with those of the NumPy scorer.

    Two items may swap places only if their scores differ by less than 1e-4 of the session's highest score. In the answer for a
    session without a known id, none may. An item that the rule hides may be nowhere.

    Args:
        folder: What `export_saved_model` wrote, or a copy of it.
        model: The model that was exported.
        sessions: Raw item ids, oldest first. An empty session is always checked as well.
        k: The `k` it was exported with.
        rule: The rule it was exported with.
        is_apart: Whether to load it in a fresh process; else this process needs TensorFlow, and changes its working folder
            meanwhile.

    Raises:
        RegistryError: The SavedModel can't be loaded, or an answer differs.
    """
    dtype = model.index.ids.dtype
    sampled = [*(np.asarray(session, dtype) for session in sessions), np.empty(0, dtype)]
    answers = (_ask if is_apart else _ask_here)(folder, [session.tolist() for session in sampled])
    scorer, n = model.scorer(), min(k, len(model.index))
    for session, item_ids, answered_scores in zip(sampled, answers["item_ids"], answers["scores"], strict=True):
        where = f"The SavedModel in {folder} and its model disagree: for the session {session.tolist()}"
        if len(item_ids) != n:
            raise RegistryError(f"{where} expected {n} items, found {len(item_ids)}. Export it again.")
        scores, is_known = rule.session_scores(scorer, model.index.encode(session))
        expected = best_items(scores, n)
        n_shown = len(expected)
        unused = list(zip(item_ids[n_shown:], answered_scores[n_shown:], strict=True))
        if wrong_places := [place for place in unused if place != (unused_id(model.index), float(UNUSED_SCORE))]:
            raise RegistryError(
                f"{where} expected {n_shown} items and {n - n_shown} unused places, found item {wrong_places[0][0]!r} in one "
                "of these. Export it again; don't serve it."
            )
        answered = model.index.encode(np.array(item_ids[:n_shown], dtype))
        tolerance = _TOLERANCE * float(np.abs(scores[expected]).max(initial=0)) if is_known else 0.0
        wrong = _wrong_ranks(scores, expected, answered, np.array(answered_scores[:n_shown], np.float32), tolerance)
        if len(wrong):
            rank = int(wrong[0])
            best = expected[rank]
            raise RegistryError(
                f"{where} expected item {model.index.ids.tolist()[best]!r} with score {scores[best]:.6g} at rank {rank + 1}, "
                f"found {item_ids[rank]!r} with {answered_scores[rank]:.6g}. Export it again; don't serve it."
            )


def _wrong_ranks(scores: Scores, expected: Indices, answered: Indices, answered_scores: Scores, tolerance: float) -> Indices:
    """Ranks, from 0, at which the item or its score doesn't agree with `scores`, of shape `(n_items,)`."""
    is_repeated = np.ones(len(answered), bool)
    is_repeated[np.unique(answered, return_index=True)[1]] = False
    right = (answered != UNKNOWN) & ~is_repeated
    if tolerance == 0:
        right &= answered == expected
    right &= np.abs(scores[answered] - scores[expected]) <= tolerance
    right &= np.abs(scores[answered] - answered_scores) <= tolerance
    return np.flatnonzero(~right).astype(np.int32)


def _ask(folder: Path, sessions: list[list[Any]]) -> dict[str, list[list[Any]]]:
    """The SavedModel's answers, from a separate process."""
    answered = _run("ask_saved_model", folder, sessions, f"The SavedModel in {folder} can't be loaded or run")
    answers: dict[str, list[list[Any]]] = json.loads(answered)
    return answers


def _ask_here(folder: Path, sessions: list[list[Any]]) -> dict[str, list[list[Any]]]:
    """The SavedModel's answers, from this process."""
    with contextlib.chdir(folder):  # TensorFlow would read `*`, `?` and `[` in a path as a pattern
        return ask(".", sessions)


def _run(module: str, folder: Path, request: Any, failure: str) -> str:
    """What a module of this package prints for a JSON request, in a process without the GPU, which another may be using."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", f"sbr_tasks.gru4rec.{module}", str(folder)],
            input=json.dumps(request),
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
            timeout=_TIMEOUT_S,
            capture_output=True,
            text=True,
            check=True,
        )
    except subprocess.TimeoutExpired:
        raise RegistryError(f"{failure}: it took more than {_TIMEOUT_S} s.") from None
    except subprocess.CalledProcessError as error:
        last = error.stderr.strip().rsplit("\n", 1)[-1] or f"exit code {error.returncode}"
        raise RegistryError(f"{failure}: {last}. Export it again.") from error
    return done.stdout
