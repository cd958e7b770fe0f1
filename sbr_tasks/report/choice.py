"""What validation chose for a version, epochs and read-out, and what GRU4Rec adds to it, in words."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import zip_longest

from sbr_tasks.days import day_in_words
from sbr_tasks.evaluation.metrics import metric_title
from sbr_tasks.plain_text import percent
from sbr_tasks.readout.mixture import Mixture
from sbr_tasks.registry.gate import COMPARED, interval_in_words
from sbr_tasks.registry.versions import ModelVersion, epochs_in_words

_GAINS = {
    "adds": "GRU4Rec adds {} over counting alone",
    "lowers": "GRU4Rec lowers {} compared with counting alone",
    "chance": "What GRU4Rec adds to {} over counting alone could be chance",
}


def gru4rec_gain(gain: Mapping[str, Mapping[str, float]]) -> str:
    """Whether the neural part earns its keep, in a sentence for each answer; empty where it wasn't measured.

    Args:
        gain: `Decision.neural_gain`.
    """
    found: dict[str, list[tuple[str, str]]] = {answer: [] for answer in _GAINS}
    for metric in COMPARED:
        if metric in gain:
            value, lower, upper = (gain[metric][name] for name in ("value", "lower", "upper"))
            title, size = metric_title(metric), f"{abs(value):.3f}"
            if lower > 0:
                answer, what = "adds", f"{size} to {title}"
            elif upper < 0:
                answer, what = "lowers", f"{title} by {size}"
            else:
                answer, what = "chance", title
            found[answer].append((what, interval_in_words(lower, upper)))
    sentences = []
    for answer, metrics in found.items():
        if metrics:
            what, intervals = (" and ".join(texts) for texts in zip(*metrics, strict=True))
            plural = "s" if len(metrics) > 1 else ""
            sentences.append(f"{_GAINS[answer].format(what)} (95% interval{plural} {intervals}).")
    return " ".join(sentences)


def training_in_words(version: ModelVersion) -> str:
    """For how many epochs a version was trained, on what, and why."""
    choice = version.choice
    n_epochs = epochs_in_words(choice.n_epochs)
    trained = f"trained for {n_epochs} on all clicks before {day_in_words(version.day)}"
    if version.note or choice.day is None:
        return version.note or ""
    return f"The clicks of {day_in_words(choice.day)} chose {n_epochs}; the version was then {trained}."


def readout_in_words(mixture: Mixture) -> list[str]:
    """What the numbers of a read-out say, in sentences."""
    current, before = (*mixture.own_items, 0, 0)[:2]
    flatter = "flattens" if mixture.temperature > 1 else "sharpens"
    return [
        f"{percent(before)} of the next clicks go back to the item before the current one; {percent(current)} are on the "
        "current item again. Each share counts only sessions that have such an item.",
        f"GRU4Rec's scores are divided by {mixture.temperature:.2f} before the softmax, which {flatter} its probabilities.",
        "GRU4Rec's probabilities of the session's own items are multiplied by the factors in the table."
        if mixture.biases
        else "GRU4Rec's probabilities of the session's own items get no factors: on the held-out half they didn't help.",
    ]


def own_item_rows(mixture: Mixture) -> list[tuple[str, str, str]]:
    """For the current item and each one before: how often the next click is on it, and GRU4Rec's factor."""
    rows = zip_longest(mixture.own_items, mixture.biases)
    return [
        (f"{back} back" if back else "current", percent(rate), "\u2013" if bias is None else f"\u00d7 {math.exp(bias):.2f}")
        for back, (rate, bias) in enumerate(rows)
    ]


def share_rows(mixture: Mixture) -> list[tuple[str, float, float, float]]:
    """By the number of distinct items in a session, the weights of GRU4Rec, co-visits and own items."""
    last = len(mixture.shares)
    return [
        (f"{n} or more" if n == last else str(n), share.gru4rec, share.covisits, share.own_items)
        for n, share in enumerate(mixture.shares, 1)
    ]
