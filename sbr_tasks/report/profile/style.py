"""How plots of a page look: text and axes take the colour of the text around them, on a light page and on a dark one."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#010203"
"""Placeholder for the colour of the text around a plot; the SVG gets the real one."""

BLUE, ORANGE, GREY = "#3f8ac8", "#d9822b", "#8a9199"
"""Distinguishable, and legible on white and on black."""

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.alpha": 0.2,
    "grid.color": INK,
    "legend.frameon": False,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}


def to_svg(figure: Figure, name: str) -> bytes:
    """SVG for a page with several plots: its ids contain the plot's name."""
    sink = io.StringIO()
    figure.savefig(sink, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = sink.getvalue().replace(INK, "currentColor")
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    return re.sub(r'\bstyle="([^"]*)"', _attributes, text).encode()


def _attributes(style: re.Match[str]) -> str:
    """The declarations of a `style` as attributes, which a page's content security policy lets through."""
    declarations = [declaration.split(": ", 1) for declaration in style[1].split("; ")]
    return " ".join(f'{name}="{value}"' for name, value in declarations)


def to_element(svg: bytes) -> str:
    """The `svg` element alone, for an HTML page: without metadata, and without a style that would be the whole page's."""
    text = svg.decode()
    return re.sub(r"<(metadata|style)\b.*?</\1>\s*", "", text[text.index("<svg") :], flags=re.DOTALL).strip()
