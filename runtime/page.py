"""What the HTML pages of results share: tables, bars, plots and the frame around them.

Knows nothing of what is shown. `page.html` is the frame and draws both. The bars are inline SVG:
rectangles with percentages need no plotting library, and the base install has none.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Template


@dataclass(frozen=True)
class Segment:
    """A piece of a bar: start and width in percent of the chart, and which colour (0-2)."""

    start: float
    width: float
    colour: int


@dataclass(frozen=True)
class Bar:
    """One row of a chart. `low` and `high` are the whisker's ends in percent, None without."""

    label: str
    value: str
    spoken: str
    segments: tuple[Segment, ...]
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Table:
    """Cells as text; the first column names the row."""

    caption: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Chart:
    """Bars on one scale from 0, with the table of the same figures."""

    title: str
    explanation: str
    bars: tuple[Bar, ...]
    table: Table
    legend: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tick:
    """A mark on an axis: where, in percent of its length, and what it says."""

    at: float
    label: str


@dataclass(frozen=True)
class Curve:
    """A line through `points` ("x,y x,y" in percent, y downwards); `kind` chooses its look."""

    kind: str
    label: str
    points: str


@dataclass(frozen=True)
class Dot:
    """A marked point, in percent from the left and from the top; `mark` is written beside it."""

    x: float
    y: float
    label: str
    mark: str = ""


@dataclass(frozen=True)
class Plot:
    """Curves over two axes. `band` is the polygon of the 95% interval of the first curve."""

    title: str
    spoken: str
    x_title: str
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    curves: tuple[Curve, ...]
    band: str
    dots: tuple[Dot, ...]


def percent_of(value: float, scale: float) -> float:
    """A length in percent of the chart's; 0 where the scale is."""
    return round(100 * value / scale, 3) if scale > 0 else 0.0


def round_step(length: float, most: int) -> float:
    """A round distance that parts an axis in at most so many."""
    if length <= 0:
        return 1.0
    size = 10.0 ** math.floor(math.log10(length / most))
    return next(size * f for f in (1, 2, 5, 10) if length / (size * f) <= most + 1e-9)


@cache
def template(package: str, name: str) -> Template:
    """A page of a package, which extends "page.html" and escapes all that is put into it.

    Every page needs `title`, `heading` and `notes` besides what is its own.
    """
    from jinja2 import DictLoader, Environment, StrictUndefined

    environment = Environment(
        loader=DictLoader({"page.html": _text("ondevice.runtime", "page.html")}),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.from_string(_text(package, name))


def _text(package: str, name: str) -> str:
    return (resources.files(package) / name).read_text(encoding="utf-8")
