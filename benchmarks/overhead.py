"""What the decision adds to an answer: prior, verifier, probability and policy, without inference.

Uses recorded prompts and texts; token signals are drawn at the recorded lengths, because their
values do not change the work.
"""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from ondevice.runtime.answer import Answer, Options, Signals
from ondevice.runtime.confidence.calibration import Calibration
from ondevice.runtime.confidence.samples import Samples
from ondevice.runtime.fallback.decision import Facts
from ondevice.runtime.fallback.judge import Judge
from ondevice.runtime.fallback.policy import Policy


@dataclass(frozen=True)
class Overhead:
    """Milliseconds that one decision takes, both steps together, over `answers` answers."""

    answers: int
    median_ms: float
    p95_ms: float
    largest_ms: float


def measure(calibration: Calibration, of: Samples, longest: int = 64) -> dict[str, Any]:
    """Time the decision for every answer, once; the first ten only warm up."""
    key = "benchmark"
    keyed = replace(calibration, key=key)
    judge = Judge(Policy(consent="always"), calibration=keyed, key=lambda _: key)
    random = np.random.default_rng(0)
    times = []
    for row, prompt in enumerate(of.prompts):
        answer = _answer(of, row, random, longest)
        start = time.perf_counter()
        facts = Facts(prompt)
        belief = judge.believe(Options(), prompt)
        judge.decide(facts, belief, can_ask=False)
        judge.decide(facts, belief, judge.drafted(facts, answer), can_ask=False)
        times.append((time.perf_counter() - start) * 1e3)
    kept = np.array(times[10:])
    p95 = float(np.quantile(kept, 0.95))
    return asdict(Overhead(len(kept), float(np.median(kept)), p95, float(kept.max())))


def _answer(of: Samples, row: int, random: np.random.Generator, longest: int) -> Answer:
    count = int(random.integers(1, longest + 1))
    prompt_hidden = None if of.prompt_hidden is None else of.prompt_hidden[row].astype(np.float32)
    answer_hidden = None if of.answer_hidden is None else of.answer_hidden[row].astype(np.float32)
    signals = Signals(
        tuple((-random.random(count)).tolist()),
        tuple(random.random(count).tolist()),
        tuple(random.random(count).tolist()),
        prompt_hidden,
        answer_hidden,
    )
    return Answer(
        text=of.texts[row],
        tokens=tuple(range(count)),
        prompt_tokens=100,
        finish_reason="stop",
        model="small",
        signals=signals,
    )
