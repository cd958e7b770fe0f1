"""Elements of a figure, as SVG that takes its colours from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup


def ticks(values: Sequence[float], *, n: int) -> list[float]:
    """Round numbers from at most the least value to at least the greatest, at most `n` steps apart."""
    low, high = min(values), max(values)
    if low == high:
        low, high = low - (abs(low) or 1) / 10, high + (abs(high) or 1) / 10
    raw = (high - low) / n
    magnitude = 10 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= raw * 0.999)
    return [i * step for i in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]


def document(width: float, height: float, parts: Iterable[Markup]) -> Markup:
    """An `svg` element of that many pixels, scaled down where there is less room."""
    return Markup('<svg viewBox="0 0 {0} {1}" width="{0}" height="{1}">{2}</svg>').format(width, height, Markup("").join(parts))


def text(kind: str, x: float, y: float, text: str, anchor: str = "start") -> Markup:
    """A text; `kind` is its class in the style sheet, here and below."""
    return Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(kind, x, y, anchor, text)


def line(kind: str, x1: float, y1: float, x2: float, y2: float) -> Markup:
    """A straight line."""
    return Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>').format(kind, x1, y1, x2, y2)


def dot(kind: str, x: float, y: float, radius: float = 4) -> Markup:
    """A filled circle."""
    return Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{}"/>').format(kind, x, y, radius)


def rect(kind: str, x: float, y: float, width: float, height: float) -> Markup:
    """A rectangle by its upper left corner."""
    template = '<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>'
    return Markup(template).format(kind, x, y, width, height)  # noqa: S704


def polyline(kind: str, points: Iterable[tuple[float, float]]) -> Markup:
    """A line through all points."""
    return Markup('<polyline class="{}" points="{}"/>').format(kind, " ".join(f"{x:.1f},{y:.1f}" for x, y in points))
