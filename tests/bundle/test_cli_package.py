"""`ondevice package` as a person meets it: every refusal is one line, before any work."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from ondevice.bundle import build as building
from ondevice.bundle.build import Bundle
from ondevice.bundle.plan import Plan
from ondevice.cli import run
from ondevice.package import Package


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONDEVICE_HOME", str(tmp_path / "home"))


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["package", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    return shown.err


def test_without_a_model_it_says_how_to_get_one(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert "ondevice pull" in refusal(capsys, "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("library", ["PyInstaller", "cyclonedx"])
def test_a_missing_library_is_named_with_the_extra_that_has_it(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    library: str,
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == library else find(name, *a)
    )
    words = refusal(capsys, "--no-model", "--out", str(tmp_path / "out"))
    assert 'pip install "ondevice[package]"' in words
    assert list(tmp_path.iterdir()) == []


def test_a_bad_icon_and_contradictions_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "icon.png").write_text("no picture")
    assert "no PNG" in refusal(capsys, "--no-model", "--icon", str(tmp_path / "icon.png"))
    assert "--no-model" in refusal(capsys, "some-model", "--no-model")
    assert "--onefile" in refusal(capsys, "--no-model", "--onefile", "--deb")


def test_options_reach_the_plan_and_the_result_is_printed_as_json(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    tiny_package: Package,
) -> None:
    asked: list[tuple[Plan, bool]] = []

    def build(plan: Plan, out: Path, *, force: bool, progress: object) -> Bundle:
        asked.append((plan, force))
        return Bundle(out, out / plan.slug, 9, 4, out / "a.deb", None, ("odd-1",))

    monkeypatch.setattr(building, "build", build)
    options = ["--name", "My Assistant", "--version", "2.0", "--deb", "--force"]
    out = tmp_path / "out"
    arguments = [str(tiny_package.folder), "--out", str(out), *options]
    assert run(["package", *arguments, "--json"]) == 0
    plan, force = asked[0]
    assert (plan.name, plan.version, plan.deb, plan.appdir, force) == (
        "My Assistant", "2.0", True, False, True,
    )  # fmt: skip
    assert plan.model is not None
    shown = json.loads(capsys.readouterr().out)
    assert shown["program"] == str(out / "My-Assistant")
    assert (shown["bytes"], shown["own_bytes"], shown["appimage_folder"]) == (9, 4, None)
    assert run(["package", *arguments]) == 0
    assert "no licence text was found for odd-1" in capsys.readouterr().out
