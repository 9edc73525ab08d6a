"""Figures of an evaluation as text and tables, for the terminal and the page alike."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ondevice.runtime.evaluate.eval_result import JudgeSummary
from ondevice.runtime.evaluate.frontier import Frontier, Point
from ondevice.runtime.evaluate.statistics import Estimate, Spread
from ondevice.runtime.evaluate.summary import (
    Comparison,
    FamilyDifference,
    Group,
    SubjectSummary,
)
from ondevice.runtime.page import Table

_ROWS = 11  # thresholds in the table of a frontier; the JSON has all


def percent(value: float, digits: int = 1) -> str:
    """A share as percent."""
    return f"{100 * value:.{digits}f}%"


def interval(estimate: Estimate) -> str:
    """An interval of a share, such as `71.2-78.9%`."""
    return f"{100 * estimate.low:.1f}\N{EN DASH}{100 * estimate.high:.1f}%"


def points(value: float) -> str:
    """A difference of shares in points, with its sign."""
    return f"{100 * value:+.1f}"


def seconds(value: float) -> str:
    """A time with a fitting unit."""
    if value < 1:
        return f"{1000 * value:.0f} ms" if value >= 0.01 else f"{1000 * value:.2g} ms"
    return f"{value:.2f} s" if value < 100 else f"{value:,.0f} s"


def usd(value: float) -> str:
    """An amount in US dollars with at least three significant digits below one dollar."""
    if value == 0:
        return "$0"
    if value >= 1:
        return f"${value:,.2f}"
    digits = min(9, 2 - math.floor(math.log10(value)))
    return f"${value:.{digits}f}"


def p_value(value: float) -> str:
    """A p-value, small ones as a bound."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _times(spread: Spread | None) -> tuple[str, str]:
    if spread is None:
        return "\N{EN DASH}", "\N{EN DASH}"
    return seconds(spread.median), seconds(spread.p95)


# ---- tables


def overall_table(subjects: Sequence[SubjectSummary]) -> Table:
    """A row for each model."""
    head = (
        "model", "right", "95%", "format", "score", "TTFT", "p95", "latency", "p95",
        "cost", "per 1,000", "no answer",
    )  # fmt: skip
    return Table("All examples", head, tuple(_overall_row(subject) for subject in subjects))


def _overall_row(subject: SubjectSummary) -> tuple[str, ...]:
    g = subject.overall
    return (
        subject.name,
        percent(g.accuracy.value),
        interval(g.accuracy),
        percent(g.compliance.value),
        f"{g.score.value:.3f}",
        *_times(g.ttft_s),
        *_times(g.latency_s),
        usd(g.cost_usd),
        usd(g.cost_per_1000_usd),
        str(g.errors) if not g.refused else f"{g.errors} ({g.refused} not sent)",
    )


def comparison_table(comparisons: Sequence[Comparison]) -> Table:
    """A row for each pair of models."""
    rows = tuple(
        (
            f"{c.b} against {c.a}",
            points(c.difference.value),
            f"{points(c.difference.low)} to {points(c.difference.high)}",
            str(c.only_b_right),
            str(c.only_a_right),
            p_value(c.p_value),
            p_value(c.p_holm),
        )
        for c in comparisons
    )
    head = ("models", "points", "95%", "only it right", "only the other", "p", "p (Holm)")
    return Table("Same examples, model against model", head, rows)


def family_tables(comparisons: Sequence[Comparison]) -> list[Table]:
    """A table for each pair of models with a row for each family, where the data set names some."""
    head = ("family", "n", "points", "95%")
    return [
        Table(f"{c.b} against {c.a}, by family", head, tuple(map(_family_row, c.by_family)))
        for c in comparisons
        if c.by_family
    ]


def _family_row(part: FamilyDifference) -> tuple[str, ...]:
    d = part.difference
    return part.name, str(part.n), points(d.value), f"{points(d.low)} to {points(d.high)}"


def judge_table(judges: Sequence[JudgeSummary]) -> Table:
    """What the judging model decided, and how far it can be believed."""
    rows = tuple(
        (
            j.subject,
            j.judge,
            str(j.judged),
            str(j.undecided),
            "\N{EN DASH}" if j.agreement is None else percent(j.agreement.value),
            "\N{EN DASH}" if j.agreement is None else interval(j.agreement),
            "\N{EN DASH}" if j.kappa is None else f"{j.kappa:.2f}",
            f"{j.too_kind} / {j.too_strict} of {j.checked}",
            usd(j.cost_usd),
        )
        for j in judges
    )
    head = (
        "answers of", "judge", "judged", "no verdict", "agrees with checks", "95%", "kappa",
        "too kind / too strict", "cost",
    )  # fmt: skip
    return Table("The judging model", head, rows)


def part_tables(subjects: Sequence[SubjectSummary], *, formats: bool = True) -> list[Table]:
    """Right answers by kind of check, family and tier, the models side by side; with `formats`
    the share in the asked form too. Parts that the data set does not name are left out."""
    found = [
        _part_table(subjects, "check", "Right by kind of check", lambda s: s.by_check, formats),
        _part_table(subjects, "family", "Right by family", lambda s: s.by_family, formats),
        _part_table(subjects, "tier", "Right by tier", lambda s: s.by_tier, formats),
    ]
    return [table for table in found if table.rows]


def _part_table(
    subjects: Sequence[SubjectSummary],
    what: str,
    caption: str,
    parts: Callable[[SubjectSummary], Sequence[Group]],
    formats: bool,
) -> Table:
    by_subject = [{group.name: group for group in parts(subject)} for subject in subjects]
    rows = []
    for name in by_subject[0] if by_subject else ():
        groups = [found[name] for found in by_subject]
        cells = [f"{percent(g.accuracy.value)} ({interval(g.accuracy)})" for g in groups]
        if formats:
            cells += [percent(g.compliance.value, 0) for g in groups]
        rows.append((name, str(groups[0].n), *cells))
    names = [subject.name for subject in subjects]
    head = [what, "n", *names]
    if formats:
        head = [what, "n", *(f"{n}, right" for n in names), *(f"{n}, format" for n in names)]
    return Table(caption, tuple(head), tuple(rows))


def remarks(frontier: Frontier) -> list[str]:
    """What a frontier comes to, in sentences."""
    found = []
    if frontier.auroc is not None:
        found.append(
            f"AUROC {frontier.auroc:.3f}: how often a right answer of the small model is ranked "
            "above a wrong one (0.5 is chance)."
        )
    if (best := frontier.at_loss) is not None:
        saved = 1 - best.cost_usd / frontier.large_cost_usd if frontier.large_cost_usd else None
        cost = "" if saved is None else f" and {percent(saved)} less cost"
        found.append(
            f"At most {frontier.loss_points:g} points below the large model, "
            f"{percent(best.local_share)} stay local{cost}. This threshold was chosen on the "
            "examples it is measured on, so expect less; ondevice calibrate certifies one."
        )
    if frontier.kept_after_failure:
        found.append(
            f"{frontier.kept_after_failure} calls of the large model gave no answer; the local "
            "one is kept there."
        )
    return found


def frontier_table(frontier: Frontier) -> Table:
    """Thresholds evenly spread over the local share."""
    rows = tuple(
        (
            "none" if p.threshold is None else f"{p.threshold:.3f}",
            percent(p.local_share),
            percent(p.accuracy.value),
            interval(p.accuracy),
            percent(p.random_accuracy),
            percent(p.oracle_accuracy),
            usd(1000 * p.cost_usd),
            seconds(p.latency_s),
        )
        for p in _spread_out(frontier.points)
    )
    head = (
        "threshold", "local", "right", "95%", "chance", "oracle", "per 1,000", "mean latency",
    )  # fmt: skip
    return Table(
        f"{len(rows)} of {len(frontier.points)} thresholds; the JSON result has all", head, rows
    )


def _spread_out(found: Sequence[Point]) -> list[Point]:
    """Points nearest to evenly spread local shares, first and last among them."""
    first, last = found[0].local_share, found[-1].local_share
    wanted = [first + (last - first) * i / (_ROWS - 1) for i in range(_ROWS)]
    nearest = [min(found, key=lambda p: abs(p.local_share - share)) for share in wanted]
    return list(dict.fromkeys(nearest))
