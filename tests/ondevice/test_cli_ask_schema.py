"""`ask --schema`: an answer that follows a JSON schema, from a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ondevice import cli
from ondevice.package import Package

Captured = pytest.CaptureFixture[str]
SCHEMA = {"type": "object", "properties": {"city": {"enum": ["Bern", "Wien"]}}}
CLOSED = SCHEMA | {"required": ["city"], "additionalProperties": False}


@pytest.fixture(autouse=True)
def own_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ONDEVICE_HOME", str(tmp_path / "home"))


def ask(package: Package, schema: Path, *more: str) -> int:
    given = ["--schema", str(schema), "--threads", "1", *more]
    return cli.run(["ask", "-m", str(package.folder), *given, "Which city?"])


@pytest.mark.parametrize("more", [(), ("--no-stream",), ("--json",), ("--temperature", "3")])
def test_the_answer_follows_the_schema_of_the_file(
    more: tuple[str, ...], tiny_package: Package, tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / "city.schema.json"
    path.write_text(json.dumps(CLOSED), encoding="utf-8")
    assert ask(tiny_package, path, *more) == 0
    answer = json.loads(capsys.readouterr().out)
    if "--json" in more:
        assert answer["finish_reason"] == "stop"
        answer = json.loads(answer["text"])
    assert answer["city"] in ("Bern", "Wien")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot read"),
        ("{", "not valid JSON"),
        ('{"type": "citty"}', "no JSON schema"),
        ('{"not": {}}', "cannot be enforced"),
    ],
)
def test_a_bad_schema_is_one_line(
    content: str | None, said: str, tiny_package: Package, tmp_path: Path, capsys: Captured
) -> None:
    path = tmp_path / "s.json"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    assert ask(tiny_package, path) == 2
    out, err = capsys.readouterr()
    assert (out.strip(), err.count("\n")) == ("", 1)
    assert said in err
