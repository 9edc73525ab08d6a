"""How many threads are fastest for a package on this device: measured once, then remembered.

onnxruntime's defaults do not know about containers, and onnxruntime-genai's takes half the cores.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
from collections.abc import Sequence
from pathlib import Path

import platformdirs
import psutil

from ondevice import files
from ondevice.errors import OndeviceError
from ondevice.package import Package
from ondevice.runtime.clock import Clock, system_clock
from ondevice.runtime.device import usable_cores
from ondevice.runtime.engine import Engine

_PROMPT = 32
_DECODED = 12
_ROUNDS = 3


def candidates() -> tuple[int, ...]:
    """Thread counts worth trying: usable logical cores, physical cores, and half of those."""
    usable = usable_cores()
    physical = min(psutil.cpu_count(logical=False) or usable, usable)
    return tuple(sorted({usable, physical, max(1, physical // 2)}, reverse=True))


def best_threads(package: Package) -> int:
    """The count remembered for this package and device, measured now if there is none."""
    counts = candidates()
    if len(counts) == 1:
        return counts[0]
    memory = _memory_file()
    remembered = _read(memory)
    key = _key(package, counts)
    if remembered.get(key) not in counts:
        remembered[key] = measure(package, counts)
        _remember(memory, remembered)
    return remembered[key]


def measure(package: Package, counts: Sequence[int], clock: Clock = system_clock) -> int:
    """The count with the least median time of a short prompt and a few decoded tokens.

    The counts take turns, so that a busy moment of the machine hits all of them.
    """
    from ondevice.runtime.engines import open_engine

    context = min(_PROMPT + _DECODED, package.manifest.shape.context_length)
    engines = {
        count: open_engine(package, threads=count, context_length=context) for count in counts
    }
    times: dict[int, list[float]] = {count: [] for count in counts}
    for round_number in range(_ROUNDS + 1):
        for count, engine in engines.items():
            seconds = _run(engine, context, clock)
            if round_number > 0:  # the first round warms up
                times[count].append(seconds)
    for engine in engines.values():
        engine.close()
    return min(counts, key=lambda count: statistics.median(times[count]))


def _run(engine: Engine, context: int, clock: Clock) -> float:
    engine.rewind(0)
    prompt = max(1, context - _DECODED)
    start = clock()
    engine.prefill([0] * prompt)
    for _ in range(context - prompt):
        engine.decode(0)
    return clock() - start


def _key(package: Package, counts: Sequence[int]) -> str:
    weights = package.manifest.content_hashes()["model.onnx"]
    return hashlib.sha256(f"{weights} {counts}".encode()).hexdigest()[:16]


def _memory_file() -> Path:
    folder = os.environ.get("ONDEVICE_HOME") or platformdirs.user_cache_dir("ondevice")
    return Path(folder) / "threads.json"


def _read(path: Path) -> dict[str, int]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(data, dict):
        return {}
    return {key: n for key, n in data.items() if type(n) is int}


def _remember(path: Path, counts: dict[str, int]) -> None:
    try:
        files.write_text(path, json.dumps(counts, indent=1, sort_keys=True) + "\n")
    except OndeviceError:
        return  # a read-only home: measured again next time
