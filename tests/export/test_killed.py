"""Exports killed with SIGKILL: the next call goes on or starts clean, to the same bytes."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from checkpoints import tiny, write_checkpoint

from ondevice.errors import ExportError, PackageError
from ondevice.export import matrices
from ondevice.export.convert import convert
from ondevice.package import Package, open_package, verify_hashes

_SHAPE = {"hidden_size": 256, "intermediate_size": 512, "layers": 4}
# Slow, and of many parts, so that there are many moments to be killed at.
_EXPORT = """
import sys, time
from pathlib import Path
from ondevice.export import journal, matrices
from ondevice.export.convert import convert
from ondevice.export.recipe import Quantizer
rows = Quantizer.rows
def slow(*arguments):
    time.sleep(0.05)
    return rows(*arguments)
Quantizer.rows = slow
matrices.CHUNK = journal.BATCH_BYTES = 1 << 15
print("ready", flush=True)
convert(Path(sys.argv[1]), "cpu-int4", Path(sys.argv[2]), name="whole", accept=True)
"""
_CHANCE = random.Random(7)
_MOMENTS = sorted(round(_CHANCE.uniform(0.0, 2.0), 2) for _ in range(10))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("killed") / "c", tiny(**_SHAPE), dtype="F16")


@pytest.fixture(scope="module")
def whole(checkpoint: Path) -> Package:
    return convert(checkpoint, "cpu-int4", checkpoint.parent / "whole", accept=True)


def export_for(seconds: float, checkpoint: Path, out: Path) -> int:
    """Export in a process that is killed this long after it is ready; its exit code."""
    command = [sys.executable, "-c", _EXPORT, str(checkpoint), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
        return process.wait()


@pytest.fixture(autouse=True)
def _same_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts as small here as in the processes that are killed."""
    monkeypatch.setattr(matrices, "CHUNK", 1 << 15)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*")}


@pytest.mark.parametrize("moment", _MOMENTS)
def test_killed_at_any_moment_the_next_export_gives_the_same_bytes(
    moment: float, checkpoint: Path, whole: Package, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code = export_for(moment, checkpoint, out)
    if code != 0:
        assert not out.exists()
        # What a kill between two steps of writing a small file leaves.
        (tmp_path / ".out.export" / "package").mkdir(exist_ok=True)
        (tmp_path / ".out.export" / "package" / ".ondevice.json.x").write_text("{", "utf-8")
    again = convert(checkpoint, "cpu-int4", out, name="whole", accept=True, replace=True)
    assert contents(again.folder) == contents(whole.folder)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_killed_again_and_again_it_comes_to_its_end(
    checkpoint: Path, whole: Package, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    calls = 0
    while export_for(0.8 * 1.1**calls, checkpoint, out) != 0:  # a busy machine needs longer
        calls += 1
        assert calls < 20, "no call goes on from where the one before was"
        if out.exists():  # killed between its last step and its end
            break
        with pytest.raises(PackageError):
            open_package(out)
    assert calls > 1
    verify_hashes(open_package(out))
    assert contents(out) == contents(whole.folder)


def test_a_killed_export_leaves_the_package_that_was_there(
    checkpoint: Path, whole: Package, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    old = convert(checkpoint, "cpu-int8", out, accept=True)
    before = contents(out)
    code = _EXPORT.replace("accept=True", "accept=True, replace=True")
    command = [sys.executable, "-c", code, str(checkpoint), str(out)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(1.0)
        process.kill()
    assert contents(out) == before
    verify_hashes(old)


def test_the_old_package_returns_when_a_kill_fell_between_the_two_renames(
    checkpoint: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    convert(checkpoint, "cpu-int8", out, accept=True)
    before = contents(out)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    out.rename(tmp_path / f".out.old-{dead.pid}")
    with pytest.raises(ExportError, match="exists already"):
        convert(checkpoint, "cpu-int4", out, accept=True)
    assert contents(out) == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
