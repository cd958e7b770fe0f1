"""The plots of a data profile, drawn from its numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal

from markupsafe import Markup

from sbr_tasks.report import svg
from sbr_tasks.report.profile.build import Profile
from sbr_tasks.report.profile.numbers import Numbers
from sbr_tasks.store import to_json

_WIDTH, _HEIGHT = 640, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 76, 36, 44, 44

_FILE_STYLE = """
text { font: 11px sans-serif; fill: #737b85 } .panel-title { font-size: 12px; font-weight: bold }
.rule { stroke: #73808d; stroke-opacity: 0.3 }
.line { fill: none; stroke-width: 2; stroke-linecap: round } .mark { stroke-dasharray: 5 4 }
.first { stroke: #3f8ac8 } .second { stroke: #d9822b } .bar, .dot { stroke: none }
.first.bar, .first.dot { fill: #3f8ac8 } .second.bar { fill: #d9822b }
"""
"""Of a plot in a file of its own: legible on white and on black. On a page, page.css does this."""


@dataclass(frozen=True)
class _Axis:
    """Where values are on an axis.

    Attributes:
        label: What they are, with the unit.
        low: The value at its start.
        high: The value at its end.
        ticks: Values, and how they are written.
        is_log: Whether equal distances are equal ratios.
    """

    label: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    is_log: bool = False

    def share_of(self, value: float) -> float:
        """How much of the axis is before a value, from 0 to 1."""
        if self.is_log:
            return math.log10(value / self.low) / math.log10(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class _Series:
    """Values that are drawn alike; `color` is a class of the style sheet. A mark is a vertical line at each `x`."""

    shape: Literal["bars", "line", "steps", "dots", "mark"]
    color: Literal["first", "second"]
    x: Sequence[float]
    y: Sequence[float] = ()
    label: str = ""


def plots_of(numbers: Numbers, *, timezone: str) -> dict[str, tuple[str, Markup]]:
    """Title and SVG element of each plot, by name.

    Args:
        numbers: As `ProfileBuilder.numbers` gives them.
        timezone: Name of the time zone of the hours.
    """
    plots = {}
    for name, (title, panels) in _PLOTS.items():
        drawn = panels(numbers, timezone)
        parts = [Markup('<g transform="translate(0 {})">{}</g>').format(n * _HEIGHT, panel) for n, panel in enumerate(drawn)]
        plots[name] = (title, svg.document(_WIDTH, _HEIGHT * len(drawn), parts))
    return plots


def write_files(profile: Profile, folder: Path) -> list[Path]:
    """Writes the numbers (`profile.json`) and all plots (`NAME.svg`) into a folder, which is created if needed."""
    folder.mkdir(parents=True, exist_ok=True)
    contents = {"profile.json": to_json(profile.numbers.as_dict())}
    for name, (_, plot) in plots_of(profile.numbers, timezone=profile.inputs.timezone).items():
        head, _, parts = plot.partition(">")
        contents[f"{name}.svg"] = f'{head} xmlns="http://www.w3.org/2000/svg"><style>{_FILE_STYLE}</style>{parts}'.encode()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in contents]


def _by_day(numbers: Numbers, _timezone: str) -> list[Markup]:
    counts = {what: [getattr(day, what) for day in numbers.days] for what in ("clicks", "sessions", "items")}
    days = [day.day for day in numbers.days]
    return [_daily(f"{what.capitalize()} per day", days, _counts(what, values), values) for what, values in counts.items()]


def _session_lengths(numbers: Numbers, _timezone: str) -> list[Markup]:
    length = numbers.session_length
    quantiles = [f"{100 * float(q):g}%: at most {most:,}" for q, most in length.quantiles.items()]
    return [
        _panel(
            "Session length, with quantiles",
            _log("clicks per session", length.clicks, _count),
            _log("sessions", length.sessions, _count),
            _Series("dots", "first", length.clicks, length.sessions),
            _Series("mark", "second", list(length.quantiles.values()), label="quantiles: " + ", ".join(quantiles)),
        )
    ]


def _length_shares(numbers: Numbers, _timezone: str) -> list[Markup]:
    length = numbers.session_length
    return [
        _panel(
            "Cumulative share by session length",
            _log("clicks per session", length.clicks, _count),
            _shares("cumulative share", [1]),
            _Series("steps", "first", length.clicks, length.share_of_sessions, "share of sessions"),
            _Series("steps", "second", length.clicks, length.share_of_clicks, "share of clicks"),
        )
    ]


def _popularity(numbers: Numbers, _timezone: str) -> list[Markup]:
    popularity = numbers.popularity
    ranks = _log("item rank (1 is the most clicked)", popularity.rank, _count)
    shares = _log("share of clicks", popularity.share, _percent)
    single = _Series("line", "first", popularity.rank, popularity.share)
    cumulative = _Series("line", "first", popularity.rank, popularity.cumulative_share)
    return [
        _panel("Share of clicks by item rank", ranks, shares, single),
        _panel("Cumulative share of clicks by item rank", ranks, _shares("cumulative share", [1]), cumulative),
    ]


def _support(numbers: Numbers, _timezone: str) -> list[Markup]:
    support = numbers.support
    x, y = _log("minimum clicks per item", support.at_least, _count), _log("items", support.items, _count)
    # From the right, because a number of items also holds for the smaller minimums that aren't listed.
    series = _Series("steps", "first", support.at_least[::-1], support.items[::-1])
    return [_panel("Items by minimum number of clicks", x, y, series)]


def _new_items(numbers: Numbers, _timezone: str) -> list[Markup]:
    rest = numbers.days[1:]
    days, items = [day.day for day in rest], [day.new_items or 0 for day in rest]
    shares = [(day.clicks_on_new_items or 0) / day.clicks for day in rest]
    return [
        _daily("New items per day (not clicked earlier in the window)", days, _counts("new items", items), items),
        _daily("Share of clicks on new items", days, _shares("share of clicks", shares), shares, "second"),
    ]


def _hours(numbers: Numbers, timezone: str) -> list[Markup]:
    shares = [clicks / numbers.clicks for clicks in numbers.hours]
    hours = _Axis(f"hour of day ({timezone})", -0.5, 23.5, [(hour, str(hour)) for hour in range(0, 24, 2)])
    return [
        _panel("Clicks by hour of day", hours, _shares("share of clicks", shares), _Series("bars", "first", range(24), shares))
    ]


_PLOTS: dict[str, tuple[str, Callable[[Numbers, str], list[Markup]]]] = {
    "by_day": ("Clicks, sessions and items per day", _by_day),
    "session_lengths": ("Session length", _session_lengths),
    "length_shares": ("Cumulative share of sessions and clicks by session length", _length_shares),
    "popularity": ("Share of clicks by item rank", _popularity),
    "support": ("Items by minimum number of clicks", _support),
    "new_items": ("New items per day", _new_items),
    "hours": ("Clicks by hour of day", _hours),
}


def _daily(
    title: str, days: Sequence[date], y: _Axis, values: Sequence[float], color: Literal["first", "second"] = "first"
) -> Markup:
    every = math.ceil(len(days) / 6)
    numbers = [day.toordinal() for day in days] or [0]
    ticks = [(day.toordinal(), str(day)) for day in days[::every]] if days else []
    return _panel(title, _Axis("day", numbers[0] - 0.5, numbers[-1] + 0.5, ticks), y, _Series("bars", color, numbers, values))


def _count(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 or value == 0 else ""


def _percent(value: float) -> str:
    return f"{100 * value:.4g}%"


def _counts(label: str, values: Iterable[float]) -> _Axis:
    return _linear(label, svg.ticks([0, 4, *values], n=4), _count)


def _shares(label: str, values: Iterable[float]) -> _Axis:
    return _linear(label, svg.ticks([0, 1e-6, *values], n=4), _percent)


def _linear(label: str, ticks: Sequence[float], written: Callable[[float], str]) -> _Axis:
    return _Axis(label, ticks[0], ticks[-1], [(tick, written(tick)) for tick in ticks])


def _log(label: str, values: Sequence[float], written: Callable[[float], str]) -> _Axis:
    low = math.floor(math.log10(min(values)))
    high = max(math.ceil(math.log10(max(values))), low + 1)
    ticks = [(10.0**power, written(10.0**power)) for power in range(low, high + 1)]
    return _Axis(label, 10.0**low, 10.0**high, ticks, is_log=True)


def _panel(title: str, x_axis: _Axis, y_axis: _Axis, *all_series: _Series) -> Markup:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def x_of(value: float) -> float:
        return _LEFT + x_axis.share_of(value) * (right - _LEFT)

    def y_of(value: float) -> float:
        return bottom - y_axis.share_of(value) * (bottom - _TOP)

    parts = [svg.text("panel-title", _LEFT, 14, title), svg.text("axis", _LEFT, 32, y_axis.label)]
    for value, written in y_axis.ticks:
        y = y_of(value)
        parts += [svg.line("rule", _LEFT, y, right, y), svg.text("axis", _LEFT - 6, y + 4, written, "end")]
    parts += [svg.text("axis", x_of(value), bottom + 16, written, "middle") for value, written in x_axis.ticks]
    parts.append(svg.text("axis", (_LEFT + right) / 2, bottom + 34, x_axis.label, "middle"))
    end: float = right
    for series in reversed([series for series in all_series if series.label]):
        parts.append(svg.text("axis", end, 32, series.label, "end"))
        end -= 5.7 * len(series.label)
        parts.append(svg.line(f"line {series.color}{' mark' * (series.shape == 'mark')}", end - 26, 28, end - 6, 28))
        end -= 42
    for series in all_series:
        points = [(x_of(x), y_of(y)) for x, y in zip(series.x, series.y, strict=False)]
        if series.shape == "bars":
            width = 0.8 * (x_of(x_axis.low + 1) - _LEFT)
            parts += [svg.rect(f"bar {series.color}", x - width / 2, y, width, bottom - y) for x, y in points]
        elif series.shape == "dots":
            parts += [svg.dot(f"dot {series.color}", x, y, 2) for x, y in points]
        elif series.shape == "mark":
            parts += [svg.line(f"line mark {series.color}", x_of(x), _TOP, x_of(x), bottom) for x in series.x]
        else:
            path = [points[0]]
            for point in points[1:]:
                path += [(point[0], path[-1][1]), point] if series.shape == "steps" else [point]
            parts.append(svg.polyline(f"line {series.color}", [*path, path[-1]]))
    return Markup("").join(parts)
