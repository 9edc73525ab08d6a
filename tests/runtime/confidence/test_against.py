"""A rival whose strengths are known: what is learned of it, and what that is worth."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from confidence_data import SPLITS, World, world
from hypothesis import given
from hypothesis import strategies as st

from ondevice.errors import CalibrationError
from ondevice.package import Package, open_package
from ondevice.runtime.answer import Answer, Signals
from ondevice.runtime.confidence import against, fit, metrics
from ondevice.runtime.confidence import calibration as stored
from ondevice.runtime.confidence.calibrate import from_fit, probabilities, scaled
from ondevice.runtime.confidence.calibration import Calibration
from ondevice.runtime.confidence.samples import Samples, from_records
from ondevice.runtime.confidence.splits import Splits
from ondevice.runtime.evaluate import records
from ondevice.runtime.evaluate.records import Record

WEAK = "Add the numbers"  # what the rival cannot do either


def rival_records(of: World, seed: int = 0, model: str = "large") -> list[Record]:
    """Right 19 times in 20, and on the WEAK task once in 20, whatever the small one said."""
    rng = np.random.default_rng(seed)
    found = []
    for example, record in zip(of.examples, of.records, strict=True):
        right = rng.random() < (0.05 if example.prompt.startswith(WEAK) else 0.95)
        text = f"yes {example.id[1:]}" if right else "no"
        found.append(
            replace(record, subject="cloud:mine", model=model, text=text, right=right, features=())
        )
    return found


def outcomes(of: list[Record]) -> np.ndarray:
    return np.array([float(record.right) for record in of])


def learned(
    every: Samples, rival: np.ndarray, max_loss: float = 0.025
) -> tuple[Calibration, against.Against]:
    """From the first 900 samples, 300 to each split."""
    parts = tuple(every.take(np.arange(300 * k, 300 * k + 300)) for k in range(3))
    fitted = fit.fit(parts[0])
    made = scaled(from_fit(fitted), parts[1])
    answered = against.Answered("cloud:mine", "large", rival[:300], rival[300:600], rival[600:900])
    return against.learn(made, fitted, answered, (parts[0], parts[1], parts[2]), max_loss)


@pytest.fixture(scope="module")
def pair() -> tuple[World, Samples, np.ndarray]:
    of = world(1500, 1)
    return of, from_records(of.examples, of.records), outcomes(rival_records(of))


def test_asking_only_where_the_rival_can_do_it_keeps_more_than_a_threshold(
    pair: tuple[World, Samples, np.ndarray],
) -> None:
    of, every, rival = pair
    made, found = learned(every, rival)
    new = every.take(np.arange(900, 1500))
    own, theirs = against.rival_probabilities(made, new)
    assert np.array_equal(own, probabilities(made, new))
    weak = np.array([e.prompt.startswith(WEAK) for e in of.examples[900:]])
    assert theirs[weak].max() < 0.3 and theirs[~weak].min() > 0.7
    assert found.auroc.value > 0.9
    gain = rival[900:] - new.right
    shares = [
        np.mean(score >= against.lowest_score(score, gain, 0.025))
        for score in (own, against.local_scores(made, new))
    ]
    assert shares[1] > shares[0] + 0.15
    kept, accuracy, alone, lost = against.outcomes(made, new, rival[900:])
    assert kept.mean() > shares[0] + 0.1 and lost.mean() < 0.06
    assert lost.mean() == pytest.approx(alone.mean() - accuracy.mean())


def test_the_advantage_keeps_the_loss_where_it_was_chosen_and_no_smaller_one_keeps_more(
    pair: tuple[World, Samples, np.ndarray],
) -> None:
    _, every, rival = pair
    shares = []
    for max_loss in (0.0, 0.025, 0.1):
        made, found = learned(every, rival, max_loss)
        kept, _, _, lost = against.outcomes(made, every.take(np.arange(300, 900)), rival[300:900])
        assert lost.mean() <= max_loss + 1e-9
        shares.append(kept.mean())
        assert made.rival is not None and made.rival.kept is not None
        assert made.rival.kept.local_share == found.local_share.value
        assert made.rival.kept.loss == found.loss.value
        assert found.loss.low <= found.loss.value <= found.loss.high
    assert shares[0] < shares[1] < shares[2]


def test_what_the_local_signals_say_of_the_rival_is_used_where_it_clearly_helps() -> None:
    """The rival is right exactly where one of the features is above 0."""
    of = world(900, 2, signal=0.5)
    every = from_records(of.examples, of.records)
    values = every.values.copy()
    column = 3
    values[:, column] = np.random.default_rng(0).normal(size=900)
    every = replace(every, values=values)
    rival = (values[:, column] > 0).astype(float)
    made, found = learned(every, rival)
    assert found.chosen != "prompt" and made.rival is not None
    assert made.rival.weights or made.rival.kernel_weights
    assert found.auroc.value > 0.9


def test_of_variants_alike_the_simplest_is_chosen() -> None:
    """A rival that is right by chance: nothing tells, and no noise is let in."""
    of = world(900, 3)
    every = from_records(of.examples, of.records)
    rival = (np.random.default_rng(1).random(900) < 0.8).astype(float)
    made, found = learned(every, rival)
    assert found.chosen == "prompt"
    theirs = against.rival_probabilities(made, every)[1]
    assert np.ptp(theirs) < 0.2 and theirs.mean() == pytest.approx(0.8, abs=0.08)


def bent(every: Samples) -> tuple[Samples, np.ndarray]:
    """Right where a signal is near 0, and the rival where another one is: nothing linear."""
    values = np.zeros_like(every.values)
    values[:, :2] = np.random.default_rng(2).normal(size=(len(every), 2))
    right, theirs = (np.abs(values[:, :2]) < 0.7).astype(float).T
    return replace(every, values=values, right=right), theirs


def test_both_share_the_landmarks_of_one_kernel() -> None:
    of = world(900, 5)
    every, rival = bent(from_records(of.examples, of.records))
    made, found = learned(every, rival)
    assert found.chosen == "kernel" and found.auroc.value > 0.9
    assert made.kernel is not None and made.rival is not None
    assert len(made.rival.kernel_weights) == len(made.kernel.weights)
    # What is shared gives what a kernel of its own would.
    own = replace(
        made,
        kernel=replace(made.kernel, weights=made.rival.kernel_weights),
        linear=replace(made.linear, weights=(0.0,) * len(made.linear.weights)),
        intercept=made.rival.intercept,
        slope=made.rival.slope,
        offset=made.rival.offset,
        router=None,
    )
    few = every.take(np.arange(50))
    theirs = against.rival_probabilities(made, few)[1]
    assert theirs == pytest.approx(probabilities(own, few))


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(-1, 1)), min_size=1, max_size=30),
    st.sampled_from([0.0, 0.025, 0.2]),
)
def test_the_lowest_score_keeps_the_loss_and_no_other_keeps_more(
    rows: list[tuple[int, int]], max_loss: float
) -> None:
    scores = np.array([-np.inf if s == 0 else float(s) for s, _ in rows])
    gain = np.array([float(g) for _, g in rows])
    level = against.lowest_score(scores, gain, max_loss)
    kept = scores >= level
    assert (gain * kept).sum() / len(rows) <= max_loss + 1e-9 and not kept[scores == -np.inf].any()
    for other in (1.0, 2.0, 3.0, 4.0):
        if (gain * (scores >= other)).sum() / len(rows) <= max_loss:
            assert (scores >= other).sum() <= kept.sum()


def test_the_spread_loss_is_as_computed_by_hand() -> None:
    # kept first: lost 0, then 1, then 1 - 1: (0 + 1 + 0) / 3, of three examples
    assert against.spread_loss(np.array([0.9, 0.5, 0.1]), np.array([0.0, 1.0, -1.0])) == (
        pytest.approx(1 / 9)
    )


def test_answers_that_fail_a_check_never_stay(pair: tuple[World, Samples, np.ndarray]) -> None:
    _, every, rival = pair
    made, _ = learned(every, rival, 0.3)
    shut = replace(every, open=np.arange(1500) % 3 > 0)
    kept = against.outcomes(made, shut, rival)[0]
    assert not kept[~shut.open].any() and kept[shut.open].any()


def test_examples_that_the_rival_did_not_answer_count_for_nothing(
    pair: tuple[World, Samples, np.ndarray],
) -> None:
    _, every, rival = pair
    holes = np.where(np.arange(1500) % 5 == 0, np.nan, rival)
    made, found = learned(every, holes)
    assert found.examples == 240
    assert np.isfinite(against.rival_probabilities(made, every)[1]).all()
    assert metrics.auroc(against.rival_probabilities(made, every)[1], rival) > 0.9


def test_it_is_stored_and_judges_a_live_answer_as_it_judged_the_recorded_one(
    pair: tuple[World, Samples, np.ndarray], tiny_package: Package, tmp_path: Path
) -> None:
    _, every, rival = pair
    made, _ = learned(every, rival)
    shutil.copytree(tiny_package.folder, tmp_path / "tiny")
    package = open_package(tmp_path / "tiny")
    stored.write(package, made)
    read = stored.read(package)
    assert read == made and read.rival is not None and read.format_version == 1
    given = Answer("yes 3", (1,), 3, "stop", "m", signals=Signals((-0.1,), (0.2,), (3.0,)))
    for prompt, low, high in (("Add the numbers: 7", 0, 0.3), ("Name the colour: 7", 0.7, 1)):
        thought = read.assess(given, prompt)
        assert thought.cloud is not None and low < thought.cloud < high
        assert thought.probability == read.probability(given, prompt)
    cut = replace(given, finish_reason="length")
    assert read.assess(cut, "Add the numbers: 7").cloud is None
    assert replace(read, rival=None).assess(given, "Add the numbers: 7").cloud is None


# ---- the file


def parts_of(of: World) -> Splits:
    return Splits(*(tuple(e for e in of.examples if e.split == name) for name in SPLITS))


@pytest.fixture
def small() -> World:
    return world(150, 4)


def test_a_file_of_records_names_its_model(small: World, tmp_path: Path) -> None:
    path = tmp_path / "cloud.jsonl"
    records.write(path, rival_records(small, model="gpt-large"))
    found = against.read(path, parts_of(small), "device:tiny")
    assert (found.subject, found.model) == ("cloud:mine", "gpt-large")
    assert len(found.train) == 50 and set(found.train.tolist()) == {0.0, 1.0}
    device = [replace(r, subject="device:bigger", model="") for r in rival_records(small)]
    records.write(path, device)
    assert against.read(path, parts_of(small), "device:tiny").model == "bigger"


def test_failed_calls_and_answers_to_other_questions_are_no_answers(
    small: World, tmp_path: Path
) -> None:
    given = rival_records(small)
    given[0] = replace(given[0], error="timeout: too late", right=False)
    given[1] = replace(given[1], question="another")
    del given[2]
    records.write(tmp_path / "r.jsonl", given)
    found = against.read(tmp_path / "r.jsonl", parts_of(small), "device:tiny")
    assert np.isnan(found.train[:3]).all() and np.isfinite(found.train[3:]).all()


def test_a_mended_checker_counts_for_the_rival_too(small: World, tmp_path: Path) -> None:
    given = [replace(r, right=not r.right) for r in rival_records(small)]
    records.write(tmp_path / "r.jsonl", given)
    found = against.read(tmp_path / "r.jsonl", parts_of(small), "device:tiny")
    assert np.array_equal(found.train, 1 - outcomes(given)[:50])


def test_a_file_that_teaches_nothing_is_an_error_in_one_line(small: World, tmp_path: Path) -> None:
    given = rival_records(small)
    other = [replace(r, subject="cloud:other") for r in given[:1]]
    changed = [replace(r, model="newer") for r in given[:1]]
    own = [replace(r, subject="device:tiny", model="") for r in given]
    cases = {
        "cloud:mine large, cloud:other large": [*given[1:], *other],
        "cloud:mine large, cloud:mine newer": [*given[1:], *changed],
        "of device:tiny itself": own,
        "answers of cloud:mine to 29 of 50 examples of the threshold split": [
            *given[:79],
            *given[100:],
        ],
        "of none": [replace(r, error="timeout") for r in given],
    }
    for said, made in cases.items():
        records.write(tmp_path / "r.jsonl", made)
        with pytest.raises(CalibrationError, match=said) as error:
            against.read(tmp_path / "r.jsonl", parts_of(small), "device:tiny")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(("outcome", "said"), [(1.0, "wrong in none"), (0.0, "right in none")])
def test_a_rival_that_is_always_right_or_always_wrong_is_an_error(
    outcome: float, said: str, pair: tuple[World, Samples, np.ndarray]
) -> None:
    with pytest.raises(CalibrationError, match=said):
        learned(pair[1], np.full(1500, outcome))


@pytest.mark.parametrize("max_loss", [-0.1, 1.0, float("nan")])
def test_a_loss_that_makes_no_sense_is_refused(max_loss: float) -> None:
    with pytest.raises(CalibrationError, match="max loss"):
        against.check_max_loss(max_loss)
