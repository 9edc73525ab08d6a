"""How much of the machine other programs use, before and while something is measured.

Knows processes and processor time; nothing about engines.
"""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass

from ondevice.runtime.bench_result import LoadCheck

BUSY_PERCENT = 10.0
_SAMPLE_S = 0.5


@dataclass(frozen=True)
class Reading:
    """Processor time so far, s: not idle and in all, summed over the processors, and that of
    this process with its children."""

    used: float
    total: float
    own: float


class Watch:
    """Watches from its making, which takes half a second, until `finish`.

    Children count as our own while they live, so `finish` must come before they are closed.
    """

    def __init__(self) -> None:
        self.before = check_load()
        self._start = _read()

    def finish(self) -> LoadCheck:
        """The check before, with what others used since."""
        others = others_percent(self._start, _read())
        busy = self.before.busy or (others is not None and others > BUSY_PERCENT)
        return dataclasses.replace(self.before, other_cpu_percent_during=others, busy=busy)


def check_load() -> LoadCheck:
    """Look at the machine for half a second.

    Busy is more than 10% of all processors' time in use. The load average of the last minute is
    reported and not judged: it still remembers what has ended, such as our own export.
    """
    import psutil

    used = float(psutil.cpu_percent(interval=_SAMPLE_S))
    average = float(psutil.getloadavg()[0])
    return LoadCheck(round(average, 2), used, used > BUSY_PERCENT)


def others_percent(start: Reading, end: Reading) -> float | None:
    """Share of all processors' time that others used between two readings, percent.

    None where no time has passed. Time stolen by a hypervisor counts as used by others.
    """
    total = end.total - start.total
    if total <= 0:
        return None
    others = (end.used - start.used) - (end.own - start.own)
    return round(100 * min(max(others / total, 0.0), 1.0), 1)


def _read() -> Reading:
    import psutil

    times = psutil.cpu_times()
    # Guest time is counted in user time already.
    total = sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    idle = times.idle + getattr(times, "iowait", 0.0)
    own = 0.0
    me = psutil.Process()
    for process in (me, *me.children(recursive=True)):
        with contextlib.suppress(psutil.Error):
            spent = process.cpu_times()
            own += spent.user + spent.system
    return Reading(total - idle, total, own)
