"""One self-contained HTML page of packages side by side: table and plots.

Turns figures into cells and places; `trade_off.html` holds the page.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from ondevice import files
from ondevice.package import Proof
from ondevice.runtime.measure import Statistics
from ondevice.runtime.page import Dot, Plot, Table, Tick, round_step, template
from ondevice.runtime.trade_off import Row, TradeOff

HEAD = (
    "package",
    "MB",
    "bits/weight",
    "KL mean",
    "KL p99",
    "top-1",
    "perplexity",
    "prefill tok/s",
    "decode tok/s",
    "frontier",
)


def write(found: TradeOff, path: Path) -> None:
    """Write the page atomically. Raises `OndeviceError` where the place cannot be written."""
    files.write_text(path, render(found))


def render(found: TradeOff) -> str:
    """The page as HTML text. Everything that comes from the packages is escaped."""
    names = ", ".join(row.label for row in found.rows)
    return template("ondevice.runtime", "trade_off.html").render(
        title=f"{names}: compared",
        heading=names,
        notes=found.notes,
        found=found,
        table_of=Table("Packages side by side", HEAD, tuple(map(cells, found.rows))),
        plots=plots(found.rows),
        layers=layer_table(found.rows),
    )


def cells(row: Row) -> tuple[str, ...]:
    """A row as text, in the order of `HEAD`."""
    frontier = {True: "yes", False: "no", None: "-"}[row.on_frontier]
    megabytes = f"{row.bytes / 1e6:,.0f}"
    figures = proof_cells(row.proof)
    speeds = (_speed(row.prefill), _speed(row.decode))
    return (row.label, megabytes, f"{row.bits_per_weight:.2f}", *figures, *speeds, frontier)


def proof_cells(proof: Proof | None) -> tuple[str, ...]:
    if proof is None:
        return ("-",) * 4
    return (
        f"{proof.kl_mean:.4f}",
        f"{proof.kl_p99:.3f}",
        f"{proof.top1_agreement:.1%}",
        f"x{proof.perplexity_ratio:.4f}",
    )


def _speed(speed: Statistics | None) -> str:
    if speed is None:
        return "-"
    return f"{speed.median:,.1f} ({speed.minimum:,.1f} to {speed.maximum:,.1f})"


def layer_table(rows: Sequence[Row]) -> Table:
    """Relative error of the residual stream after each layer, a column for each package."""
    errors = [row.proof.layer_errors if row.proof is not None else () for row in rows]
    shown = [index for index, found in enumerate(errors) if found]
    count = max((len(found) for found in errors), default=0)
    body = []
    for layer in range(count):
        found = (errors[index] for index in shown)
        body.append((str(layer), *(f"{e[layer]:.3g}" if layer < len(e) else "" for e in found)))
    head = ("layer", *(rows[index].label for index in shown))
    return Table("Relative error of the residual stream after each layer", head, tuple(body))


def plots(rows: Sequence[Row]) -> tuple[Plot, ...]:
    """KL over size, and over the speed of decoding where it was measured."""
    found = [_plot(rows, "MB", lambda row: row.bytes / 1e6)]
    if all(row.decode is not None for row in rows):
        found.append(
            _plot(rows, "decode, tokens/s", lambda row: row.decode.median if row.decode else 0.0)
        )
    return tuple(plot for plot in found if plot.dots)


def _plot(rows: Sequence[Row], x_title: str, across: Callable[[Row], float]) -> Plot:
    """KL downwards in decades over a linear axis from 0."""
    known = [(row, row.proof.kl_mean) for row in rows if row.proof and row.proof.kl_mean > 0]
    decades = [math.log10(kl) for _, kl in known] or [0.0]
    low, high = math.floor(min(decades) - 0.05), math.ceil(max(decades) + 0.05)
    most = max((across(row) for row, _ in known), default=1.0) * 1.1
    step = round_step(most, 6)

    def down(decade: float) -> float:
        return round(100 * (high - decade) / (high - low), 2)

    dots = tuple(
        Dot(
            round(100 * across(row) / most, 2),
            down(math.log10(kl)),
            f"{row.label}: {across(row):,.0f} {x_title.split(', ')[-1]}, KL {kl:.4g}",
            str(number),
        )
        for number, (row, kl) in enumerate(known, 1)
    )
    marks = (i * step for i in range(math.floor(most / step + 1e-9) + 1))
    return Plot(
        title=f"Mean KL divergence (nats) over {x_title}",
        spoken="; ".join(dot.label for dot in dots),
        x_title=x_title,
        x_ticks=tuple(Tick(round(100 * mark / most, 2), f"{mark:,g}") for mark in marks),
        y_ticks=tuple(Tick(down(d), f"{10.0**d:g}") for d in range(low, high + 1)),
        curves=(),
        band="",
        dots=dots,
    )
