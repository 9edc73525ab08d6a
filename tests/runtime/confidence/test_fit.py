from __future__ import annotations

import builtins
from dataclasses import replace

import numpy as np
import pytest
from confidence_data import World, world
from hypothesis import given
from hypothesis import strategies as st

from ondevice.errors import CalibrationError
from ondevice.runtime.confidence import features, fit, metrics, regression
from ondevice.runtime.confidence.calibrate import from_fit, probabilities, scaled
from ondevice.runtime.confidence.samples import Samples, from_records


def samples(of: World) -> Samples:
    return from_records(of.examples, of.records)


@pytest.fixture(scope="module")
def plain() -> World:
    return world(900, 1)


def test_what_is_learned_ranks_new_examples_almost_as_well_as_the_truth(plain: World) -> None:
    every = samples(plain)
    made = scaled(from_fit(fit.fit(every.take(np.arange(400)))), every.take(np.arange(400, 600)))
    rest = every.take(np.arange(600, 900))
    best = metrics.auroc(plain.chance[600:], rest.right)
    p = probabilities(made, rest)
    assert metrics.auroc(p, rest.right) > best - 0.03
    assert metrics.ece(p, rest.right) < metrics.ece_by_chance(p) + 0.03


def test_the_router_learns_which_task_is_hard(plain: World) -> None:
    every = samples(plain)
    learned = fit.fit(every.take(np.arange(500)))
    tried = {v.name: v for v in learned.variants}
    assert tried["features + router"].log_loss < tried["features"].log_loss - 0.02
    made = scaled(from_fit(learned), every.take(np.arange(500, 700)))
    easy, hard = made.prior("Name the colour: item 3"), made.prior("Add the numbers: item 3")
    assert easy is not None and hard is not None and easy > 0.55 and hard < 0.4


def test_what_is_chosen_has_the_least_loss_on_left_out_templates(plain: World) -> None:
    learned = fit.fit(samples(plain).take(np.arange(300)))
    assert learned.chosen == min(learned.variants, key=lambda v: v.log_loss).name
    assert [v.name for v in learned.variants] == ["features", "features + router", "kernel"]


def blind(of: World) -> Samples:
    """Samples whose features are noise, so that only hidden states know anything."""
    every = samples(of)
    return replace(every, values=np.random.default_rng(0).normal(size=every.values.shape))


def test_the_probe_is_taken_when_hidden_states_know_more() -> None:
    learned = fit.fit(blind(world(400, 2, hidden=8)), router=False)
    assert learned.chosen == "kernel + probe" and learned.kernel is not None
    assert learned.kernel.probe is not None and learned.router is None
    tried = {v.name: v for v in learned.variants}
    assert tried["kernel + probe"].auroc > tried["kernel"].auroc + 0.15
    new = blind(world(300, 3, hidden=8))
    assert metrics.auroc(probabilities(from_fit(learned), new), new.right) > 0.7


def test_the_kernel_learns_what_is_not_linear() -> None:
    """Right where a signal is near 0, wrong on both sides: no straight line says so."""
    every = samples(world(400, 5))
    values = np.zeros_like(every.values)
    first = np.random.default_rng(1).normal(size=400)
    values[:, features.NAMES.index("margin_min")] = first
    bent = replace(every, values=values, right=(np.abs(first) < 0.7).astype(float))
    learned = fit.fit(bent, router=False)
    tried = {v.name: v for v in learned.variants}
    assert (
        learned.chosen == "kernel" and tried["features"].auroc < 0.65 < 0.9 < tried["kernel"].auroc
    )
    assert metrics.auroc(probabilities(from_fit(learned), bent), bent.right) > 0.95


def test_of_many_answers_some_are_landmarks(monkeypatch: pytest.MonkeyPatch, plain: World) -> None:
    monkeypatch.setattr(fit, "LANDMARKS", 60)
    every = samples(plain)
    learned = fit.fit(every.take(np.arange(500)))
    tried = {v.name: v for v in learned.variants}
    assert tried["kernel"].auroc > tried["features"].auroc - 0.02
    monkeypatch.setattr("ondevice.runtime.confidence.fit.FEATURE_GRID", (1e-9,))
    learned = fit.fit(every.take(np.arange(500)), router=False)
    assert learned.kernel is not None and len(learned.kernel.weights) == 60
    rest = every.take(np.arange(500, 900))
    assert metrics.auroc(probabilities(from_fit(learned), rest), rest.right) > 0.7


def test_a_probe_can_be_demanded_and_refused() -> None:
    every = samples(world(200, 4, hidden=4))
    learned = fit.fit(every, probe=True, router=False)
    assert learned.kernel is not None and learned.kernel.probe is not None
    refused = fit.fit(every, probe=False)
    assert refused.kernel is None or refused.kernel.probe is None
    with pytest.raises(CalibrationError, match="--no-probe"):
        fit.fit(samples(world(200, 4)), probe=True)


def test_an_embedding_can_take_the_place_of_n_grams(plain: World) -> None:
    words = ("Add", "Name", "Turn", "Translate")

    def embed(prompt: str) -> np.ndarray:
        return np.array([float(word in prompt) for word in words])

    learned = fit.fit(samples(plain), embed=embed, encoder="e")
    assert learned.router is not None and learned.router.encoder == "e"
    weights = dict(zip(words, learned.router.weights, strict=True))
    assert weights["Name"] > weights["Translate"] > weights["Turn"] > weights["Add"]


def test_equal_data_and_seed_give_equal_coefficients(plain: World) -> None:
    every = samples(plain).take(np.arange(200))
    assert fit.fit(every, seed=3) == fit.fit(every, seed=3)


def test_answers_that_fail_a_check_teach_the_router_but_not_the_features(plain: World) -> None:
    every = samples(plain)
    spoilt = replace(every, values=every.values.copy(), open=np.arange(900) % 10 > 0)
    spoilt.values[~spoilt.open] = 1e6
    learned = fit.fit(spoilt)
    assert max(map(abs, learned.linear.mean)) < 100
    assert not probabilities(from_fit(learned), spoilt)[~spoilt.open].any()


@pytest.mark.parametrize(("kept", "said"), [(1, "none is wrong"), (0, "none is right")])
def test_data_of_one_class_teaches_nothing(plain: World, kept: int, said: str) -> None:
    every = samples(plain)
    with pytest.raises(CalibrationError, match=said) as error:
        fit.fit(every.take(every.right == kept))
    assert "\n" not in str(error.value)


def test_without_scikit_learn_the_extra_is_named(
    plain: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def without(name: str, *args: object, **kwargs: object) -> object:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(CalibrationError, match=r"ondevice\[calibrate\]"):
        fit.fit(samples(plain))


@given(st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=2, max_size=80))
def test_folds_never_part_a_group(rows: list[tuple[int, bool]]) -> None:
    groups = [f"g{group}" for group, _ in rows]
    folds = regression.grouped_folds(np.array([float(r) for _, r in rows]), groups, 0)
    for group in set(groups):
        members = {int(f) for f, g in zip(folds, groups, strict=True) if g == group}
        assert len(members) == 1 or len(set(groups)) == 1
    assert len(set(folds.tolist())) == min(
        regression.FOLDS, len(set(groups)) if len(set(groups)) > 1 else len(rows)
    )


def test_scaling_finds_the_slope_and_offset_of_overconfident_logits() -> None:
    rng = np.random.default_rng(0)
    true = rng.normal(0, 1.5, 5000)
    right = (rng.random(5000) < 1 / (1 + np.exp(-true))).astype(float)
    slope, offset = regression.platt(3 * true - 1.5, right)
    assert slope == pytest.approx(1 / 3, abs=0.03) and offset == pytest.approx(0.5, abs=0.1)


def test_scaling_never_turns_the_order_around() -> None:
    logits = np.linspace(-2, 2, 50)
    slope, offset = regression.platt(logits, (logits < 0).astype(float))
    assert slope > 0 and np.isfinite(offset)


def test_more_columns_than_rows_give_the_same_coefficients() -> None:
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(40, 60))
    right = (matrix[:, 0] > 0).astype(float)
    folds = np.arange(40) % 4
    wide = regression.linear_stage(matrix, right, folds, (0.1,))
    weights, intercept = regression.regression(matrix - matrix.mean(axis=0), right, 0.1)
    assert wide.weights == pytest.approx(weights, abs=2e-3)
    assert wide.intercept == pytest.approx(intercept - weights @ matrix.mean(axis=0), abs=2e-3)
