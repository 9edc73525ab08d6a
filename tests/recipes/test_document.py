from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from benchmarks import documents as benchmark
from ondevice.desktop import documents, passages
from recipes.document.build import FOLDER, SOURCE, build

PDF = FOLDER / "handbook.pdf"
FILES = ("questions.jsonl", "tuning.jsonl")


@pytest.fixture(scope="module")
def text() -> documents.Text:
    """The handbook, read as the assistant reads it."""
    return documents.read(PDF.name, PDF.read_bytes())


def test_the_handbook_is_made_the_same_every_time_and_is_the_committed_one() -> None:
    made = build(SOURCE.read_text(encoding="utf-8"))
    assert made == build(SOURCE.read_text(encoding="utf-8")) == PDF.read_bytes()


def test_the_handbook_has_20_pages_of_some_thousand_words(text: documents.Text) -> None:
    assert len(text.pages) == 20
    assert sum(len(page.split()) for page in text.pages) > 5_000
    assert PDF.stat().st_size < 300_000


def test_no_header_footer_or_parted_word_is_left(text: documents.Text) -> None:
    for page in text.pages:
        assert "Handbook for guests and staff" not in page
        assert not re.search(r"^(Page \d+ of 20|Fifth edition)$", page, re.MULTILINE)
        assert "-\n" not in page
    assert "kilometres" in text.pages[13]  # parted at the end of a line of a narrow column


@pytest.mark.parametrize("name", FILES)
def test_every_question_has_its_evidence_in_one_passage_and_accepts_no_empty_answer(
    name: str, text: documents.Text
) -> None:
    made = passages.cut(text)
    asked = benchmark.questions(FOLDER / name)
    assert len({question.id for question in asked}) == {"questions.jsonl": 20}.get(name, 30)
    for question in asked:
        assert [one for one in made if benchmark.is_right(one, question)], question.id
        assert not benchmark.judge(question.check, "").right


def test_the_two_sets_of_questions_share_none() -> None:
    first, second = (
        {evidence for one in benchmark.questions(FOLDER / name) for evidence in one.evidence}
        for name in FILES
    )
    assert not first & second


def test_the_right_passage_is_among_those_shown_for_at_least_16_of_20(text: documents.Text) -> None:
    index = passages.Index(passages.cut(text))
    shown = 0
    for question in benchmark.questions(FOLDER / "questions.jsonl"):
        ranked = index.rank(question.question, sys.maxsize)
        # Nearly as many tokens as Qwen2.5's tokenizer gives for English prose.
        chosen = passages.fit(ranked, passages.ROOM, lambda part: 1 + len(part) // 4)
        shown += any(benchmark.is_right(one, question) for one in chosen)
    assert shown >= 16


def test_the_recipe_writes_the_handbook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from recipes.document.__main__ import main

    monkeypatch.setattr(sys, "argv", ["document", "--out", str(tmp_path / "out.pdf")])
    main()
    assert (tmp_path / "out.pdf").read_bytes() == PDF.read_bytes()
