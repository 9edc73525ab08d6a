"""How fast models are on this device: measured once for each and remembered, or expected.

Measures through the host, with the timings that every answer carries.
"""

from __future__ import annotations

import hashlib
import json
import math
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ondevice import files
from ondevice.desktop.records import now
from ondevice.errors import OndeviceError, RequestError
from ondevice.host import Ask, Host
from ondevice.package import Package
from ondevice.runtime.answer import Answer, Message, Options
from ondevice.runtime.device import Device, fingerprint

FILE = "speeds.json"
ROUNDS = 3
ANSWER_TOKENS = 32
_PASSAGE = (
    "Bees live in colonies of many thousands. In summer most of them are workers, which build "
    "the comb, feed the young and carry in nectar and pollen; in winter they sit close together "
    "and keep each other warm. A colony that has grown too large divides: the old queen leaves "
    "with a part of the workers and looks for a hollow tree. Explain in your own words why. "
)
# A token takes one reading of all weights; how much of the memory's rate that reaches, as
# measured with the packages of the shipped lock (docs/desktop.md).
_REACHED = 0.6
_BLOCK = 64 << 20  # bytes; larger than any cache


@dataclass(frozen=True)
class Speed:
    """Medians of a short measurement: TTFT in ms of a prompt of about 90 tokens, tokens/s."""

    ttft_ms: float
    prefill_tps: float
    decode_tps: float
    when: str
    bytes: int = 0  # of the package


class Speeds:
    """What was measured on this device. Usable from any thread."""

    def __init__(self, path: Path, device: Device | None = None) -> None:
        self._path = path
        self._device = device
        self._lock = threading.Lock()
        self._measured: dict[str, Speed] | None = None
        self._rate: float | None = None

    def device(self) -> Device:
        """This device; looked at once."""
        with self._lock:
            if self._device is None:
                self._device = fingerprint()
            return self._device

    def of(self, package: Package) -> Speed | None:
        """What was measured of a package; None where nothing was."""
        return self._all().get(self._key(package))

    def expected_tps(self, size: int) -> float | None:
        """Decode rate, tokens/s, to be expected of a package of `size` bytes; an estimate.

        From the packages measured here, the one nearest in size; without any from how fast this
        device reads its memory.
        """
        if size <= 0:
            return None
        known = [one for one in self._all().values() if one.bytes > 0 and one.decode_tps > 0]
        if known:
            nearest = min(known, key=lambda one: abs(math.log(one.bytes / size)))
            return nearest.decode_tps * nearest.bytes / size
        with self._lock:
            if self._rate is None:
                self._rate = memory_rate()
            return _REACHED * self._rate / size

    def measure(self, host: Host, package: Package, progress: Callable[[int, int], None]) -> Speed:
        """Measure a package and remember it. `progress` is told rounds done and in all.

        Raises what `Host.pieces` does, and `RequestError` for a model that says nothing.
        """
        progress(0, ROUNDS)
        answers = []
        for number in range(ROUNDS + 1):  # the first one loads and warms up
            answers.append(_answer(host, package, number))
            progress(number, ROUNDS)
        speed = _median(answers[1:], package.total_bytes)
        self._remember(package, speed)
        return speed

    def _all(self) -> dict[str, Speed]:
        with self._lock:
            if self._measured is None:
                self._measured = _read(self._path)
            return dict(self._measured)

    def _remember(self, package: Package, speed: Speed) -> None:
        measured = self._all() | {self._key(package): speed}
        with self._lock:
            self._measured = measured
        data = {key: asdict(one) for key, one in measured.items()}
        try:
            files.write_text(self._path, json.dumps(data, indent=1) + "\n")
        except OndeviceError:
            return  # a full or read-only disk: measured again next time

    def _key(self, package: Package) -> str:
        device = self.device()
        parts = (
            device.cpu,
            device.usable_cpus,
            device.cpu_quota,
            device.memory_gib,
            device.onnxruntime,
            package.manifest.files["model.onnx"].sha256,
            package.total_bytes,
        )
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def memory_rate() -> float:
    """Bytes per second that one thread reads from memory; takes about 0.1 s."""
    import numpy as np

    from ondevice.runtime.clock import system_clock

    block = np.ones(_BLOCK // 8, np.int64)
    best = math.inf
    for _ in range(3):
        start = system_clock()
        block.max()
        best = min(best, system_clock() - start)
    return _BLOCK / max(best, 1e-6)


def _answer(host: Host, package: Package, number: int) -> Answer:
    # The number comes first, so that no round finds its prompt in the KV cache.
    prompt = Message("user", f"{number + 1}. {_PASSAGE}")
    ask = Ask((prompt,), Options(max_tokens=ANSWER_TOKENS), model=package.manifest.name)
    with host.pieces(ask) as turn:
        *_, answer = turn
    assert isinstance(answer, Answer)
    return answer


def _median(answers: list[Answer], size: int) -> Speed:
    from ondevice.runtime.measure import summarize

    if any(len(answer.tokens) < 2 for answer in answers):
        raise RequestError("the model said nothing to measure; its speed stays unknown")

    def middle(values: list[float], higher: bool = True) -> float:
        return summarize(values, higher_is_better=higher).median

    return Speed(
        ttft_ms=middle([answer.timings.ttft * 1e3 for answer in answers], higher=False),
        prefill_tps=middle([answer.prefill_tps for answer in answers]),
        decode_tps=middle([answer.decode_tps for answer in answers]),
        when=now(),
        bytes=size,
    )


def _read(path: Path) -> dict[str, Speed]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        return {key: _speed(one) for key, one in data.items()}
    except (OSError, ValueError, AttributeError, TypeError, KeyError, RecursionError):
        return {}  # measured again


def _speed(data: dict[str, Any]) -> Speed:
    ttft, prefill, decode = (float(data[name]) for name in ("ttft_ms", "prefill_tps", "decode_tps"))
    return Speed(ttft, prefill, decode, when=str(data["when"]), bytes=int(data["bytes"]))
