"""The parts of the benchmark scripts that decide what a figure says."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[2]))  # after the installed package

from benchmarks.answers import compare
from benchmarks.checks import says
from benchmarks.common import Lines
from benchmarks.fidelity import WINDOW, windows_of
from benchmarks.tasks import Prompt


def test_a_comparison_counts_each_prompt_once() -> None:
    prompts = [Prompt(name, name, says("right")) for name in "abcd"]
    ours = {"a": "right", "b": "right", "c": "wrong", "d": "wrong"}
    theirs = {"a": "Right.", "b": "wrong", "c": "right", "d": "wrong"}
    found = compare(ours, theirs, prompts)
    assert (found.prompts, found.ours, found.theirs, found.both) == (4, 2, 2, 1)
    assert (found.only_ours, found.only_theirs) == (("b",), ("c",))
    assert found.identical_answers == 0.25


def test_kept_lines_survive_an_interruption_in_the_middle_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    Lines(path).add("one", text="line\u2028separator")
    with path.open("a", encoding="utf-8") as file:
        file.write('\n{"key": "two", "te')
    again = Lines(path)
    assert again.get("one") == {"key": "one", "text": "line\u2028separator"}
    assert again.get("two") is None
    again.add("two", text="whole")
    assert Lines(path).get("two") == {"key": "two", "text": "whole"}


@given(st.integers(0, 3 * WINDOW))
def test_windows_hold_every_token_but_a_lonely_last_one(count: int) -> None:
    windows = windows_of(range(count))
    lonely = count % WINDOW == 1
    assert [token for window in windows for token in window] == list(range(count - lonely))
    assert all(2 <= len(window) <= WINDOW for window in windows)
