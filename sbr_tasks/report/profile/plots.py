"""The plots of a data profile, as SVG (for the page of a run: text and axes take the page's colour) and PNG."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sbr_tasks.report.profile.numbers import Numbers
from sbr_tasks.report.profile.style import BLUE, ORANGE, STYLE, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Plot:
    """One picture, twice."""

    title: str
    svg: bytes
    png: bytes


def draw_plots(numbers: Numbers, *, timezone: str) -> dict[str, Plot]:
    """All plots of a profile, by name; equal numbers give equal bytes of SVG.

    Args:
        numbers: As `ProfileBuilder.numbers` gives them.
        timezone: Name of the time zone of the hours.
    """
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    plots = {}
    for name, (title, n_panels, height, draw) in PLOTS.items():
        with mpl.rc_context({**STYLE, "svg.hashsalt": name}):
            figure = Figure(figsize=(8, height), layout="constrained")
            FigureCanvasAgg(figure)
            panels = figure.subplots(n_panels, 1, sharex=n_panels == 3, squeeze=False)[:, 0]
            draw(numbers, list(panels))
            if name == "hours":
                panels[0].set_xlabel(f"hour of day ({timezone})")
            plots[name] = Plot(title, to_svg(figure, name), _to_png(figure))
    return plots


def _by_day(numbers: Numbers, panels: list[Axes]) -> None:
    days = [day.day for day in numbers.days]
    for panel, what in zip(panels, ("clicks", "sessions", "items"), strict=True):
        panel.bar(days, [getattr(day, what) for day in numbers.days], color=BLUE)  # type: ignore[arg-type]
        panel.set_title(f"{what.capitalize()} per day")
        panel.set_ylabel(what)
        _thousands(panel.yaxis)
    _dates(panels[-1])


def _session_lengths(numbers: Numbers, panels: list[Axes]) -> None:
    (panel,) = panels
    length = numbers.session_length
    panel.loglog(length.clicks, length.sessions, "o", markersize=3, color=BLUE)
    for (q, value), style in zip(length.quantiles.items(), (":", "--", "-."), strict=True):
        label = f"{100 * float(q):g}%: at most {value:,}"
        panel.axvline(value, color=ORANGE, linestyle=style, linewidth=1.3, label=label)
    panel.set_title("Session length, with quantiles", pad=24)
    panel.set_xlabel("clicks per session")
    panel.set_ylabel("sessions")
    panel.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=3, borderpad=0, borderaxespad=0.3)
    _thousands(panel.xaxis)
    _thousands(panel.yaxis)


def _length_shares(numbers: Numbers, panels: list[Axes]) -> None:
    (panel,) = panels
    length = numbers.session_length
    for what, color in (("sessions", BLUE), ("clicks", ORANGE)):
        shares = getattr(length, f"share_of_{what}")
        panel.step(length.clicks, shares, where="post", color=color, label=f"share of {what}")
        panel.plot(length.clicks[-1:], shares[-1:], ".", color=color)
    panel.set_xscale("log")
    panel.set_ylim(0, 1.03)
    panel.set_title("Cumulative share by session length")
    panel.set_xlabel("clicks per session")
    panel.set_ylabel("cumulative share")
    panel.legend(loc="lower right")
    _thousands(panel.xaxis)
    _percents(panel.yaxis)


def _popularity(numbers: Numbers, panels: list[Axes]) -> None:
    one, all_before = panels
    popularity = numbers.popularity
    one.loglog(popularity.rank, popularity.share, color=BLUE)
    one.set_title("Share of clicks by item rank")
    one.set_ylabel("share of clicks")
    _percents(one.yaxis)
    all_before.semilogx(popularity.rank, popularity.cumulative_share, color=BLUE)
    all_before.set_ylim(0, 1.03)
    all_before.set_title("Cumulative share of clicks by item rank")
    all_before.set_ylabel("cumulative share")
    _percents(all_before.yaxis)
    for panel in panels:
        panel.set_xlabel("item rank (1 is the most clicked)")
        _thousands(panel.xaxis)


def _support(numbers: Numbers, panels: list[Axes]) -> None:
    (panel,) = panels
    panel.loglog(numbers.support.at_least, numbers.support.items, color=BLUE, drawstyle="steps-pre")
    panel.set_title("Items by minimum number of clicks")
    panel.set_xlabel("minimum clicks per item")
    panel.set_ylabel("items")
    _thousands(panel.xaxis)
    _thousands(panel.yaxis)


def _new_items(numbers: Numbers, panels: list[Axes]) -> None:
    items, share = panels
    rest = numbers.days[1:]
    days = [day.day for day in rest]
    items.bar(days, [day.new_items for day in rest], color=BLUE)  # type: ignore[arg-type]
    items.set_title("New items per day (not clicked earlier in the window)")
    items.set_ylabel("new items")
    _thousands(items.yaxis)
    share.bar(days, [(day.clicks_on_new_items or 0) / day.clicks for day in rest], color=ORANGE)  # type: ignore[arg-type]
    share.set_title("Share of clicks on new items")
    share.set_ylabel("share of clicks")
    _percents(share.yaxis)
    for panel in panels:
        _dates(panel)


def _hours(numbers: Numbers, panels: list[Axes]) -> None:
    (panel,) = panels
    panel.bar(range(24), [clicks / numbers.clicks for clicks in numbers.hours], color=BLUE)
    panel.set_title("Clicks by hour of day")
    panel.set_ylabel("share of clicks")
    panel.set_xticks(range(0, 24, 2))
    _percents(panel.yaxis)


PLOTS: dict[str, tuple[str, int, float, Callable[[Numbers, list[Axes]], None]]] = {
    "by_day": ("Clicks, sessions and items per day", 3, 6.5, _by_day),
    "session_lengths": ("Session length", 1, 3.6, _session_lengths),
    "length_shares": ("Cumulative share of sessions and clicks by session length", 1, 3.6, _length_shares),
    "popularity": ("Share of clicks by item rank", 2, 6.0, _popularity),
    "support": ("Items by minimum number of clicks", 1, 3.6, _support),
    "new_items": ("New items per day", 2, 5.2, _new_items),
    "hours": ("Clicks by hour of day", 1, 3.2, _hours),
}


def _thousands(axis: Any) -> None:
    """Whole numbers with separators; a logarithmic axis keeps its places of ticks."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 or value == 0 else ""))
    if axis.get_scale() == "log":
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_major_locator(MaxNLocator(nbins=4, integer=True))


def _percents(axis: Any) -> None:
    from matplotlib.ticker import FuncFormatter

    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g}%"))


def _dates(panel: Axes) -> None:
    from matplotlib.dates import AutoDateLocator, DateFormatter

    panel.xaxis.set_major_locator(AutoDateLocator(minticks=2, maxticks=7))  # type: ignore[no-untyped-call]
    panel.xaxis.set_major_formatter(DateFormatter("%Y-%m-%d"))  # type: ignore[no-untyped-call]
    panel.set_xlabel("day")


def _to_png(figure: Figure) -> bytes:
    sink = io.BytesIO()
    figure.savefig(sink, format="png", dpi=120, facecolor="white", metadata={"Software": None})
    return sink.getvalue()
