"""The packaged program's first steps: which way it goes, and which models it sees."""

from __future__ import annotations

from pathlib import Path

import pytest

from ondevice import store
from ondevice.bundle import entry
from ondevice.cli.app import app
from ondevice.errors import PackageError
from ondevice.package import Package


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ONDEVICE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv(store.BUNDLED, raising=False)
    return tmp_path / "home"


@pytest.fixture
def bundle(tiny_package: Package, tmp_path: Path) -> Path:
    folder = tmp_path / "bundle"
    (folder / entry.MODELS).mkdir(parents=True)
    (folder / entry.MODELS / "small").symlink_to(tiny_package.folder)
    return folder


def test_a_bundled_model_is_found_by_its_name_and_is_the_default(
    bundle: Path, tiny_package: Package, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(store.BUNDLED, "")  # so that it is taken back afterwards
    monkeypatch.delenv(store.BUNDLED)
    entry.use_bundled(bundle)
    name = tiny_package.manifest.name
    assert store.find(None).manifest.name == name
    assert store.find(name).folder.parent == bundle / entry.MODELS
    assert [package.manifest.name for package in store.packages()] == [name]


def test_an_own_model_comes_before_a_bundled_one_of_the_same_name(
    bundle: Path, tiny_package: Package, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(store.BUNDLED, str(bundle / entry.MODELS))
    name = tiny_package.manifest.name
    (home / "packages").mkdir(parents=True)
    (home / "packages" / name).symlink_to(tiny_package.folder)
    assert [package.folder.parent for package in store.packages()] == [home / "packages"]
    assert store.find(name).folder.parent == home / "packages"


def test_a_chosen_folder_of_models_is_kept(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(store.BUNDLED, "/elsewhere")
    entry.use_bundled(bundle)
    import os

    assert os.environ[store.BUNDLED] == "/elsewhere"


def test_a_bundle_without_a_model_changes_nothing(tmp_path: Path) -> None:
    entry.use_bundled(tmp_path)
    assert store.bundled() == []
    with pytest.raises(PackageError, match="no model is installed"):
        store.find(None)


def test_a_named_command_is_one_and_anything_else_opens_the_assistant() -> None:
    assert all(entry.is_command([name, "x"]) for name in (*entry.COMMANDS, "--version"))
    for arguments in ([], ["--no-window"], ["--help"], ["bench"], ["some-model"]):
        assert not entry.is_command(arguments)


def test_every_command_of_the_bundle_is_one_of_ondevice() -> None:
    commands = {c.name or c.callback.__name__ for c in app.registered_commands if c.callback}
    groups = {group.name for group in app.registered_groups}
    assert set(entry.COMMANDS) <= commands | groups
