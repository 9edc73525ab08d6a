"""`eval`: what is asked for, shown, written, and asked before anything leaves."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from eval_fakes import ScriptedSource, third_wrong
from jsonschema import Draft202012Validator

from ondevice import cli
from ondevice.json_file import schema
from ondevice.runtime.evaluate import subjects

Captured = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("ONDEVICE_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch, place: Path) -> list[tuple[Any, ...]]:
    """Thirty questions and scripted models; the arguments of `subjects.find`."""
    lines = [{"id": f"e{n}", "prompt": f"say {n}", "answer": str(n)} for n in range(30)]
    text = "\n".join(json.dumps(line) for line in lines)
    (place / "questions.jsonl").write_text(text)
    calls: list[tuple[Any, ...]] = []

    def find(*arguments: Any) -> list[ScriptedSource]:
        calls.append(arguments)
        return [ScriptedSource(third_wrong, name=f"device:{name}") for name in arguments[0]]

    monkeypatch.setattr(subjects, "find", find)
    return calls


def test_the_table_shows_what_was_right_and_how_models_compare(
    found: list[tuple[Any, ...]], capsys: Captured, place: Path
) -> None:
    assert cli.run(["eval", "questions.jsonl", "--models", "one, two", "--threads", "3"]) == 0
    assert found == [(("one", "two"), None, 3)]
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == "30 examples of questions.jsonl"
    assert lines[2].split()[:4] == ["MODEL", "RIGHT", "95%", "FORMAT"]
    assert lines[3].split()[:2] == ["device:one", "66.7%"]
    assert any(line.startswith("device:two against device:one") for line in lines)
    assert lines[-1].startswith("note: 30 examples make wide intervals")
    assert (place / "questions.answers").is_dir()


def test_json_follows_its_schema_and_is_what_is_written(
    found: list[tuple[Any, ...]], capsys: Captured, place: Path
) -> None:
    command = "eval questions.jsonl -m one --json --out r.json --report r.html --answers kept"
    assert cli.run(command.split()) == 0
    out = capsys.readouterr().out
    assert out == (place / "r.json").read_text(encoding="utf-8")
    Draft202012Validator(schema("eval")).validate(json.loads(out))
    Draft202012Validator.check_schema(schema("eval"))
    assert (place / "r.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert len(list((place / "kept").glob("device-one-*.jsonl"))) == 1


def test_a_split_and_a_limit_choose_examples(
    found: list[tuple[Any, ...]], capsys: Captured
) -> None:
    assert cli.run(["eval", "questions.jsonl", "-m", "one", "--limit", "4", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["dataset"]["examples"] == 4
    assert cli.run(["eval", "questions.jsonl", "-m", "one", "--split", "test"]) == 2
    assert "names no splits" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("missing.jsonl -m one", "missing.jsonl"),
        ("empty.jsonl -m one", "holds no questions"),
        ("one.jsonl -m missing", "no package 'missing'"),
        ("one.jsonl -m ,", "name some with --models"),
        ("one.jsonl -m cloud:mine", "no [endpoint]"),
        ("one.jsonl", "--models"),
        ("one.jsonl -m one --limit 0", "--limit"),
        ("one.txt -m one", ".jsonl"),
    ],
)
def test_a_wrong_request_is_one_line_and_nothing_is_written(
    arguments: str, said: str, capsys: Captured, place: Path
) -> None:
    (place / "empty.jsonl").write_text("")
    (place / "one.jsonl").write_text('{"id": "a", "prompt": "p", "answer": "x"}')
    before = sorted(place.iterdir())
    assert cli.run(["eval", *arguments.split()]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err
    assert sorted(place.iterdir()) == before


POLICY = """
[endpoint]
name = "mine"
base_url = "http://127.0.0.1:9/v1"
model = "large"
[endpoint.price]
input_per_million = 1.0
output_per_million = 2.0
"""


@pytest.fixture
def cloud(place: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A policy with an endpoint, two questions, and what would have been asked."""
    (place / "policy.toml").write_text(POLICY)
    (place / "two.jsonl").write_text(
        '{"id": "a", "prompt": "p", "answer": "x"}\n'
        '{"id": "b", "prompt": "p", "answer": "x", "data_class": "restricted"}\n'
    )
    asked: list[Any] = []

    def open_source(self: Any) -> Any:
        asked.append(self)
        return ScriptedSource(lambda _: "x", name=self.name).open()

    monkeypatch.setattr(subjects.CloudSource, "open", open_source)
    return asked


COMMAND = "eval two.jsonl -m cloud:mine --policy policy.toml"


def test_what_would_leave_is_shown_and_without_consent_nothing_does(
    cloud: list[Any], capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert cli.run(COMMAND.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    first, second = err.splitlines()
    assert first.startswith("cloud:mine: at most 1 request for at most $0.000")
    assert first.endswith("1 example stays here because of its data class")
    assert "--yes" in second
    assert cloud == []


@pytest.mark.parametrize(
    ("typed", "code", "opened"), [("y\n", 0, 1), ("n\n", 130, 0), ("", 130, 0)]
)
def test_at_a_terminal_the_person_is_asked(
    typed: str,
    code: int,
    opened: int,
    cloud: list[Any],
    capsys: Captured,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = io.StringIO(typed)
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", terminal)
    assert cli.run(COMMAND.split()) == code
    assert len(cloud) == opened
    assert "Send it?" in capsys.readouterr().err


def test_yes_is_consent_and_kept_answers_need_none(
    cloud: list[Any], capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert cli.run([*COMMAND.split(), "--yes"]) == 0
    assert len(cloud) == 1
    capsys.readouterr()
    assert cli.run(COMMAND.split()) == 0
    assert len(cloud) == 1
    assert capsys.readouterr().err == ""


def test_ctrl_c_leaves_with_130_and_keeps_the_answers(
    found: list[tuple[Any, ...]], capsys: Captured, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(asked: Any) -> str:
        if asked.id == "e5":
            raise KeyboardInterrupt
        return third_wrong(asked)

    monkeypatch.setattr(subjects, "find", lambda *_: [ScriptedSource(stop, name="device:one")])
    assert cli.run(["eval", "questions.jsonl", "-m", "one"]) == 130
    assert capsys.readouterr().err == "ondevice: stopped\n"
    (file,) = (place / "questions.answers").glob("device-one-*.jsonl")
    assert file.read_text().count('"id"') == 5
