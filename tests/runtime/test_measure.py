from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondevice.errors import RequestError
from ondevice.runtime import measure
from ondevice.runtime.clock import ScriptedClock
from ondevice.runtime.scripted import ScriptedEngine, one_hot

SAMPLES = st.lists(st.floats(0.001, 1e6), min_size=1, max_size=50)


def engine(clock: ScriptedClock, **delays: object) -> ScriptedEngine:
    return ScriptedEngine((7, 8, 9), vocab_size=50, clock=clock, **delays)  # type: ignore[arg-type]


def test_statistics_of_known_samples_are_exact() -> None:
    found = measure.summarize([10, 20, 30, 40, 50], higher_is_better=False)
    # Type 7: the quantile p of n samples lies at position p * (n - 1).
    assert found == measure.Statistics(5, 30, 48, 10, 50, 20 / 30)


def test_p95_is_taken_on_the_worse_side() -> None:
    assert measure.summarize([10, 20, 30, 40, 50], higher_is_better=True).p95 == 12


@given(SAMPLES, st.randoms())
def test_statistics_do_not_depend_on_the_order_and_lie_in_the_range(
    samples: list[float], random: object
) -> None:
    found = measure.summarize(samples, higher_is_better=False)
    shuffled = list(samples)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert measure.summarize(shuffled, higher_is_better=False) == found
    tolerance = 1e-9 * found.maximum
    assert found.minimum - tolerance <= found.median <= found.p95 + tolerance
    assert found.p95 <= found.maximum + tolerance


@given(SAMPLES)
def test_the_worse_side_mirrors_when_the_direction_does(samples: list[float]) -> None:
    up = measure.summarize(samples, higher_is_better=True)
    down = measure.summarize([-s for s in samples], higher_is_better=False)
    assert up.p95 == pytest.approx(-down.p95)


def test_no_samples_is_a_named_error() -> None:
    with pytest.raises(RequestError, match="at least one repetition"):
        measure.summarize([], higher_is_better=True)
    with pytest.raises(RequestError, match="at least 2 tokens"):
        measure.token_gaps([])


def test_token_gaps_come_in_milliseconds() -> None:
    found = measure.token_gaps([i / 1000 for i in range(101)])
    assert (found.n, found.p50, found.p95, found.p99) == pytest.approx((101, 50, 95, 99))


def test_prefill_time_is_the_scripted_delay_from_an_empty_cache() -> None:
    clock = ScriptedClock(start := 5.0)
    scripted = engine(clock, prefill_s=0.25)
    scripted.prefill([1, 2, 3])
    assert measure.prefill_time(scripted, [1] * 8, clock) == 2.0
    assert scripted.cache == [1] * 8
    assert clock.now == start + 0.75 + 2.0


def test_decode_times_are_the_scripted_delays_without_the_first_prefill() -> None:
    clock = ScriptedClock()
    scripted = engine(clock, prefill_s=64.0, decode_s=(0.25, 0.5, 0.125))
    assert measure.decode_times(scripted, [4, 5, 6], clock) == (0.25, 0.5, 0.125)
    assert scripted.cache == [4, 4, 5, 6]


def test_a_chat_splits_the_time_to_first_token_exactly() -> None:
    clock = ScriptedClock()
    scripted = engine(clock, prefill_s=0.5, decode_s=(0.25, 0.125))

    def encode() -> list[int]:
        clock.advance(0.0625)
        return [1, 2, 3]

    def sample(logits: measure.Logits) -> int:
        clock.advance(0.03125)
        return measure.most_probable(logits)

    found = measure.chat_sample(scripted, encode, 3, clock, sample=sample)
    assert (found.tokenize, found.prefill, found.first_sample) == (0.0625, 1.5, 0.03125)
    assert found.ttft == 1.59375
    assert found.gaps == (0.28125, 0.15625)
    assert (found.prompt_tokens, found.tokens) == (3, (7, 8, 9))
    assert scripted.cache == [1, 2, 3, 7, 8]


def test_a_continuation_is_run_in_place_of_the_engines_own_choice() -> None:
    clock = ScriptedClock()
    scripted = engine(clock)
    found = measure.chat_sample(scripted, lambda: [1], 3, clock, continuation=(40, 41, 42))
    assert scripted.cache == [1, 40, 41]
    assert found.tokens == (7, 8, 9)


def test_random_tokens_are_reproducible_and_inside_the_vocabulary() -> None:
    tokens = measure.random_tokens(1000, 50, seed=3)
    assert tokens == measure.random_tokens(1000, 50, seed=3)
    assert tokens != measure.random_tokens(1000, 50, seed=4)
    assert set(tokens) == set(range(50))


def history_engine(wrong_after: int | None = None) -> ScriptedEngine:
    def script(cache: object) -> measure.Logits:
        length = len(cache)  # type: ignore[arg-type]
        right = length % 50
        wrong = wrong_after is not None and length > wrong_after
        return one_hot((right + 1) % 50 if wrong else right, 50)

    return ScriptedEngine(script, vocab_size=50)


def test_agreement_counts_equal_most_probable_tokens_over_all_chunks() -> None:
    tokens = [1] * 300  # more than two chunks of rows
    assert measure.top1(history_engine(), tokens) == tuple((i + 1) % 50 for i in range(300))
    found = measure.agreement(history_engine(), history_engine(wrong_after=225), tokens)
    assert found == measure.Agreement(300, 0.75)


def test_results_of_different_texts_do_not_agree_but_fail() -> None:
    with pytest.raises(RequestError, match="same text"):
        measure.agree([1, 2], [1])


PEAK = """
import numpy as np
from ondevice.runtime.measure import peak_memory
before = peak_memory().bytes
ballast = np.ones(64 << 17)  # 64 MiB
del ballast
print(before, peak_memory().bytes)
"""


def test_peak_memory_sees_what_was_used_and_given_back_and_not_the_parents() -> None:
    parent = np.ones(400 << 17)  # 400 MiB here must not count there
    command = [sys.executable, "-c", PEAK]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert after - before >= 60 << 20
    assert after < parent.nbytes
