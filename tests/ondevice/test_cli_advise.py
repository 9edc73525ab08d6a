"""`advise`: what it prints, asks and refuses."""

from __future__ import annotations

import json
import sys
from fractions import Fraction
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from ondevice import cli
from ondevice.cli import advise as command
from ondevice.cli.app import app

Captured = pytest.CaptureFixture[str]
NAMES = ("complexity", "knowledge", "deployment", "volume", "quality")
SCHEMA = json.loads(
    (resources.files("ondevice") / "schemas" / "advise.schema.json").read_text("utf-8")
)


def given(*scores: int) -> list[str]:
    """Flags for the five scores."""
    pairs = zip(NAMES, scores, strict=True)
    return [text for name, score in pairs for text in (f"--{name}", str(score))]


SCORES = given(2, 2, 3, 3, 3)


@pytest.fixture(autouse=True)
def own_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("ONDEVICE_HOME", str(home))
    if not any(found.callback is command.advise for found in app.registered_commands):
        app.command()(command.advise)
    return home


def as_json(capsys: Captured, *arguments: str) -> dict[str, Any]:
    assert cli.run(["advise", *arguments, "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    Draft202012Validator(SCHEMA).validate(found)
    return found


def test_the_answer_shows_how_it_came_about(capsys: Captured) -> None:
    assert cli.run(["advise", *SCORES, "--requests", "20000"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("hybrid: the mean score is 2.6")
    for words in ("gpu no dearer than api: from ", "at 50%", "$", "--set KEY=VALUE", "no accuracy"):
        assert words in out.replace("USD", "$")
    from ondevice.advise import assumptions

    for entry in assumptions.defaults():
        line = next(line for line in out.splitlines() if line.startswith(entry.key + " "))
        assert entry.source in line and entry.date in line and "default" in line


def test_json_fits_its_schema_and_says_the_same(capsys: Captured) -> None:
    found = as_json(capsys, *SCORES, "--requests", "20000", "--api", "gpt-5.4-mini")
    assert (found["recommendation"], found["mean"], found["doubtful"]) == ("hybrid", 2.6, False)
    api = next(option for option in found["options"] if option["name"] == "api")
    per_request = Fraction("0.75") * 215 / 10**6 + Fraction("4.5") * 43 / 10**6
    assert api["usd_a_day"] == [float(per_request * 20_000)] * 2
    assert found["price"]["date"] == "2026-11-24"


def test_flags_reach_the_figures(capsys: Captured) -> None:
    flags = ["--input-tokens", "100", "--output-tokens", "20", "--gpu-hour", "2.5"]
    found = as_json(capsys, *SCORES, "--requests", "5", *flags, "--set", "device.watts=7")
    values = {entry["key"]: (entry["value"], entry["origin"]) for entry in found["assumptions"]}
    assert values["workload.input_tokens"] == (100, "flag")
    assert values["workload.output_tokens"] == (20, "flag")
    assert values["gpu.usd_per_hour"] == (2.5, "flag")
    assert values["device.watts"] == (7, "flag")
    assert values["gpu.tokens_per_s"][1] == "default"


def test_the_users_own_file_counts_and_a_named_one_replaces_it(
    capsys: Captured, own_store: Path, tmp_path: Path
) -> None:
    (own_store / "assumptions.toml").write_text("[gpu]\nusd_per_hour = 3\n")
    other = tmp_path / "other.toml"
    other.write_text("[device]\nwatts = 5\n")

    def origins(*arguments: str) -> set[str]:
        found = as_json(capsys, *SCORES, "--requests", "5", *arguments)
        return {entry["key"] for entry in found["assumptions"] if entry["origin"] == "file"}

    assert origins() == {"gpu.usd_per_hour"}
    assert origins("--assumptions", str(other)) == {"device.watts"}


def test_hard_constraints_override_and_say_so(capsys: Captured) -> None:
    high = given(5, 5, 5, 5, 5)
    found = as_json(capsys, *high, "--requests", "5", "--must-work-offline")
    assert (found["recommendation"], found["by_scores"]) == ("small", "large")
    assert found["doubtful"] is True
    ruled_out = {option["name"] for option in found["options"] if option["ruled_out"]}
    assert ruled_out == {"api", "gpu", "hybrid"}
    assert found["cheapest"] == "device"
    assert cli.run(["advise", *high, "--requests", "5", "--data-may-not-leave"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("small or none: the data may not leave")
    assert "ruled out: the data may not leave" in out


def test_examples_say_where_the_arithmetic_does_not_hold(capsys: Captured) -> None:
    assert cli.run(["advise", "--examples"]) == 0
    out = capsys.readouterr().out
    assert out.count("holds: no") == 2
    assert out.count("holds: under conditions") == 4
    assert "factor of 30.4" in out
    assert len(as_json(capsys, "--examples")["examples"]) == 6


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "no score for complexity, knowledge, deployment, volume, quality"),
        (["--complexity", "6"], "complexity: 6 is no score"),
        (["--complexity", "x"], "--complexity"),
        ([*SCORES], "give --requests N"),
        ([*SCORES, "--requests", "-5"], "-5 requests a day are no volume"),
        ([*SCORES, "--requests", "0"], "0 requests a day"),
        ([*SCORES, "--requests", "9" * 30], "requests a day are no volume"),
        ([*SCORES, "--requests", "5", "--input-tokens", "-1"], "workload.input_tokens: -1"),
        ([*SCORES, "--requests", "5", "--gpu-hour", "dear"], "gpu.usd_per_hour: 'dear'"),
        ([*SCORES, "--requests", "5", "--api", "gpt-5.4-mni"], "gpt-5.4-mini"),
        ([*SCORES, "--requests", "5", "--set", "gpu.price=1"], "no assumption 'gpu.price'"),
        ([*SCORES, "--requests", "5", "--assumptions", "none.toml"], "cannot read none.toml"),
        ([*SCORES, "--requests", "5", "--bench", "none.json"], "cannot read none.json"),
        ([*SCORES, "--requests", "5", "--eval", "none.json"], "cannot read none.json"),
    ],
)
def test_a_mistake_is_one_line(arguments: list[str], said: str, capsys: Captured) -> None:
    assert cli.run(["advise", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err


def test_a_typo_in_the_file_names_the_line_and_the_nearest_key(
    capsys: Captured, own_store: Path
) -> None:
    (own_store / "assumptions.toml").write_text("# mine\n[gpu]\nusd_per_huor = 3\n")
    assert cli.run(["advise", *SCORES, "--requests", "5"]) == 2
    err = capsys.readouterr().err
    assert "line 3: no assumption 'gpu.usd_per_huor'; did you mean 'gpu.usd_per_hour'?" in err


def test_at_a_terminal_it_asks_for_what_is_missing(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([9, 4, 2, 500])  # 9 is refused and asked again
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setattr("typer.prompt", lambda *_, **__: next(answers))
    monkeypatch.setattr("typer.confirm", lambda question, **_: "network" in question)
    assert cli.run(["advise", *SCORES[:6]]) == 0
    out = capsys.readouterr().out
    assert "How bad is a wrong answer?" in out
    assert "How hard is the task?" not in out
    assert "1, 2, 3, 4 or 5" in out
    assert "small: the mean score is 2.6" not in out
    assert "small or none: it must work offline" in out
    assert "500 requests a day" in out
    assert next(answers, None) is None
