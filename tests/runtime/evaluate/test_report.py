from __future__ import annotations

import random
import re
from dataclasses import replace
from pathlib import Path

import pytest
from eval_fakes import example, record
from html_page import HOSTILE, Page

from ondevice.errors import OndeviceError, RequestError
from ondevice.runtime.evaluate import eval_report, summary, tables
from ondevice.runtime.evaluate.check import Choice
from ondevice.runtime.evaluate.eval_result import DataSet, EvalResult, JudgeSummary, read
from ondevice.runtime.evaluate.frontier import frontier, mean_logprob
from ondevice.runtime.evaluate.statistics import share

NAMES = ("device:small", "cloud:large")


def result(n: int = 60, cost: float = 0.001, name: str = NAMES[0]) -> EvalResult:
    chance = random.Random(3)
    examples = [
        example(i, family=f"f{i % 3}", tier="easy" if i % 2 else "hard", template=f"t{i % 9}")
        for i in range(n)
    ]
    examples[0] = replace(examples[0], check=Choice("a", ("a", "b")))
    sure = [chance.random() for _ in range(n)]
    small = [record(i, chance.random() < p, logprob=p - 1) for i, p in enumerate(sure)]
    large = [record(i, i % 10 > 0, subject=NAMES[1], cost_usd=cost) for i in range(n)]
    answers = {name: small, NAMES[1]: large}
    return EvalResult(
        tool="ondevice 1",
        created="2026-11-25T00:00:00+00:00",
        dataset=DataSet("q.jsonl", "ab" * 32, "test", n, 9),
        subjects=tuple(summary.summarize(k, "x", examples, v) for k, v in answers.items()),
        comparisons=summary.compare_all(examples, answers),
        frontiers=(
            frontier(
                examples, small, large, [mean_logprob(r) for r in small],
                names=(name, NAMES[1]), confidence="mean log-probability (uncalibrated)",
            ),
        ),
        judge=(JudgeSummary("cloud:j", name, 5, 1, 20, share(18, 20), 0.8, 1, 1, 0.01),),
        notes=("Read me.",),
    )  # fmt: skip


def test_the_page_holds_every_figure_of_the_result_in_a_table() -> None:
    found = result()
    page = Page(eval_report.render(found))
    for subject in found.subjects:
        assert tables.percent(subject.overall.accuracy.value) in page.words
        assert tables.interval(subject.overall.accuracy) in page.words
        for group in (*subject.by_family, *subject.by_tier, *subject.by_check):
            assert group.name in page.words
    assert tables.points(found.comparisons[0].difference.value) in page.words
    for part in found.comparisons[0].by_family:
        assert tables.points(part.difference.low) in page.text
    assert "90.0%" in page.words and "0.80" in page.words  # the judge's agreement
    assert "Read me." in page.words
    assert "ondevice calibrate certifies one" in page.text


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    text = eval_report.render(result())
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in page.tags}
    attributes = {name for _, attributes in page.tags for name in attributes}
    assert not {"src", "href"} & attributes
    assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"url\(|@import|https?://", text)


def test_everything_from_the_result_is_escaped() -> None:
    hostile = replace(result(name=HOSTILE), tool=HOSTILE, created=HOSTILE, notes=(HOSTILE,))
    page = Page(eval_report.render(hostile))
    assert "script" not in [tag for tag, _ in page.tags]
    assert not any("onload" in attributes for _, attributes in page.tags)
    assert HOSTILE in page.text


def test_every_picture_has_words_for_those_who_cannot_see_it() -> None:
    page = Page(eval_report.render(result()))
    pictures = [attributes for tag, attributes in page.tags if tag == "svg"]
    spoken = [a for a in pictures if a.get("aria-hidden") != "true"]
    # Three charts of two models, and the frontier over share and over cost.
    assert len(spoken) == 3 * 2 + 2
    assert all(a.get("role") == "img" and a.get("aria-label") for a in spoken)


def test_the_curves_of_a_frontier_have_a_point_for_every_threshold_inside_the_axes() -> None:
    found = result().frontiers[0]
    view = eval_report.frontier_view(found)
    by_share, by_cost = view.plots
    for plot in (by_share, by_cost):
        for curve in plot.curves:
            places = [tuple(map(float, pair.split(","))) for pair in curve.points.split()]
            assert len(places) == len(found.points)
            assert all(-0.01 <= x <= 100.01 and -0.01 <= y <= 100.01 for x, y in places)
        assert len(plot.band.split()) == 2 * len(found.points)
    x, _ = map(float, by_share.curves[0].points.split()[-1].split(","))
    assert x == 100 * found.points[-1].local_share
    first, last = (by_cost.curves[0].points.split()[i].split(",")[0] for i in (0, -1))
    assert float(first) > float(last) == 0


def test_without_a_price_there_is_no_curve_over_cost() -> None:
    assert len(eval_report.frontier_view(result(cost=0.0).frontiers[0]).plots) == 1
    assert "USD for 1,000" not in eval_report.render(result(cost=0.0))


@pytest.mark.parametrize("n", [1, 2])
def test_a_result_of_little_still_makes_a_page(n: int) -> None:
    bare = replace(result(n), frontiers=(), comparisons=(), judge=(), notes=())
    Page(eval_report.render(result(n)))
    Page(eval_report.render(bare))
    failed = [record(0, False, error="timeout: slow")]
    nothing = summary.summarize("cloud:x", "x", [example(0)], failed)
    Page(eval_report.render(replace(bare, subjects=(nothing,))))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "$0"), (12.345, "$12.35"), (0.5, "$0.500"), (3e-9, "$0.000000003")],
)  # fmt: skip
def test_amounts_have_three_significant_digits(value: float, text: str) -> None:
    assert tables.usd(value) == text


@pytest.mark.parametrize(
    ("value", "text"), [(0.0021, "2.1 ms"), (0.25, "250 ms"), (1.5, "1.50 s"), (1234, "1,234 s")]
)
def test_times_have_a_fitting_unit(value: float, text: str) -> None:
    assert tables.seconds(value) == text


def test_the_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    found = result()
    eval_report.write(found, tmp_path / "out" / "r.html")
    assert (tmp_path / "out" / "r.html").read_text(encoding="utf-8") == eval_report.render(found)
    with pytest.raises(OndeviceError, match="cannot write"):
        eval_report.write(found, tmp_path / "out" / "r.html" / "x.html")


def test_a_result_survives_its_file_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    found, path = result(), tmp_path / "r.json"
    found.write(path)
    assert read(path) == found
    for wrong, said in (
        ("{}", "top level"),
        ("[]", "top level"),
        ('{"format_version": 9}', "upgrade ondevice"),
        (found.to_json().replace('"n": 60', '"n": -1', 1), "subjects/0/overall/n"),
        ("", "not valid JSON"),
    ):
        path.write_text(wrong)
        with pytest.raises(RequestError, match=said):
            read(path)
