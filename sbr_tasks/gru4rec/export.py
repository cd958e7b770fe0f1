"""The model as a TensorFlow SavedModel, which TF Serving and any TensorFlow runtime can load without this package.

Importing this module is cheap; `export_saved_model` imports TensorFlow, `check_saved_model` starts a process that does.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sbr_tasks.errors import RegistryError
from sbr_tasks.evaluation.scorer import Indices, Scores
from sbr_tasks.gru4rec.scorer import GRU4RecScorer, best_items, score_session
from sbr_tasks.gru4rec.weights import GRU4RecWeights
from sbr_tasks.window.sessions import UNKNOWN

_TOLERANCE = 1e-4  # of a session's highest score: what two implementations of float32 arithmetic may differ by
_MOST_SECONDS = 600


def export_saved_model(weights: GRU4RecWeights, folder: Path, *, k: int = 20) -> None:
    """Writes the model into a folder that holds nothing else.

    The signature `serving_default` takes `item_ids`, shape `(batch, steps)`, raw ids (int64 or string as the model's are) of
    sessions, oldest click first, padded at either end with -1 or "". It returns `item_ids`, `(batch, k)`, the best items as raw
    ids, best first, and `scores`, `(batch, k)`, float32; of equal scores the item that stands first in the index comes first.
    Unknown ids are skipped. A session without a known id gets the items with the highest support, and their support as scores.

    Args:
        weights: The model.
        folder: Created if need be.
        k: Items of an answer; all of them where the model knows fewer.
    """
    from sbr_tasks.gru4rec._serving import serving_module
    from sbr_tasks.gru4rec._tensorflow import tf

    module = serving_module(weights, k)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.recommend})


def check_saved_model(folder: Path, weights: GRU4RecWeights, sessions: Sequence[Sequence[Any]], *, k: int = 20) -> None:
    """Loads an exported model in a fresh process and compares its answers with those of the NumPy scorer.

    Items may only swap places where their scores differ by less than 1e-4 of the session's highest score; the popular items of
    a session without a known id may not.

    Args:
        folder: What `export_saved_model` wrote, wherever it was copied to since.
        weights: The model that it must be.
        sessions: Raw item ids, oldest first. A session without a click is always asked for as well.
        k: As it was exported.

    Raises:
        RegistryError: It can't be loaded, or an answer differs.
    """
    dtype = weights.index.ids.dtype
    asked = [*(np.asarray(session, dtype) for session in sessions), np.empty(0, dtype)]
    answers = _ask(folder, [session.tolist() for session in asked])
    scorer, n = GRU4RecScorer(weights), min(k, len(weights.index))
    for session, item_ids, found_scores in zip(asked, answers["item_ids"], answers["scores"], strict=True):
        where = f"The SavedModel in {folder} doesn't answer as its model does: for the session {session.tolist()}"
        if len(item_ids) != n:
            raise RegistryError(f"{where} expected {n} items, found {len(item_ids)}. Export it again.")
        scores, is_known = score_session(scorer, weights.index.encode(session))
        expected, found = best_items(scores, n), weights.index.encode(np.array(item_ids))
        tolerance = _TOLERANCE * float(np.abs(scores[expected]).max()) if is_known else 0.0
        wrong = _wrong_ranks(scores, expected, found, np.array(found_scores, np.float32), tolerance)
        if len(wrong):
            rank = int(wrong[0])
            best = expected[rank]
            raise RegistryError(
                f"{where} expected item {weights.index.ids.tolist()[best]!r} with score {scores[best]:.6g} at rank {rank + 1}, "
                f"found {item_ids[rank]!r} with {found_scores[rank]:.6g}. Export it again; it must not be served as it is."
            )


def _wrong_ranks(scores: Scores, expected: Indices, found: Indices, found_scores: Scores, tolerance: float) -> Indices:
    """Ranks, from 0, whose item or score isn't what `scores`, shape `(n_items,)`, make of it."""
    is_repeated = np.ones(len(found), bool)
    is_repeated[np.unique(found, return_index=True)[1]] = False
    right = (found != UNKNOWN) & ~is_repeated
    if tolerance == 0:
        right &= found == expected
    right &= np.abs(scores[found] - scores[expected]) <= tolerance
    right &= np.abs(scores[found] - found_scores) <= tolerance
    return np.flatnonzero(~right).astype(np.int32)


def _ask(folder: Path, sessions: list[list[Any]]) -> dict[str, list[list[Any]]]:
    """The answers of the SavedModel in a process of its own, which leaves a GPU to those who may hold it already."""
    try:
        done = subprocess.run(
            [sys.executable, "-m", "sbr_tasks.gru4rec.check_export", str(folder)],
            input=json.dumps(sessions),
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
            timeout=_MOST_SECONDS,
            capture_output=True,
            text=True,
            check=True,
        )
    except subprocess.TimeoutExpired:
        raise RegistryError(f"The SavedModel in {folder} gave no answer within {_MOST_SECONDS} s.") from None
    except subprocess.CalledProcessError as error:
        last = error.stderr.strip().rsplit("\n", 1)[-1] or f"exit code {error.returncode}"
        raise RegistryError(f"The SavedModel in {folder} can't be loaded or asked: {last}. Export it again.") from error
    answers: dict[str, list[list[Any]]] = json.loads(done.stdout)
    return answers
