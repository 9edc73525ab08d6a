"""Pictures of a confidence: the reliability diagram and the risk-coverage curve.

Needs matplotlib (the extra `calibrate`). Computes nothing that `metrics` does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ondevice import files
from ondevice.errors import CalibrationError
from ondevice.runtime.confidence import metrics
from ondevice.runtime.confidence.certificate import Certificate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

OURS, RIVAL, GREY = "#1f5fa8", "#c46a1b", "#7a7a7a"
_GRID = np.linspace(0.02, 1.0, 99)
_DRAWS = 400


def plot(
    folder: Path,
    probabilities: Floats,
    right: Floats,
    groups: Sequence[str] | None = None,
    *,
    title: str = "",
    rival: tuple[str, Floats] | None = None,
    certificate: Certificate | None = None,
) -> tuple[Path, ...]:
    """Write `reliability` and `risk-coverage` as PNG and SVG into a folder; returns the files.

    `rival` is another score of the same answers by name. Raises `CalibrationError` when
    matplotlib is missing, `OndeviceError` when the folder cannot be written.
    """
    require_matplotlib()
    drawn = {
        "reliability": reliability(probabilities, right, groups, title=title),
        "risk-coverage": risk_coverage(
            probabilities, right, groups, title=title, rival=rival, certificate=certificate
        ),
    }
    return tuple(path for name, figure in drawn.items() for path in _save(folder, name, figure))


def reliability(
    probabilities: Floats,
    right: Floats,
    groups: Sequence[str] | None = None,
    *,
    title: str = "",
) -> Figure:
    """Share of right answers over the stated probability, in bins of equal mass."""
    figure = _figure(5.2, 5.6)
    axes, below = figure.subplots(2, 1, height_ratios=(5, 1), sharex=True)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle="--", label="perfect")
    found = metrics.bins(probabilities, right)
    x = np.array([b.confidence for b in found])
    y = np.array([b.accuracy for b in found])
    spans = np.array([_wilson(b) for b in found]).reshape(-1, 2)
    axes.vlines(x, spans[:, 0], spans[:, 1], color=OURS, alpha=0.45, linewidth=1.5)
    label = f"{len(found)} bins of about {len(right) // max(len(found), 1)} answers, 95% interval"
    axes.plot(x, y, "o", color=OURS, markersize=5, label=label, clip_on=False, zorder=3)
    error = metrics.ece_interval(probabilities, right, groups, draws=_DRAWS)
    chance = metrics.ece_by_chance(probabilities, draws=100)
    axes.text(
        0.97,
        0.04,
        f"ECE {error.value:.3f} ({error.low:.3f} to {error.high:.3f})\n"
        f"{chance:.3f} by chance alone\nBrier {metrics.brier(probabilities, right):.3f}",
        transform=axes.transAxes,
        ha="right",
        va="bottom",
        fontsize=9,
    )
    axes.set(xlim=(0, 1), ylim=(0, 1), ylabel="share of right answers")
    axes.legend(loc="upper left", frameon=False, fontsize=9)
    axes.set_title(_titled("Reliability", title, len(right)), fontsize=11, loc="left")
    below.hist(probabilities, bins=np.linspace(0, 1, 26).tolist(), color=OURS, alpha=0.7)
    below.set(xlabel="stated probability of being right", ylabel="answers")
    for one in (axes, below):
        _plain(one)
    return figure


def risk_coverage(
    probabilities: Floats,
    right: Floats,
    groups: Sequence[str] | None = None,
    *,
    title: str = "",
    rival: tuple[str, Floats] | None = None,
    certificate: Certificate | None = None,
) -> Figure:
    """Error among the accepted answers over the share that is accepted."""
    figure = _figure(6.4, 4.6)
    axes = figure.subplots()
    low, high = _band(probabilities, right, groups)
    axes.fill_between(_GRID * 100, low * 100, high * 100, color=OURS, alpha=0.15, linewidth=0)
    lines = [("ours", probabilities, OURS)]
    if rival is not None:
        lines.append((rival[0], rival[1], RIVAL))
    for name, scores, colour in lines:
        risk = _risk_at(scores, right)
        label = f"{name}, AUROC {metrics.auroc(scores, right):.3f}"
        if name == "ours":
            label += " (band: 95% interval)"
        axes.plot(_GRID * 100, risk * 100, color=colour, linewidth=2, label=label)
    base = 100 * (1 - float(right.mean()))
    axes.axhline(base, color=GREY, linewidth=1, linestyle="--")
    axes.text(1, base, f" everything accepted: {base:.0f}% wrong", va="bottom", fontsize=9)
    if certificate is not None:
        _mark(axes, certificate)
    top = max(base * 1.25, 100 * float(_risk_at(probabilities, right).max()) * 1.1, 10)
    axes.set(xlim=(0, 100), ylim=(0, min(top, 100)))
    axes.set(xlabel="answers accepted, % of all", ylabel="wrong among the accepted, %")
    axes.legend(loc="upper left", frameon=False, fontsize=9)
    axes.set_title(_titled("Risk and coverage", title, len(right)), fontsize=11, loc="left")
    _plain(axes)
    return figure


def _mark(axes: Axes, found: Certificate) -> None:
    """The certified point: what was seen, and how bad it can be."""
    share, error = 100 * found.local_share, 100 * found.errors / max(found.accepted, 1)
    bound = 100 * found.upper_bound
    axes.plot([share, share], [error, bound], color="black", linewidth=1.5)
    axes.plot(share, error, "o", color="black", markersize=5, zorder=4)
    axes.plot(share, bound, "_", color="black", markersize=10, zorder=4)
    text = f"certified: {share:.0f}% accepted,\nerror ≤ {bound:.1f}% ({found.confidence:.0%} sure)"
    right_side = share > 65
    axes.annotate(
        text,
        (share, bound),
        xytext=(-8 if right_side else 8, 14),
        textcoords="offset points",
        ha="right" if right_side else "left",
        fontsize=9,
    )


def _risk_at(scores: Floats, right: Floats) -> Floats:
    """Error among the accepted on the common grid of coverages, linear within ties."""
    coverage, risk = metrics.risk_coverage(scores, right)
    wrong = np.interp(_GRID, np.append(0.0, coverage), np.append(0.0, coverage * risk))
    return np.asarray(wrong / _GRID, np.float64)


def _band(scores: Floats, right: Floats, groups: Sequence[str] | None) -> tuple[Floats, Floats]:
    drawn = [
        _risk_at(scores[i], right[i]) for i in metrics.resamples(len(right), groups, _DRAWS, 0)
    ]
    low, high = np.quantile(np.array(drawn), (0.025, 0.975), axis=0)
    return np.asarray(low), np.asarray(high)


def _wilson(of: metrics.Bin) -> tuple[float, float]:
    """95% score interval of a bin's accuracy (Wilson 1927)."""
    z = 1.959963984540054
    n, p = of.count, of.accuracy
    middle = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(p * (1 - p) / n + z * z / (4 * n * n)))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def _titled(what: str, title: str, n: int) -> str:
    return f"{what}, {title} ({n} answers)" if title else f"{what} ({n} answers)"


def _figure(width: float, height: float) -> Figure:
    # No pyplot: it would choose a window system and keep every figure alive.
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)


def _save(folder: Path, name: str, figure: Figure) -> list[Path]:
    import io

    import matplotlib

    paths = []
    # The same picture gives the same bytes: no date, and ids that do not change.
    with matplotlib.rc_context({"svg.hashsalt": "ondevice"}):
        for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, dpi=160, metadata=metadata)
            path = folder / f"{name}.{kind}"
            files.write_bytes(path, buffer.getvalue())
            paths.append(path)
    return paths


def require_matplotlib() -> None:
    """Raise `CalibrationError` when matplotlib is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise CalibrationError(
            "plots need matplotlib: install it with `pip install 'ondevice[calibrate]'`"
        ) from error
