"""Subjects with known delays, and results made of known figures, for the benchmark's tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ondevice.runtime.bench_result import (
    EngineResult,
    LoadCheck,
    Metric,
    ModelInfo,
    Protocol,
    Result,
)
from ondevice.runtime.bench_subject import LocalSubject, SubjectInfo, Texts
from ondevice.runtime.clock import ScriptedClock
from ondevice.runtime.device import Device
from ondevice.runtime.engine import Engine
from ondevice.runtime.measure import PeakMemory
from ondevice.runtime.scripted import ScriptedEngine

DEVICE = Device(
    cpu="Example CPU",
    architecture="x86_64",
    logical_cores=4,
    physical_cores=2,
    usable_cpus=4,
    cpu_quota=None,
    instruction_sets=("AVX2", "FMA"),
    memory_gib=15.5,
    system="Linux",
    system_version="kernel 6.1",
    python="3.11.9",
    onnxruntime="1.29.0",
)
IDLE = LoadCheck(0.1, 1.0, busy=False)
VOCAB = 50


def model(name: str = "tiny", digest: str = "a" * 64) -> ModelInfo:
    return ModelInfo(name, "package", "cpu-int4", 1_000_000, digest)


def info(label: str) -> SubjectInfo:
    return SubjectInfo(label, label, "1.0", model(), 2, 2048)


def subject(
    label: str,
    clock: ScriptedClock,
    *,
    load_s: float = 0.5,
    import_s: float = 0.25,
    tokenize_s: float = 0.003,
    prompt: Sequence[int] = (1, 2, 3, 4),
    engine: Callable[[], Engine] | None = None,
    prefill_s: float = 0.001,
    decode_s: Sequence[float] = (0.01,),
    script: Sequence[int] = (7, 8, 9),
    memory: int = 1000,
) -> LocalSubject:
    def open_engine() -> Engine:
        clock.advance(load_s)
        if engine is not None:
            return engine()
        return ScriptedEngine(
            script, vocab_size=VOCAB, clock=clock, prefill_s=prefill_s, decode_s=decode_s
        )

    def conversation() -> Sequence[int]:
        clock.advance(tokenize_s)
        return prompt

    return LocalSubject(
        info(label),
        open_engine,
        texts=Texts(conversation, lambda: tuple(range(20))),
        start=lambda: clock.advance(import_s),
        now=clock,
        memory=lambda: PeakMemory(memory, "scripted"),
    )


def result(
    samples: Sequence[float] = (100.0, 101.0, 102.0, 103.0),
    *,
    label: str = "ort",
    device: Device = DEVICE,
    of: ModelInfo | None = None,
    threads: int = 2,
    name: str = "pp512",
) -> Result:
    metric = Metric(name, "tokens/s", True, tuple(samples))
    engine = EngineResult(
        label=label,
        engine=label,
        engine_version="1.0",
        model=of or model(),
        threads=threads,
        context_length=1024,
        peak_memory=PeakMemory(2_000_000, "scripted"),
        metrics=(metric,),
    )
    protocol = Protocol(512, 0, 0, 1, len(samples), 0, interleaved=False)
    return Result("ondevice 0", "2026-11-24T00:00:00+00:00", device, protocol, IDLE, (engine,))
