"""Every fault of `benchmarks.faults` once: the caller gets a whole answer, labelled, in time.

A second of slack beside the deadline, for a machine that is busy; the benchmark is strict.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import openai  # noqa: F401 - takes long, and is not what a deadline is tried with
import pytest

sys.path.append(str(Path(__file__).parents[3]))  # after the installed package

from benchmarks import faults
from benchmarks.fault_cases import CASES, Case
from benchmarks.fault_local import LOCAL_CASES

SLACK_S = 1.0


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_fault_of_the_endpoint_leaves_a_whole_labelled_answer_in_time(case: Case) -> None:
    result = faults.try_case(case, SLACK_S)
    assert result.survived, f"{result.outcome}: {result.problem}"


@pytest.mark.parametrize("attempt", LOCAL_CASES, ids=lambda attempt: attempt.__name__)
def test_a_fault_of_this_machine_leaves_a_whole_labelled_answer(
    attempt: Callable[[], faults.Result],
) -> None:
    result = attempt()
    assert result.survived, f"{result.outcome}: {result.problem}"


def test_a_client_that_shows_a_part_as_the_answer_does_not_survive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def splice(client: object, **more: object) -> faults.Shown:
        return faults.Shown("Grüße aus ", "cloud", "")

    monkeypatch.setattr(faults, "show", splice)
    case = next(case for case in CASES if case.name == "clean end without finish_reason")
    result = faults.try_case(case, SLACK_S)
    assert not result.survived
    assert "nobody's whole answer" in result.problem


def test_at_least_thirty_kinds_of_faults_are_tried_and_no_name_comes_twice() -> None:
    names = [case.name for case in CASES]
    assert len(names) + len(LOCAL_CASES) >= 30
    assert len(set(names)) == len(names)
