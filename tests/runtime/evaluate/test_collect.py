from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondevice.errors import RequestError
from ondevice.package import Package
from ondevice.runtime.confidence.features import NAMES
from ondevice.runtime.evaluate import records
from ondevice.runtime.evaluate.checkers import Exact
from ondevice.runtime.evaluate.collect import DeviceSubject, checked, collect, failed
from ondevice.runtime.evaluate.dataset import Example
from ondevice.runtime.evaluate.records import Appender, Record
from ondevice.runtime.model import load

EXAMPLES = [Example(f"e{n}", f"say {n}", Exact((str(n),))) for n in range(6)]


class Scripted:
    """Says the right number to even examples, and counts what it was asked."""

    name = "device:scripted"

    def __init__(self, fail_at: int | None = None) -> None:
        self.asked: list[str] = []
        self._fail_at = fail_at

    def answer(self, example: Example) -> Record:
        if len(self.asked) == self._fail_at:
            raise KeyboardInterrupt
        self.asked.append(example.id)
        number = int(example.id[1:])
        return checked(example, self.name, str(number if number % 2 == 0 else -1))


def test_a_stopped_collection_goes_on_and_gives_the_same_records(tmp_path: Path) -> None:
    whole = collect(Scripted(), EXAMPLES, tmp_path / "whole.jsonl")
    with pytest.raises(KeyboardInterrupt):
        collect(Scripted(fail_at=3), EXAMPLES, tmp_path / "parts.jsonl")
    with (tmp_path / "parts.jsonl").open("a") as file:
        file.write('\n{"id": "e3", "subj')  # what a kill in the middle of a line leaves
    second = Scripted()
    assert collect(second, EXAMPLES, tmp_path / "parts.jsonl") == whole
    assert second.asked == ["e3", "e4", "e5"]
    assert [record.right for record in whole] == [True, False] * 3


def test_kept_answers_are_checked_anew(tmp_path: Path) -> None:
    collect(Scripted(), EXAMPLES, tmp_path / "a.jsonl")
    mended = [replace(example, check=Exact(("-1",))) for example in EXAMPLES]
    again = Scripted()
    assert [r.right for r in collect(again, mended, tmp_path / "a.jsonl")] == [False, True] * 3
    assert again.asked == []


def test_an_answer_to_a_changed_question_is_made_anew(tmp_path: Path) -> None:
    collect(Scripted(), EXAMPLES, tmp_path / "a.jsonl")
    changed = [replace(EXAMPLES[0], prompt="say zero"), *EXAMPLES[1:]]
    again = Scripted()
    collect(again, changed, tmp_path / "a.jsonl")
    assert again.asked == ["e0"]


def test_answers_of_another_subject_are_not_taken(tmp_path: Path) -> None:
    collect(Scripted(), EXAMPLES, tmp_path / "a.jsonl")
    other = Scripted()
    other.name = "device:other"
    collect(other, EXAMPLES, tmp_path / "a.jsonl")
    assert len(other.asked) == len(EXAMPLES)


@given(st.lists(st.floats(-100, 100, width=16), max_size=8), st.text(max_size=20))
def test_a_record_survives_its_file(hidden: list[float], text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()
    record = Record(
        "x", "device:s", text, True, 0.5, False, 3, 2, "stop", 0.25, 0.5, 0.0, (1.5, -2.0),
        tuple(hidden), (), "", "no" if not text else "",
    )  # fmt: skip
    assert records.from_json(record.to_json()) == record


def test_records_are_written_as_they_are_read(tmp_path: Path) -> None:
    made = [checked(example, "device:s", "4") for example in EXAMPLES]
    for name in ("a.jsonl", "a.jsonl.gz"):
        records.write(tmp_path / name, made)
        assert records.read(tmp_path / name) == made
    Appender(tmp_path / "a.jsonl").add(replace(made[0], text="later"))
    assert records.read(tmp_path / "a.jsonl")[0].text == "later"


def test_a_file_that_holds_no_records_is_an_error_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "x", "prompt": "hello"}\n')
    with pytest.raises(RequestError, match="a record needs"):
        records.read(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(RequestError, match="cannot read the records"):
        records.read(path)


def test_a_model_on_the_device_gives_features_and_hidden_states(tiny_package: Package) -> None:
    with load(tiny_package, threads=1, context_length=64) as model:
        subject = DeviceSubject(model, hidden=True)
        record = subject.answer(replace(EXAMPLES[0], max_tokens=4))
        empty = subject.answer(replace(EXAMPLES[0], prompt=" "))
    assert record.subject == f"device:{tiny_package.manifest.name}"
    assert 1 <= record.output_tokens <= 4
    assert len(record.features) == len(NAMES)
    assert np.isfinite(record.features).all()
    assert len(record.prompt_hidden) == tiny_package.manifest.shape.hidden_size
    assert record.latency_s >= record.ttft_s > 0
    assert "empty" in empty.error
    assert not empty.right


def test_a_failed_call_is_wrong_even_where_an_empty_answer_would_be_right() -> None:
    example = replace(EXAMPLES[0], check=Exact(("",)))
    record = failed(example, "cloud:x", "timeout")
    assert not record.right
    assert record.error == "timeout"
