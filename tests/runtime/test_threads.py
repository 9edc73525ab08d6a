"""The fastest number of threads is measured fairly, once, and remembered where that is possible."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from ondevice.package import Package
from ondevice.runtime import threads

COUNTS = (4, 2, 1)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ONDEVICE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(threads, "candidates", lambda: COUNTS)
    return tmp_path / "home"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[int]]:
    """Every measurement asked for; each finds two threads to be best."""
    calls: list[Sequence[int]] = []

    def measure(package: Package, counts: Sequence[int]) -> int:
        calls.append(counts)
        return 2

    monkeypatch.setattr(threads, "measure", measure)
    return calls


def scripted(seconds: dict[int, list[float]]) -> Iterator[float]:
    """A clock's readings at the beginning and the end of each run, the counts taking turns."""
    now = 0.0
    for turn in range(len(next(iter(seconds.values())))):
        for durations in seconds.values():
            yield now
            now += durations[turn]
            yield now


@pytest.mark.parametrize(
    ("seconds", "best"),
    [
        ({2: [9, 1, 1, 1], 1: [9, 2, 2, 2]}, 2),
        ({2: [9, 2, 2, 2], 1: [9, 1, 1, 1]}, 1),
        ({2: [0, 2, 2, 2], 1: [9, 1, 1, 1]}, 1),  # the first turn warms up
        ({2: [9, 2, 2, 2], 1: [9, 1, 50, 1]}, 1),  # one busy moment does not decide
        ({2: [9, 1, 1, 1], 1: [9, 1, 1, 1]}, 2),  # of equals the first
    ],
)
def test_the_count_with_the_least_median_wins(
    tiny_package: Package, seconds: dict[int, list[float]], best: int
) -> None:
    readings = scripted(seconds)
    assert threads.measure(tiny_package, tuple(seconds), lambda: next(readings)) == best
    assert next(readings, None) is None


def test_a_model_with_a_short_context_can_be_measured(tiny_package: Package) -> None:
    manifest = tiny_package.manifest
    for context in (1, 2, 13):
        shape = replace(manifest.shape, context_length=context)
        short = Package(tiny_package.folder, replace(manifest, shape=shape))
        assert threads.measure(short, (1,)) == 1


def test_measured_once_and_remembered(
    tiny_package: Package, home: Path, measured: list[Sequence[int]]
) -> None:
    assert [threads.best_threads(tiny_package) for _ in range(3)] == [2, 2, 2]
    assert measured == [COUNTS]
    assert list(json.loads((home / "threads.json").read_text(encoding="utf-8")).values()) == [2]


def test_another_package_or_device_is_measured_anew(
    tiny_package: Package,
    home: Path,
    measured: list[Sequence[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads.best_threads(tiny_package)
    manifest = tiny_package.manifest
    graph = replace(manifest.files["model.onnx"], sha256="f" * 64)
    other = replace(manifest, files={**manifest.files, "model.onnx": graph})
    threads.best_threads(Package(tiny_package.folder, other))
    assert len(measured) == 2
    monkeypatch.setattr(threads, "candidates", lambda: (8, 2))
    threads.best_threads(tiny_package)
    assert measured[2:] == [(8, 2)]
    monkeypatch.setattr(threads, "candidates", lambda: COUNTS)
    for package in (tiny_package, Package(tiny_package.folder, other)):
        assert threads.best_threads(package) == 2
    assert len(measured) == 3


def test_where_there_is_one_choice_nothing_is_measured(
    tiny_package: Package,
    home: Path,
    measured: list[Sequence[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(threads, "candidates", lambda: (1,))
    assert threads.best_threads(tiny_package) == 1
    assert measured == [] and not home.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[1]",
        b"{",
        b"[" * 100_000,
        b'{"KEY": "2"}',
        b'{"KEY": 2.0}',
        b'{"KEY": true}',
        b'{"KEY": 100000}',
        b'{"KEY": 3}',
        b'{"KEY": -1}',
    ],
)
def test_a_damaged_memory_is_measured_over(
    tiny_package: Package, home: Path, measured: list[Sequence[int]], content: bytes
) -> None:
    key = threads._key(tiny_package, COUNTS).encode()
    home.mkdir()
    (home / "threads.json").write_bytes(content.replace(b"KEY", key))
    assert [threads.best_threads(tiny_package) for _ in range(2)] == [2, 2]
    assert len(measured) == 1


def test_what_others_measured_is_kept(
    tiny_package: Package, home: Path, measured: list[Sequence[int]]
) -> None:
    home.mkdir()
    (home / "threads.json").write_text('{"other": 7}', encoding="utf-8")
    threads.best_threads(tiny_package)
    stored = json.loads((home / "threads.json").read_text(encoding="utf-8"))
    assert stored == {"other": 7, threads._key(tiny_package, COUNTS): 2}


def test_a_home_that_cannot_be_written_is_no_error(
    tiny_package: Package, home: Path, measured: list[Sequence[int]]
) -> None:
    home.write_text("a file where the folder should be", encoding="utf-8")
    assert [threads.best_threads(tiny_package) for _ in range(2)] == [2, 2]
    assert len(measured) == 2


@pytest.mark.parametrize(
    ("usable", "physical", "expected"),
    [
        (2, 2, (2, 1)),
        (2, 1, (2, 1)),
        (1, 8, (1,)),
        (16, 8, (16, 8, 4)),
        (3, None, (3, 1)),
        (4, 64, (4, 2)),
    ],
)
def test_candidates_never_exceed_the_cores_that_may_be_used(
    monkeypatch: pytest.MonkeyPatch, usable: int, physical: int | None, expected: tuple[int, ...]
) -> None:
    monkeypatch.setattr(threads, "usable_cores", lambda: usable)
    monkeypatch.setattr("psutil.cpu_count", lambda logical=True: physical)
    assert threads.candidates() == expected


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cannot bind to a core here")
def test_a_process_bound_to_one_core_gets_one_thread() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert threads.usable_cores() == 1
        assert threads.candidates() == (1,)
    finally:
        os.sched_setaffinity(0, before)
