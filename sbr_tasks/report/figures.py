"""Figures of a version's page, as SVG that takes its colours from the page's style sheet, on a light page and on a dark one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from markupsafe import Markup

from sbr_tasks.evaluation.metrics import metric_title
from sbr_tasks.gru4rec.curve import Epoch
from sbr_tasks.plain_text import percent
from sbr_tasks.readout.mixture import Mixture
from sbr_tasks.registry.gate import COMPARED
from sbr_tasks.registry.log import Decision
from sbr_tasks.report import svg
from sbr_tasks.report.choice import share_rows
from sbr_tasks.report.words import score, scorer_title

_CURVES = {"loss": "Loss", "validation_recall_at_20": "Validation Recall@20", "validation_mrr_at_20": "Validation MRR@20"}


def scores_figures(decision: Decision) -> list[Markup]:
    """What challenger, champion and baselines score on the same events, a figure a metric; none without events."""
    scored = decision.scored
    if any(metric not in column for metric in COMPARED for column in scored.values()):
        return []
    kinds = {who: who if who in ("challenger", "champion") else "baseline" for who in scored}
    return [
        _bars(metric_title(metric), [(scorer_title(who), kinds[who], column[metric]) for who, column in scored.items()], score)
        for metric in COMPARED
    ]


def readout_figures(mixture: Mixture) -> list[Markup]:
    """How often the next click is on one of a session's last items, and the weights of the mixture's parts."""
    rates = [(f"{back} back" if back else "current", "first", rate) for back, rate in enumerate(mixture.own_items)]
    return [_bars("Next clicks on the session's items", rates, percent), _shares_figure(mixture)]


def _shares_figure(mixture: Mixture) -> Markup:
    width, left, right, row_height, top = 400, 80, 20, 26, 44
    room = width - left - right
    parts = [svg.text("panel-title", left, 12, "Weights by distinct items in the session")]
    kinds = (("GRU4Rec", "first", 0), ("co-visits", "second", 75), ("own items", "third", 150))
    for title, kind, shift in kinds:
        parts += [svg.rect(f"bar {kind}", left + shift, 22, 10, 10), svg.text("axis", left + shift + 14, 31, title)]
    for n, (items, *weights) in enumerate(share_rows(mixture)):
        y, x = top + row_height * n, float(left)
        parts.append(svg.text("axis", left - 8, y + 13, items, "end"))
        for (_, kind, _), weight in zip(kinds, weights, strict=True):
            parts.append(svg.rect(f"bar {kind}", x, y, weight * room, 18))
            x += weight * room
    return svg.document(width, top + row_height * len(mixture.shares), parts)


def differences_figure(decision: Decision) -> list[Markup]:
    """Challenger minus champion, with 95% intervals; none where they weren't compared."""
    if any(metric not in decision.differences for metric in COMPARED):
        return []
    width, left, right, top, row_height = 480, 80, 20, 10, 30
    differences = {metric_title(metric): decision.differences[metric] for metric in COMPARED}
    ticks = svg.ticks([0.0, *(difference[end] for difference in differences.values() for end in ("lower", "upper"))], n=5)
    bottom = top + row_height * len(differences)

    def x_of(value: float) -> float:
        return left + (value - ticks[0]) / (ticks[-1] - ticks[0]) * (width - left - right)

    parts = [svg.line("rule", x_of(tick), top, x_of(tick), bottom) for tick in ticks]
    parts += [svg.text("axis", x_of(tick), bottom + 14, f"{tick:+g}" if tick else "0", "middle") for tick in ticks]
    parts.append(svg.line("zero", x_of(0), top, x_of(0), bottom))
    for n, (title, difference) in enumerate(differences.items()):
        y = top + row_height * (n + 0.5)
        parts += [
            svg.text("axis", left - 10, y + 4, title, "end"),
            svg.line("whisker", x_of(difference["lower"]), y, x_of(difference["upper"]), y),
            svg.dot("dot challenger", x_of(difference["value"]), y),
        ]
    parts.append(svg.text("axis", (left + width - right) / 2, bottom + 32, "positive: the challenger is better", "middle"))
    return [svg.document(width, bottom + 38, parts)]


def curve_figures(curve: Sequence[Epoch], best_epoch: int) -> list[Markup]:
    """Loss and validation scores by epoch, a figure each, with the epoch that was kept; none of what wasn't measured."""
    numbers = [epoch.number for epoch in curve]
    values = {name: [getattr(epoch, name) for epoch in curve] for name in _CURVES}
    measured = [name for name in _CURVES if curve and None not in values[name]]
    return [_curve(_CURVES[name], numbers, values[name], best_epoch) for name in measured]


def _bars(title: str, bars: Sequence[tuple[str, str, float]], write: Callable[[float], str]) -> Markup:
    """Bars with a label, a kind and a value each; `write` makes the value a text."""
    width, right, row_height = 400, 60, 26
    left = max(80.0, 20 + 6.2 * max(len(label) for label, _, _ in bars))
    most = max(value for _, _, value in bars) or 1
    parts = [svg.text("panel-title", left, 12, title)]
    for n, (label, kind, value) in enumerate(bars):
        y, length = 22 + row_height * n, value / most * (width - left - right)
        parts += [
            svg.text("axis", left - 8, y + 13, label, "end"),
            svg.rect(f"bar {kind}", left, y, length, 18),
            svg.text("axis", left + length + 6, y + 13, write(value)),
        ]
    return svg.document(width, 22 + row_height * len(bars), parts)


def _curve(title: str, epochs: Sequence[int], values: Sequence[float], best_epoch: int) -> Markup:
    width, height, left, right, top, bottom = 300, 170, 52, 12, 24, 32
    ticks = svg.ticks(values, n=4)
    first, span = epochs[0], max(epochs[-1] - epochs[0], 1)
    every = math.ceil((span + 1) / 6)

    def x_of(epoch: int) -> float:
        return left + 8 + (epoch - first) / span * (width - left - right - 16)

    def y_of(value: float) -> float:
        return top + (ticks[-1] - value) / (ticks[-1] - ticks[0]) * (height - top - bottom)

    parts = [svg.text("panel-title", left, 12, title)]
    for tick in ticks:
        parts += [
            svg.line("rule", left, y_of(tick), width - right, y_of(tick)),
            svg.text("axis", left - 6, y_of(tick) + 4, f"{tick:.6g}", "end"),
        ]
    parts += [svg.text("axis", x_of(epoch), height - 16, str(epoch), "middle") for epoch in epochs[::every]]
    parts.append(svg.text("axis", (left + width - right) / 2, height - 2, "epoch", "middle"))
    points = [(x_of(epoch), y_of(value)) for epoch, value in zip(epochs, values, strict=True)]
    parts.append(svg.polyline("line challenger", points))
    for epoch, (x, y) in zip(epochs, points, strict=True):
        parts.append(svg.dot("dot best" if epoch == best_epoch else "dot challenger", x, y))
    return svg.document(width, height, parts)
