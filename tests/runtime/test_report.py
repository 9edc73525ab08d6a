from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
from bench_fakes import DEVICE, IDLE, result, subject
from html_page import HOSTILE, Page

from ondevice.errors import OndeviceError
from ondevice.runtime import bench, report
from ondevice.runtime.bench import Settings
from ondevice.runtime.bench_result import Result
from ondevice.runtime.clock import ScriptedClock


def measured() -> Result:
    clock = ScriptedClock()
    settings = Settings(8, 4, 3, repetitions=2, agreement=True)
    subjects = [
        subject("ort", clock, prefill_s=0.0625, decode_s=(0.25,)),
        subject("llamacpp", clock, prefill_s=0.125, decode_s=(0.125,)),
    ]
    return bench.run(subjects, settings, load_check=lambda: IDLE, device=DEVICE)


def test_the_page_holds_every_median_in_a_table() -> None:
    found = measured()
    page = Page(report.render(found))
    for engine in found.engines:
        for metric in engine.metrics:
            if metric.name not in ("chat.tokenize", "chat.prefill", "chat.first_sample"):
                assert report.metric_title(metric.name) in page.text
                assert report.number(metric.statistics.median) in page.words
    assert "AVX2, FMA" in page.text
    assert "100.00%" in page.text


def test_the_page_loads_nothing_and_runs_nothing() -> None:
    page = Page(report.render(measured()))
    tags = [tag for tag, _ in page.tags]
    assert not {"script", "link", "img", "iframe", "object"} & set(tags)
    attributes = {name for _, attributes in page.tags for name in attributes}
    assert not {"src", "href"} & attributes
    assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"url\(|@import|https?://", report.render(measured()))


def test_everything_from_the_result_is_escaped() -> None:
    hostile = dataclasses.replace(
        result(label=HOSTILE, device=dataclasses.replace(DEVICE, cpu=HOSTILE), name=HOSTILE),
        notes=(HOSTILE,),
        tool=HOSTILE,
        created=HOSTILE,
    )
    page = Page(report.render(hostile))
    assert "script" not in [tag for tag, _ in page.tags]
    assert not any("onload" in attributes for _, attributes in page.tags)
    assert HOSTILE in page.text


def test_every_chart_has_words_and_a_table_for_those_who_cannot_see_it() -> None:
    found = measured()
    page = Page(report.render(found))
    pictures = [attributes for tag, attributes in page.tags if tag == "svg"]
    spoken = [a for a in pictures if a.get("aria-hidden") != "true"]
    assert spoken
    assert all(a.get("role") == "img" and a.get("aria-label") for a in spoken)
    tables = [tag for tag, _ in page.tags].count("table")
    captions = [tag for tag, _ in page.tags].count("caption")
    assert tables == captions == len(report.charts(found)) + 5
    assert ("html", {"lang": "en"}) in page.tags


def test_bars_are_in_proportion_and_stay_inside_the_chart() -> None:
    charts = report.charts(measured())
    prefill = next(c for c in charts if c.title.startswith("Prefill of 8"))
    assert [bar.segments[0].width for bar in prefill.bars] == [100, 50]
    for chart in charts:
        for bar in chart.bars:
            assert sum(segment.width for segment in bar.segments) <= 100.001
            assert all(segment.width >= 0 for segment in bar.segments)


def test_a_result_of_little_still_makes_a_page() -> None:
    found = result((0.0,))
    empty = dataclasses.replace(found.engines[0], metrics=(), peak_memory=None)
    bare = dataclasses.replace(found, engines=(empty,), created=None)
    for each in (found, bare):
        Page(report.render(each))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.01234, "0.0123"), (1.5, "1.50"), (123.45, "123.5"), (12345.6, "12,346")],
)
def test_numbers_have_about_four_digits(value: float, text: str) -> None:
    assert report.number(value) == text


def test_the_page_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    found = measured()
    report.write(found, tmp_path / "out" / "r.html")
    assert (tmp_path / "out" / "r.html").read_text(encoding="utf-8") == report.render(found)
    with pytest.raises(OndeviceError, match="cannot write"):
        report.write(found, tmp_path / "out" / "r.html" / "x.html")
