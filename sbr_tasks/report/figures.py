"""The figures of a run's page, as SVG elements: what the models score, by how much they differ, how training went."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from sbr_tasks.evaluation.metrics import metric_title
from sbr_tasks.gru4rec.curve import Epoch
from sbr_tasks.registry.gate import COMPARED
from sbr_tasks.registry.log import Decision
from sbr_tasks.report.profile.style import BLUE, GREY, ORANGE, STYLE, to_element, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def scores_figures(promotion: Decision) -> list[str]:
    """What challenger, champion and baselines score on the same events, a figure a metric; none without events."""
    columns = promotion.scored
    colors = [{"challenger": BLUE, "champion": ORANGE}.get(name, GREY) for name in columns]

    def draw(panel: Axes, metric: str) -> None:
        values = [column[metric] for column in columns.values()]
        bars = panel.barh(list(columns), values, color=colors, height=0.6)
        panel.bar_label(bars, fmt="%.4f", padding=4)
        panel.set_xlim(0, (max(values) or 1) * 1.3)
        panel.locator_params(axis="x", nbins=5)
        panel.invert_yaxis()
        panel.grid(visible=False, axis="y")
        panel.set_title(metric_title(metric))

    if any(metric not in column for metric in COMPARED for column in columns.values()):
        return []
    size = (3.8, 0.8 + 0.34 * len(columns))
    return [_figure(metric, size, partial(draw, metric=metric)) for metric in COMPARED]


def differences_figure(promotion: Decision) -> str:
    """Challenger minus champion, with 95% intervals; empty where they weren't compared."""
    if any(metric not in promotion.differences for metric in COMPARED):
        return ""

    def draw(panel: Axes) -> None:
        for row, metric in enumerate(COMPARED):
            found = promotion.differences[metric]
            error = [[found["value"] - found["lower"]], [found["upper"] - found["value"]]]
            style: dict[str, Any] = {"fmt": "o", "color": BLUE, "capsize": 5, "markersize": 7, "linewidth": 2}
            panel.errorbar([found["value"]], [row], xerr=error, **style)
        panel.axvline(0, color=ORANGE, linewidth=1.5)
        panel.set_yticks(range(len(COMPARED)), [metric_title(metric) for metric in COMPARED])
        panel.set_ylim(len(COMPARED) - 0.5, -0.5)
        panel.locator_params(axis="x", nbins=6)
        panel.grid(visible=False, axis="y")
        panel.set_xlabel("challenger minus champion (positive: challenger is better)")

    return _figure("differences", (5.2, 1.7), draw)


def curve_figures(curve: Sequence[Epoch], best_epoch: int) -> list[str]:
    """Loss and validation scores by epoch, a figure each, with the epoch that was kept; none of what wasn't measured."""
    epochs = [epoch.number for epoch in curve]

    def draw(panel: Axes, title: str, name: str) -> None:
        values = [getattr(epoch, name) for epoch in curve]
        panel.plot(epochs, values, "o-", color=BLUE, markersize=4)
        panel.plot([best_epoch], [values[epochs.index(best_epoch)]], "o", color=ORANGE, markersize=8)
        panel.set_title(title)
        panel.set_xlabel("epoch")
        panel.locator_params(axis="x", integer=True, nbins=6)
        panel.margins(x=0.08, y=0.15)

    shown = {
        "loss": "Loss",
        "validation_recall_at_20": "Validation Recall@20",
        "validation_mrr_at_20": "Validation MRR@20",
    }
    known = [
        (name, title) for name, title in shown.items() if curve and all(getattr(epoch, name) is not None for epoch in curve)
    ]
    return [_figure(name, (2.95, 2.2), partial(draw, title=title, name=name)) for name, title in known]


def _figure(name: str, size: tuple[float, float], draw: Callable[[Axes], None]) -> str:
    """One panel of some inches; equal values give equal text."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasAgg(figure)
        draw(figure.subplots())
        return to_element(to_svg(figure, name))
