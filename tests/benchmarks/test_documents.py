from __future__ import annotations

import tiny_tokenizers as tiny

from benchmarks.documents import Question, Row, Setting, measure, summary, table
from ondevice.desktop.documents import Text
from ondevice.runtime.evaluate.checkers import Contains
from ondevice.runtime.model import Model
from ondevice.runtime.scripted import ScriptedEngine

TEXT = Text("d.txt", ("The gate is shut at nine.", "Lunch costs four crowns."))
LUNCH = Question("a", "How much is lunch?", ("four crowns",), Contains(any=("four",)))
GATE = Question("b", "When is the gate shut?", ("at ten",), Contains(any=("ten",)))


def model(says: str) -> Model:
    tokenizer = tiny.byte_level()
    engine = ScriptedEngine([*tokenizer.encode(says), 2], vocab_size=700)
    return Model(engine, tokenizer, name="tiny", eos_ids=(2,))


def test_a_question_is_right_when_its_evidence_is_shown_and_its_answer_checks() -> None:
    lunch, gate = measure(TEXT, [LUNCH, GATE], model("Four."), Setting(words=5), answer=True)
    assert (lunch.rank, lunch.right_shown, lunch.answered_right) == (1, True, True)
    assert (gate.rank, gate.right_shown, gate.answered_right) == (0, False, False)
    assert lunch.answer == "Four." and lunch.prompt_tokens > 0


def test_a_room_too_small_for_a_passage_shows_none() -> None:
    (row,) = measure(TEXT, [LUNCH], model(""), Setting(words=5, room=1), answer=False)
    assert (row.rank, row.shown, row.right_shown, row.answered_right) == (1, 0, False, None)


def test_the_summary_counts_each_figure() -> None:
    rows = [
        Row("a", 1, 4, True, True, ttft_ms=10.0),
        Row("b", 3, 2, True, False, ttft_ms=30.0),
        Row("c", 9, 3, False, True, ttft_ms=20.0),
    ]
    figures = summary(Setting(), rows)
    assert (figures["right_shown"], figures["rank_1"], figures["answered_right"]) == (2, 1, 2)
    assert (figures["right_of_shown"], figures["passages"]) == (1, 3.0)
    assert (figures["ttft_ms_median"], figures["ttft_ms_largest"]) == (20.0, 30.0)
    heading, rule, line = table([figures]).splitlines()
    assert heading.count("|") == rule.count("|") == line.count("|")
