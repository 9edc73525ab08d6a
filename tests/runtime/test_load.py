from __future__ import annotations

import subprocess
import sys

import psutil
import pytest

from ondevice.runtime import load
from ondevice.runtime.bench_result import LoadCheck
from ondevice.runtime.load import Reading, others_percent


def test_others_are_what_was_used_without_our_own() -> None:
    start = Reading(used=100, total=1000, own=5)
    assert others_percent(start, Reading(used=140, total=1100, own=25)) == 20
    assert others_percent(start, Reading(used=140, total=1100, own=45)) == 0


def test_rounding_of_clocks_never_gives_less_than_nothing() -> None:
    start = Reading(100, 1000, 5)
    assert others_percent(start, Reading(100, 1010, 6)) == 0
    assert others_percent(start, start) is None


@pytest.mark.parametrize(
    ("used", "average", "busy"), [(2.0, 0.5, False), (50.0, 0.5, True), (2.0, 3.0, False)]
)
def test_a_machine_in_use_is_busy_and_one_that_was_is_not(
    monkeypatch: pytest.MonkeyPatch, used: float, average: float, busy: bool
) -> None:
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval: used)
    monkeypatch.setattr(psutil, "getloadavg", lambda: (average, 0.0, 0.0))
    assert load.check_load() == LoadCheck(average, used, busy)


@pytest.mark.parametrize(("others", "busy"), [(9.0, False), (11.0, True)])
def test_others_at_work_meanwhile_make_it_busy(
    monkeypatch: pytest.MonkeyPatch, others: float, busy: bool
) -> None:
    readings = iter([Reading(0, 0, 0), Reading(50 + others, 100, 50)])
    monkeypatch.setattr(load, "_read", lambda: next(readings))
    monkeypatch.setattr(load, "check_load", lambda: LoadCheck(0.0, 0.0, busy=False))
    assert load.Watch().finish() == LoadCheck(0.0, 0.0, busy, others)


def test_the_work_of_a_child_counts_as_our_own() -> None:
    before = load._read()
    spin = "import time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", spin], **pipes) as child:
        assert child.stdout is not None
        child.stdout.readline()
        after = load._read()
        child.communicate(b"\n")
    assert after.own - before.own >= 0.25
    assert after.total > before.total
