"""The table of rules on made-up answers, with the row that knows the large model's weakness."""

from __future__ import annotations

import numpy as np
import pytest
from confidence_data import world

from benchmarks.fallback_data import SPLITS, Answers
from benchmarks.fallback_figures import GAIN, PROBE, calibrations, rivals, rows, thresholds
from ondevice.runtime.confidence.samples import from_records


@pytest.fixture(scope="module")
def answers() -> Answers:
    """One world cut into the five splits; the large model cannot add either."""
    of = world(1200, 7, hidden=4)
    rng = np.random.default_rng(0)
    adds = np.array([example.prompt.startswith("Add") for example in of.examples])
    right = (rng.random(1200) < np.where(adds, 0.05, 0.95)).astype(np.float64)
    parts = dict(zip(SPLITS, np.split(np.arange(1200), [300, 500, 700, 1000]), strict=True))
    examples = {name: [of.examples[i] for i in part] for name, part in parts.items()}
    made = {name: [of.records[i] for i in part] for name, part in parts.items()}
    small = {name: from_records(examples[name], made[name]) for name in SPLITS}
    large = {("big", name): (right[part], np.full(len(part), 1e-3)) for name, part in parts.items()}
    return Answers(examples, small, made, large)


def test_the_row_with_the_gain_is_there_and_keeps_more_against_a_model_weak_at_the_same(
    answers: Answers,
) -> None:
    made = calibrations(answers.small["train"], answers.small["threshold"])
    gains = rivals(answers)
    assert set(gains) == {"big"} and gains["big"].rival is not None
    found = {row.name: row for row in rows(made, answers, "big", "test", gains["big"])}
    assert found[GAIN].local_share.value > found[PROBE].local_share.value + 0.1
    assert found[GAIN].loss.value < 0.08
    without = [row.name for row in rows(made, answers, "big", "test")]
    assert GAIN not in without and without == [name for name in found if name != GAIN]
    levels = thresholds(made, answers, "big", gains["big"])
    assert levels[GAIN] == pytest.approx(-gains["big"].rival.advantage, abs=0.05)
