"""Gets recommendations from a SavedModel with TensorFlow alone: `python -m sbr_tasks.gru4rec.ask_saved_model FOLDER`.

Reads sessions as JSON (lists of raw item ids) from standard input, and writes JSON of `item_ids` and `scores`, with one list
per session, to standard output. `export.check_saved_model` runs it in a separate process.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

_AT_ONCE = 64  # sessions per batch, to bound memory


def ask(folder: str, sessions: list[list[Any]]) -> dict[str, list[list[Any]]]:
    """The best items of each session, and their scores."""
    from sbr_tasks.gru4rec._tensorflow import tf

    model = tf.saved_model.load(folder)
    recommend = model.signatures["serving_default"]
    id_type = recommend.structured_input_signature[1]["item_ids"].dtype
    padding = "" if id_type == tf.string else -1
    item_ids: list[list[Any]] = []
    scores: list[list[float]] = []
    for start in range(0, len(sessions), _AT_ONCE):
        block = sessions[start : start + _AT_ONCE]
        longest = max(map(len, block))
        padded = [session + [padding] * (longest - len(session)) for session in block]
        answer = recommend(item_ids=tf.constant(padded, id_type, (len(block), longest)))
        item_ids += [[_plain(item) for item in row] for row in answer["item_ids"].numpy().tolist()]
        scores += answer["scores"].numpy().tolist()
    return {"item_ids": item_ids, "scores": scores}


def _plain(item: int | bytes) -> int | str:
    return item.decode() if isinstance(item, bytes) else item


if __name__ == "__main__":
    os.chdir(sys.argv[1])  # TensorFlow would read `*`, `?` and `[` in a path as a pattern
    json.dump(ask(".", json.load(sys.stdin)), sys.stdout)
