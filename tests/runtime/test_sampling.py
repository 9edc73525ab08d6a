from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ondevice.errors import EngineError, RequestError
from ondevice.runtime.answer import Options
from ondevice.runtime.engine import Logits
from ondevice.runtime.sampling import Sampler, distribution, penalized

LOGITS = arrays(np.float32, st.integers(1, 200), elements=st.integers(-60, 60).map(lambda x: x / 4))
OPTIONS = st.builds(
    Options,
    temperature=st.sampled_from([0.1, 0.7, 1.0, 3.0]),
    top_k=st.sampled_from([0, 1, 2, 7, 40]),
    top_p=st.sampled_from([0.05, 0.5, 0.9, 0.999, 1.0]),
    min_p=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
)
PLAIN = Options(temperature=1, top_k=0, top_p=1, min_p=0)


@pytest.fixture(autouse=True)
def warnings_are_errors() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def softmax(logits: Logits) -> np.ndarray:
    weights = np.exp(logits.astype(np.float64) - float(logits.max()))
    return weights / weights.sum()


def by_definition(logits: Logits, options: Options) -> dict[int, float]:
    """Temperature, top-k, top-p, min-p one after the other; ties at a border stay."""
    scaled = logits.astype(np.float64) / options.temperature
    allowed = list(range(len(logits)))
    if options.top_k:
        border = sorted(scaled, reverse=True)[min(options.top_k, len(scaled)) - 1]
        allowed = [id for id in allowed if scaled[id] >= border]
    p = dict(zip(allowed, softmax(scaled[allowed]), strict=True))
    if options.top_p < 1:
        mass = 0.0
        for border in sorted(p.values(), reverse=True):
            mass += border
            if mass >= options.top_p:
                break
        p = {id: value for id, value in p.items() if value >= border}
    p = {id: value for id, value in p.items() if value >= options.min_p * max(p.values())}
    return {id: value / sum(p.values()) for id, value in p.items()}


@settings(max_examples=200)
@given(LOGITS, OPTIONS)
def test_the_distribution_is_the_one_of_the_definitions(logits: Logits, options: Options) -> None:
    ids, weights = distribution(logits, options)
    expected = by_definition(logits, options)
    found = dict(zip(ids.tolist(), weights / weights.sum(), strict=True))
    if found.keys() != expected.keys():  # rounding may move a border that is hit exactly
        assert on_a_border(logits, options)
        return
    for id, p in expected.items():
        assert found[id] == pytest.approx(p, rel=1e-4, abs=1e-30)


def on_a_border(logits: Logits, options: Options) -> bool:
    """Whether a cumulated probability meets top_p, or a ratio min_p, within float32 rounding."""
    without = by_definition(logits, Options(**(vars(options) | {"top_p": 1.0, "min_p": 0.0})))
    ordered = np.sort(list(without.values()))[::-1]
    near_p = np.abs(np.cumsum(ordered) - options.top_p).min() < 1e-6
    near_min = np.abs(ordered / ordered[0] - options.min_p).min() < 1e-6
    return bool(near_p or near_min)


@settings(max_examples=30)
@given(
    st.integers(0, 2**32), st.sampled_from([0.0, 0.5, 4.0]), st.sampled_from([0.3, 0.95, 0.9999])
)
def test_filters_on_a_large_vocabulary_agree_with_sorting_it(
    seed: int, spread: float, top_p: float
) -> None:
    logits = np.random.default_rng(seed).normal(0, spread, 30_011).astype(np.float32)
    ids, _ = distribution(logits, Options(temperature=1, top_k=0, top_p=top_p, min_p=0))
    p = np.sort(softmax(logits))[::-1]
    size = int(np.searchsorted(np.cumsum(p), top_p)) + 1
    if spread == 0:
        size = logits.size  # all equal, so all are tied
    assert abs(len(ids) - size) <= 2 + size // 5000
    k = 100
    ids, _ = distribution(logits, Options(temperature=1, top_k=k, top_p=1, min_p=0))
    border = np.sort(logits)[-k]
    assert ids.tolist() == np.flatnonzero(logits >= border).tolist()


@given(LOGITS)
def test_greedy_takes_the_best_and_its_log_probability_is_that_of_the_raw_softmax(
    logits: Logits,
) -> None:
    token, logprob, *_ = Sampler(Options()).sample(logits)
    assert token == int(logits.argmax())
    assert logprob == pytest.approx(float(np.log(softmax(logits)[token])), abs=1e-5)


@given(LOGITS, OPTIONS, st.integers(0, 1000))
def test_log_probabilities_do_not_see_temperature_filters_or_penalty(
    logits: Logits, options: Options, seed: int
) -> None:
    warped = Options(**(vars(options) | {"seed": seed, "repetition_penalty": 1.5}))
    before = logits.copy()
    token, logprob, *_ = Sampler(warped, [0]).sample(logits)
    p = float(softmax(before)[token])
    assert logprob == pytest.approx(np.log(p), abs=1e-4)
    assert np.array_equal(logits, before)


@given(LOGITS, OPTIONS, st.integers(0, 2**40))
def test_the_same_seed_gives_the_same_tokens(logits: Logits, options: Options, seed: int) -> None:
    seeded = Options(**(vars(options) | {"seed": seed}))
    first, second = Sampler(seeded), Sampler(seeded)
    drawn = [first.sample(logits) for _ in range(5)]
    assert drawn == [second.sample(logits) for _ in range(5)]
    allowed = set(distribution(logits, seeded)[0].tolist())
    assert {sample.token for sample in drawn} <= allowed


@pytest.mark.parametrize("size", [5, 700])
def test_tokens_are_drawn_as_often_as_their_probability_says(size: int) -> None:
    logits = np.linspace(0, 3, size).astype(np.float32)
    sampler = Sampler(Options(**(vars(PLAIN) | {"seed": 1})))
    draws = 4000
    counts = np.bincount([sampler.sample(logits)[0] for _ in range(draws)], minlength=size)
    groups = np.array_split(np.arange(size), 5)
    expected = np.array([softmax(logits)[g].sum() for g in groups]) * draws
    found = np.array([counts[g].sum() for g in groups])
    chi2 = float(((found - expected) ** 2 / expected).sum())
    assert chi2 < 18.5  # 4 degrees of freedom, p = 0.001; the seed is fixed


@given(LOGITS, st.floats(1.01, 3), st.data())
def test_a_repetition_penalty_lowers_seen_tokens_and_no_others(
    logits: Logits, penalty: float, data: st.DataObject
) -> None:
    seen = np.array(data.draw(st.lists(st.integers(0, logits.size - 1), unique=True)), dtype=int)
    after = penalized(logits, seen, penalty)
    others = np.setdiff1d(np.arange(logits.size), seen)
    assert np.array_equal(after[others], logits[others])
    assert np.all((after[seen] < logits[seen]) | (logits[seen] == 0))


def test_tokens_chosen_before_are_penalized_too() -> None:
    sampler = Sampler(Options(repetition_penalty=2), history=[3])
    logits = np.array([1.0, 1.5, 1.75, 1.9], np.float32)
    assert [sampler.sample(logits)[0] for _ in range(4)] == [2, 1, 0, 3]


def test_tiny_and_huge_temperatures_are_greedy_and_even() -> None:
    logits = np.array([1, 3, -np.inf, 2], np.float32)
    cold = Options(**(vars(PLAIN) | {"temperature": 1e-300, "seed": 1}))
    assert {Sampler(cold).sample(logits)[0] for _ in range(20)} == {1}
    _, weights = distribution(logits, Options(**(vars(PLAIN) | {"temperature": 100})))
    assert weights == pytest.approx([1, 1, 0, 1], abs=0.03)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_numbers_are_an_engine_error(bad: float) -> None:
    for options in (Options(), PLAIN):
        with pytest.raises(EngineError, match="not numbers"):
            Sampler(options).sample(np.array([0, bad, 1], np.float32))
    with pytest.raises(EngineError):
        Sampler(Options()).sample(np.full(4, -np.inf, np.float32))


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_tokens": 0},
        {"max_tokens": -1},
        {"max_tokens": 1.5},
        {"max_tokens": True},
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"temperature": "hot"},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.01},
        {"min_p": -0.1},
        {"min_p": 2},
        {"repetition_penalty": 0.0},
        {"repetition_penalty": float("nan")},
        {"seed": -1},
        {"seed": 0.5},
        {"stop": ("",)},
        {"stop": "abc"},
        {"stop": (1,)},
    ],
)
def test_absurd_options_are_a_request_error_naming_them(wrong: dict[str, object]) -> None:
    with pytest.raises(RequestError, match=next(iter(wrong))):
        Options(**wrong)  # type: ignore[arg-type]


@given(LOGITS, OPTIONS)
def test_entropy_and_margin_are_those_of_the_raw_softmax(logits: Logits, options: Options) -> None:
    sample = Sampler(replace(options, seed=0, repetition_penalty=1.5), [0]).sample(logits)
    p = softmax(logits).astype(np.float64)
    assert sample.entropy == pytest.approx(
        float(-(p * np.log(np.maximum(p, 1e-300))).sum()), abs=2e-4
    )
    if logits.size > 1:
        second, best = np.sort(logits.astype(np.float64))[-2:]
        assert sample.margin == pytest.approx(best - second, abs=1e-4)


def test_an_impossible_token_adds_nothing_to_entropy_and_is_an_infinite_margin_away() -> None:
    sample = Sampler(Options()).sample(np.array([0, -np.inf, -np.inf], np.float32))
    assert sample.entropy == 0
    assert sample.margin == 1e4
    even = Sampler(Options()).sample(np.array([1, 1, -np.inf], np.float32))
    assert even.entropy == pytest.approx(np.log(2))
    assert even.margin == 0
