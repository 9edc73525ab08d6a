"""`bench` from saved results: what is shown, compared and written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ondevice import cli
from ondevice.package import Package
from ondevice.runtime.bench import Settings
from ondevice.runtime.bench_result import (
    EngineResult,
    LoadCheck,
    Metric,
    ModelInfo,
    Protocol,
    Result,
)
from ondevice.runtime.device import fingerprint

Captured = pytest.CaptureFixture[str]


def result(speed: float) -> Result:
    model = ModelInfo("fake", "package", "cpu-int4", 1000, "0" * 64)
    metric = Metric("tg128", "tokens/s", True, tuple(speed + step for step in range(5)))
    engine = EngineResult("ort", "ort", "1.0", model, 2, 512, None, (metric,))
    protocol = Protocol(0, 128, 0, 1, 5, 0, False)
    load = LoadCheck(0.0, 0.0, False)
    return Result("ondevice", None, fingerprint(), protocol, load, (engine,))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    calls: list[tuple[object, ...]] = []

    def bench_packages(*arguments: object) -> Result:
        calls.append(arguments)
        return result(100.0)

    monkeypatch.setattr("ondevice.runtime.bench_setup.bench_packages", bench_packages)
    monkeypatch.setattr("ondevice.store.find", lambda name: f"package {name}")
    return calls


@pytest.mark.parametrize("command", [["bench"], ["bench", "run"]])
def test_bench_is_short_for_bench_run(
    command: list[str], measured: list[tuple[Package, ...]], capsys: Captured
) -> None:
    options = "--engines ort,genai --prompt 8 --generate 4 --chat 2 --repetitions 3 --warmups 0"
    assert cli.run([*command, "a", "b", *options.split(), "--threads", "1", "--seed", "5"]) == 0
    packages, engines, gguf, settings, progress = measured[0]
    assert (packages, engines, gguf) == (["package a", "package b"], ["ort", "genai"], None)
    assert settings == Settings(8, 4, 2, 0, 3, 1, 5, False)
    assert progress is None
    assert "tg128" in capsys.readouterr().out


def test_bench_alone_measures_the_default_model_with_the_default_settings(
    measured: list[tuple[object, ...]], capsys: Captured, tmp_path: Path
) -> None:
    saved, page = tmp_path / "a.json", tmp_path / "a.html"
    assert cli.run(["bench", "--json", "--save", str(saved), "--report", str(page)]) == 0
    packages, engines, _, settings, _ = measured[0]
    assert (packages, engines, settings) == (["package None"], ["ort"], Settings())
    assert capsys.readouterr().out == saved.read_text(encoding="utf-8")
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_compare_says_which_is_better(capsys: Captured, tmp_path: Path) -> None:
    a, b = tmp_path / "a.json", tmp_path / "b.json"
    result(100.0).write(a)
    result(200.0).write(b)
    assert cli.run(["bench", "compare", str(a), str(b)]) == 0
    heading, row, *_ = capsys.readouterr().out.splitlines()
    assert heading.split() == ["METRIC", "ENGINE", "A", "B", "B/A", "B", "IS"]
    assert row.split() == [
        "tg128",
        "ort",
        "102.0",
        "tokens/s",
        "202.0",
        "tokens/s",
        "1.98",
        "better",
    ]
    assert cli.run(["bench", "compare", str(a), str(b), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["b_better"] is True


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"format_version": 99}', "\udcff"])
def test_a_file_that_is_no_result_is_one_line(
    content: str, capsys: Captured, tmp_path: Path
) -> None:
    file = tmp_path / "a.json"
    file.write_bytes(content.encode(errors="surrogateescape"))
    for command in (["compare", str(file), str(file)], ["import", str(file)]):
        assert cli.run(["bench", *command]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
