"""Files that are whole or absent, and names that stay inside their folder."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondevice import files
from ondevice.errors import OndeviceError, PackageError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def dead_pid() -> int:
    """The id of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_new_folder_appears_when_the_block_succeeds(tmp_path: Path) -> None:
    with files.new_folder(tmp_path / "out") as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "file").write_text("x", encoding="utf-8")
        assert not (tmp_path / "out").exists()
    assert (tmp_path / "out" / "deep" / "file").read_text(encoding="utf-8") == "x"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), ValueError("x"), PackageError("x")])
def test_on_failure_nothing_is_left_and_the_old_folder_stays(
    tmp_path: Path, failure: BaseException
) -> None:
    old = tmp_path / "out"
    old.mkdir()
    (old / "old").write_text("old", encoding="utf-8")
    with pytest.raises(type(failure)), files.new_folder(old, replace=True) as folder:
        (folder / "new").write_text("new", encoding="utf-8")
        raise failure
    assert names(tmp_path) == ["out"]
    assert names(old) == ["old"]


def test_an_existing_folder_is_replaced_only_on_request(tmp_path: Path) -> None:
    old = tmp_path / "out"
    old.mkdir()
    with pytest.raises(OndeviceError, match="exists already"), files.new_folder(old):
        pass
    with files.new_folder(old, replace=True) as folder:
        (folder / "new").touch()
    assert names(old) == ["new"]
    assert names(tmp_path) == ["out"]


def test_the_old_folder_comes_back_when_the_new_one_cannot_take_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "out"
    old.mkdir()
    (old / "old").touch()
    rename = Path.rename

    def refuse(path: Path, target: Path) -> Path:
        if ".partial-" in path.name:
            raise OSError(errno.EACCES, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with (
        pytest.raises(OndeviceError, match="Permission denied"),
        files.new_folder(old, replace=True),
    ):
        pass
    assert names(tmp_path) == ["out"]
    assert names(old) == ["old"]


def test_what_killed_runs_left_is_cleared_and_what_they_set_aside_comes_back(
    tmp_path: Path,
) -> None:
    gone = dead_pid()
    running = f".out.partial-{os.getpid()}-running"
    for name in (f".out.partial-{gone}-abc", running, f".out.old-{gone}", ".other.partial-1-x"):
        (tmp_path / name).mkdir()
    (tmp_path / f".out.old-{gone}" / "old").touch()
    with pytest.raises(KeyboardInterrupt), files.new_folder(tmp_path / "out"):
        raise KeyboardInterrupt
    assert names(tmp_path) == sorted([".other.partial-1-x", running, "out"])
    assert names(tmp_path / "out") == ["old"]


def test_a_full_disk_inside_the_block_is_one_line(tmp_path: Path) -> None:
    with (
        pytest.raises(OndeviceError, match="is full; free some space"),
        files.new_folder(tmp_path / "out"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert names(tmp_path) == []


def test_text_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "deep" / "file.txt"
    files.write_text(path, "ä\n")
    assert path.read_bytes() == "ä\n".encode()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OndeviceError, match="is full"):
        files.write_text(path, "other")
    assert path.read_bytes() == "ä\n".encode()
    assert names(path.parent) == ["file.txt"]


@given(st.text(st.sampled_from("ab./\\:\0~"), max_size=12))
def test_a_name_either_stays_inside_or_is_refused(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    folder = tmp_path_factory.getbasetemp()
    try:
        path = files.inside(folder, name, PackageError)
    except PackageError as error:
        assert "points outside" in str(error)
    else:
        assert path.resolve().is_relative_to(folder.resolve())


def test_a_link_that_leads_outside_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to(tmp_path)
    with pytest.raises(PackageError, match="points outside"):
        files.inside(tmp_path / "folder", "link/x", PackageError)


def test_the_space_needed_and_the_space_there_are_both_told(tmp_path: Path) -> None:
    files.require_space(tmp_path / "not" / "yet", 1, "a test")
    with pytest.raises(OndeviceError, match=r"a test needs .* MB on the disk of .* are free"):
        files.require_space(tmp_path / "not" / "yet", 10**18, "a test")
