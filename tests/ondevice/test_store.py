"""The store: packages by name, the default one, and what is said when there is none."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from standin import write_package

from ondevice import lock, store
from ondevice.errors import PackageError


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONDEVICE_HOME", str(tmp_path / "home"))


def install(name: str, written: int = 0) -> Path:
    folder = store.package_folder(name)
    folder.mkdir(parents=True)
    write_package(folder, name, "cpu-int4", {"tiny.gguf": "ab" * 32})
    os.utime(folder / "ondevice.json", (written, written))
    return folder


def test_the_home_is_the_variable_or_the_users_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert store.home() == tmp_path / "home"
    monkeypatch.delenv("ONDEVICE_HOME")
    assert store.home().name == "ondevice"
    assert store.home().is_absolute()


def test_nothing_installed_says_what_fetches_a_model_its_size_and_licence() -> None:
    with pytest.raises(PackageError) as caught:
        store.find()
    assert str(caught.value) == (
        'no model is installed; "ondevice pull" fetches '
        "qwen2.5-coder-0.5b-instruct (491 MB, Apache-2.0)"
    )


def test_the_default_is_the_locks_and_else_the_one_written_last() -> None:
    install("older", written=1000)
    install("newer", written=2000)
    assert store.find().manifest.name == "newer"
    default = lock.read().default
    assert default is not None
    install(default, written=500)
    assert store.find().manifest.name == default


def test_packages_are_found_by_name_and_by_path(tmp_path: Path) -> None:
    folder = install("tiny")
    assert store.find("tiny").folder == folder
    assert store.find(str(folder)).folder == folder
    assert store.find(folder).folder == folder


def test_a_name_that_is_not_installed_says_what_to_do() -> None:
    with pytest.raises(
        PackageError, match=r'"ondevice pull smollm2-135m-instruct" fetches .*98 MB'
    ):
        store.find("smollm2-135m-instruct")
    with pytest.raises(PackageError, match="none is installed"):
        store.find("zzz")
    install("tiny")
    with pytest.raises(PackageError, match="did you mean 'tiny'"):
        store.find("tinny")
    with pytest.raises(PackageError, match="installed: tiny"):
        store.find("zzz")


def test_listing_tells_sound_from_broken() -> None:
    install("sound")
    (install("spoilt") / "model.onnx").unlink()
    (store.packages_folder() / ".partial-x").mkdir()
    assert [package.manifest.name for package in store.packages()] == ["sound"]
    (entry,) = store.broken()
    assert entry.name == "spoilt"
    assert "model.onnx is missing" in entry.problem
    with pytest.raises(PackageError, match=r"model\.onnx is missing"):
        store.find("spoilt")


def test_removing_gives_back_the_bytes_and_takes_the_downloads_along() -> None:
    folder = install("tiny")
    other = install("other")
    kept = store.size(folder)
    download = store.downloads_folder() / "tiny" / "x.part"
    download.parent.mkdir(parents=True)
    download.write_bytes(bytes(100))
    assert store.remove("tiny") == kept + 100
    assert not folder.exists()
    assert not download.parent.exists()
    assert sorted(p.name for p in store.packages_folder().iterdir()) == [other.name]


@pytest.mark.parametrize("name", ["..", "../tiny", "/etc", "", "a..b", ".hidden"])
def test_only_names_can_be_removed(name: str) -> None:
    with pytest.raises(PackageError, match="not a package name"):
        store.remove(name)
