"""What the soak test found, and whether that is as it must be."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.soak_clients import Counts

MOST_GROWTH = 0.05  # of the server's memory, after it has warmed up


@dataclass(frozen=True)
class Plan:
    """How many clients for how long; memory counts after `warm_up_s`."""

    clients: int
    seconds: float
    warm_up_s: float
    seed: int = 0


@dataclass(frozen=True)
class Sample:
    """The server's process at a moment, s after the start."""

    at_s: float
    rss: int
    threads: int
    files: int


@dataclass(frozen=True)
class Memory:
    """Medians of the first and the last tenth of the time that counts; memory in bytes."""

    first_rss: float
    last_rss: float
    largest_rss: float
    first_threads: float
    last_threads: float
    first_files: float
    last_files: float

    @classmethod
    def of(cls, samples: Sequence[Sample], warm_up_s: float) -> Memory:
        """From the samples of a whole soak."""
        kept = [sample for sample in samples if sample.at_s >= warm_up_s]
        tenth = max(1, len(kept) // 10)
        first, last = kept[:tenth], kept[-tenth:]
        return cls(
            statistics.median(one.rss for one in first),
            statistics.median(one.rss for one in last),
            max(one.rss for one in kept),
            statistics.median(one.threads for one in first),
            statistics.median(one.threads for one in last),
            statistics.median(one.files for one in first),
            statistics.median(one.files for one in last),
        )

    @property
    def growth(self) -> float:
        """By which share memory grew."""
        return self.last_rss / self.first_rss - 1


@dataclass(frozen=True)
class Soak:
    """The result. `answered_after` says whether the server answers rightly when all is over."""

    plan: Plan
    counts: Counts
    memory: Memory
    answered_after: bool

    def problems(self) -> list[str]:
        """What is not as it must be."""
        counts = self.counts
        growth = f"memory grew by {self.memory.growth:.1%}, more than {MOST_GROWTH:.0%}"
        found = {
            growth: self.memory.growth > MOST_GROWTH,
            f"{counts.wrong_count} answers were another's or wrong": counts.wrong_count > 0,
            f"{counts.failed_count} requests failed": counts.failed_count > 0,
            "a full line was told without the time to wait": counts.refused_without_wait > 0,
            "the line was never full: nothing is known of that": counts.refused == 0,
            "nothing was answered": counts.answered == 0,
            "nobody left: nothing is known of that": counts.left == 0,
            "the server does not answer afterwards": not self.answered_after,
        }
        return [what for what, is_so in found.items() if is_so]

    def as_json(self) -> dict[str, Any]:
        """All figures."""
        return {
            "plan": asdict(self.plan),
            "counts": asdict(self.counts),
            "memory": asdict(self.memory) | {"growth": self.memory.growth},
            "answered_after": self.answered_after,
            "problems": self.problems(),
        }

    def table(self) -> str:
        """The figures for a page, in Markdown."""
        counts, memory = self.counts, self.memory
        rows = [
            ("clients, seconds", f"{self.plan.clients}, {self.plan.seconds:.0f}"),
            ("answers, each compared with the runtime's own", f"{counts.answered}"),
            ("answers that were another's or wrong", f"{counts.wrong_count}"),
            ("left in mid-answer or in the line", f"{counts.left}"),
            ("refused with 429 and Retry-After", f"{counts.refused - counts.refused_without_wait}"),
            ("refused without Retry-After", f"{counts.refused_without_wait}"),
            ("failed", f"{counts.failed_count}"),
            ("memory after warm-up, at the end", _mb(memory.first_rss, memory.last_rss)),
            ("growth", f"{memory.growth:+.1%}"),
            ("threads", f"{memory.first_threads:.0f}, {memory.last_threads:.0f}"),
            ("open files", f"{memory.first_files:.0f}, {memory.last_files:.0f}"),
        ]
        lines = ["| soak | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)]
        return "\n".join([*lines, "", *(f"Problem: {one}" for one in self.problems())])


def _mb(*sizes: float) -> str:
    return ", ".join(f"{size / 1e6:.1f} MB" for size in sizes)
