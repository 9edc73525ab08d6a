"""One self-contained HTML page of an evaluation: accuracy, comparisons, frontier, times, costs.

Turns figures into rows, bar lengths and curve points; `eval_report.html` holds the page. Curves
are inline SVG and follow the reader's light or dark colours; nothing is loaded or run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ondevice import files
from ondevice.runtime.evaluate.eval_result import EvalResult
from ondevice.runtime.evaluate.frontier import Frontier
from ondevice.runtime.evaluate.summary import SubjectSummary
from ondevice.runtime.evaluate.tables import (
    comparison_table,
    family_tables,
    frontier_table,
    interval,
    judge_table,
    overall_table,
    part_tables,
    percent,
    remarks,
    seconds,
    usd,
)
from ondevice.runtime.page import (
    Bar,
    Chart,
    Curve,
    Dot,
    Plot,
    Segment,
    Table,
    Tick,
    percent_of,
    round_step,
    template,
)


@dataclass(frozen=True)
class FrontierView:
    """Everything the page shows of one frontier."""

    title: str
    explanation: str
    remarks: tuple[str, ...]
    plots: tuple[Plot, ...]
    table: Table


def write(result: EvalResult, path: Path) -> None:
    """Write the page atomically. Raises `OndeviceError` where the place cannot be written."""
    files.write_text(path, render(result))


def render(result: EvalResult) -> str:
    """The page as HTML text. Everything that comes from the result is escaped."""
    names = [subject.name for subject in result.subjects]
    return template("ondevice.runtime.evaluate", "eval_report.html").render(
        title=f"Evaluation: {', '.join(names)}",
        heading=", ".join(names),
        notes=result.notes,
        result=result,
        overall=overall_table(result.subjects),
        charts=charts(result.subjects),
        comparisons=comparison_table(result.comparisons),
        families=family_tables(result.comparisons),
        frontiers=[frontier_view(frontier) for frontier in result.frontiers],
        parts=part_tables(result.subjects),
        judge=judge_table(result.judge),
    )


# ---- bars


def charts(subjects: Sequence[SubjectSummary]) -> tuple[Chart, ...]:
    """Bars of accuracy, latency and cost, each with the models one below the other."""
    found = [_accuracy_chart(subjects), _latency_chart(subjects)]
    if any(subject.overall.cost_usd for subject in subjects):
        found.append(_cost_chart(subjects))
    return tuple(chart for chart in found if chart.bars)


def _accuracy_chart(subjects: Sequence[SubjectSummary]) -> Chart:
    bars = []
    for subject in subjects:
        a = subject.overall.accuracy
        value = percent(a.value)
        bars.append(
            Bar(
                subject.name,
                value,
                f"{subject.name}: {value} right, 95% interval {interval(a)}",
                (Segment(0, percent_of(a.value, 1), 0),),
                percent_of(a.low, 1),
                percent_of(a.high, 1),
            )
        )
    return Chart(
        "Right answers",
        "Share of all examples; line: 95% interval. Higher is better.",
        tuple(bars),
        Table("", (), ()),
    )


def _latency_chart(subjects: Sequence[SubjectSummary]) -> Chart:
    known = [(s.name, s.overall.latency_s) for s in subjects]
    times = [(name, spread) for name, spread in known if spread is not None]
    scale = max((spread.p95 for _, spread in times), default=0.0)
    bars = []
    for name, spread in times:
        middle = percent_of(spread.median, scale)
        rest = percent_of(spread.p95 - spread.median, scale)
        value = f"{seconds(spread.median)}, p95 {seconds(spread.p95)}"
        segments = (Segment(0, middle, 0), Segment(middle, rest, 1))
        bars.append(Bar(name, value, f"{name}: median {value}", segments))
    return Chart(
        "Time for an answer",
        "Median and 95th percentile of the whole answer. Lower is better.",
        tuple(bars),
        Table("", (), ()),
        ("median", "to p95"),
    )


def _cost_chart(subjects: Sequence[SubjectSummary]) -> Chart:
    scale = max(subject.overall.cost_per_1000_usd for subject in subjects)
    bars = []
    for subject in subjects:
        cost = subject.overall.cost_per_1000_usd
        segments = (Segment(0, percent_of(cost, scale), 0),)
        bars.append(Bar(subject.name, usd(cost), f"{subject.name}: {usd(cost)}", segments))
    return Chart(
        "Cost of 1,000 answers",
        "USD asked by endpoints; answers on the device cost nothing here. Lower is better.",
        tuple(bars),
        Table("", (), ()),
    )


# ---- frontiers


def frontier_view(frontier: Frontier) -> FrontierView:
    """Curves over local share and, where the large model costs something, over cost."""
    plots = [_share_plot(frontier)]
    if frontier.large_cost_usd > 0:
        plots.append(_cost_plot(frontier))
    return FrontierView(
        title=f"{frontier.small} first, {frontier.large} when unsure",
        explanation=(
            f"At each threshold of the {frontier.confidence}, answers below it go to the large "
            "model. Times and costs count the draft that was given up."
        ),
        remarks=tuple(remarks(frontier)),
        plots=tuple(plots),
        table=frontier_table(frontier),
    )


def _share_plot(frontier: Frontier) -> Plot:
    shares = [point.local_share for point in frontier.points]
    ticks = tuple(Tick(20.0 * i, f"{20 * i}%") for i in range(6))
    return _plot(frontier, shares, shares, "share answered locally", ticks, 1.0)


def _cost_plot(frontier: Frontier) -> Plot:
    found = frontier.points
    costs = [1000 * point.cost_usd for point in found]
    # By chance or by oracle, a share costs what it costs on average.
    draft = found[0].cost_usd - frontier.large_cost_usd
    mixed = [1000 * (draft + (1 - p.local_share) * frontier.large_cost_usd) for p in found]
    step = round_step(max(costs), 5)
    count = math.ceil(max(costs) / step - 1e-9)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    labels = [f"${i * step:.{digits}f}" if i else "$0" for i in range(count + 1)]
    ticks = tuple(Tick(100 * i / count, label) for i, label in enumerate(labels))
    return _plot(frontier, costs, mixed, "USD for 1,000 answers", ticks, count * step)


def _plot(
    frontier: Frontier,
    xs: Sequence[float],
    mixed: Sequence[float],
    x_title: str,
    x_ticks: tuple[Tick, ...],
    most: float,
) -> Plot:
    """Accuracy over `xs`, by chance and by oracle over `mixed`; the axis ends at `most`."""
    found = frontier.points
    low, high = _range(
        [v for p in found for v in (p.accuracy.value, p.random_accuracy, p.oracle_accuracy)]
    )

    def across(x: float) -> float:
        return 100 * x / most

    def down(value: float) -> float:
        return min(100.0, max(0.0, 100 * (high - value) / (high - low)))

    def line(places: Sequence[float], values: Iterable[float]) -> list[str]:
        pairs = zip(places, values, strict=True)
        return [f"{across(x):.2f},{down(value):.2f}" for x, value in pairs]

    ours = line(xs, (p.accuracy.value for p in found))
    upper = line(xs, (p.accuracy.high for p in found))
    lower = line(xs, (p.accuracy.low for p in found))
    chance = line(mixed, (p.random_accuracy for p in found))
    oracle = line(mixed, (p.oracle_accuracy for p in found))
    dots = []
    if (best := frontier.at_loss) is not None:
        x = across(xs[found.index(best)])
        label = f"largest local share at {frontier.loss_points:g} points below"
        dots.append(Dot(round(x, 2), round(down(best.accuracy.value), 2), label))
    step = round_step(high - low, 8)
    marks = [low + i * step for i in range(math.floor((high - low) / step + 1e-9) + 1)]
    return Plot(
        title=f"Right answers over {x_title}",
        spoken=(
            f"Right answers over {x_title}: {percent(found[0].accuracy.value)} with all answers "
            f"from {frontier.large}, {percent(found[-1].accuracy.value)} with as many as possible "
            f"from {frontier.small}; the table has points between."
        ),
        x_title=x_title,
        x_ticks=x_ticks,
        y_ticks=tuple(Tick(round(down(mark), 3), percent(mark, 0)) for mark in marks),
        curves=(
            Curve("ours", "by confidence (shaded: 95% interval)", " ".join(ours)),
            Curve("random", "by chance, same share", " ".join(chance)),
            Curve("oracle", "by oracle, same share", " ".join(oracle)),
        ),
        band=" ".join([*upper, *reversed(lower)]),
        dots=tuple(dots),
    )


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Ends of an axis for shares: whole twentieths with some room, within 0 and 1."""
    low = max(0.0, math.floor(20 * min(values) - 0.5) / 20)
    high = min(1.0, math.ceil(20 * max(values) + 0.5) / 20)
    return (low, high) if high > low else (max(0.0, low - 0.05), min(1.0, high + 0.05))
