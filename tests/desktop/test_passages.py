from __future__ import annotations

import re
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ondevice.desktop import passages
from ondevice.desktop.documents import Text
from ondevice.desktop.passages import Index, Passage, cut, fit, prompt, terms
from ondevice.errors import OndeviceError

WORD_LISTS = st.lists(
    st.sampled_from(["ship", "sea.", "Port.", "\n", "\n\n", "naïve", "海。", "--"])
)


def sentences(count: int, words: int = 10) -> str:
    """A paragraph of numbered sentences."""
    return " ".join(f"S{n} {'word ' * (words - 2)}end{n}." for n in range(count))


def passage(number: int, text: str = "text", document: str = "d.txt") -> Passage:
    return Passage(document, 1, number, text)


@settings(max_examples=100)
@given(st.lists(WORD_LISTS.map(" ".join), min_size=1, max_size=4))
def test_every_word_is_in_a_passage_and_in_order(pages: list[str]) -> None:
    made = cut(Text("d", tuple(pages)), 6, overlap=0)
    shown = " ".join(one.text for one in made).split()
    assert "".join(shown) == "".join(" ".join(pages).split())
    assert [one.number for one in made] == list(range(1, len(made) + 1))
    assert all(1 <= one.page <= len(pages) for one in made)
    assert [one.page for one in made] == sorted(one.page for one in made)


@pytest.mark.parametrize("most", [20, 80, 200])
def test_no_passage_is_longer_than_it_may_be(most: int) -> None:
    text = f"{sentences(40)}\n\n{sentences(3)}\n\n{'word ' * 1000}"
    assert all(len(one.text.split()) <= most for one in cut(Text("d", (text,)), most))


def test_a_passage_ends_with_a_sentence_and_the_next_one_repeats_it() -> None:
    first, second, *_ = cut(Text("d", (sentences(20),)), 50, overlap=10)
    assert first.text.endswith("end4.")
    assert second.text.startswith("S4 ") and second.text.endswith("end8.")


def test_a_long_sentence_is_not_repeated() -> None:
    _, second, *_ = cut(Text("d", (sentences(20),)), 50, overlap=9)
    assert second.text.startswith("S5 ")


def test_a_passage_ends_with_a_paragraph_where_it_can_and_repeats_nothing() -> None:
    first, second = cut(Text("d", (f"{sentences(4)}\n\n{sentences(3)}",)), 50, overlap=10)
    assert first.text == sentences(4)
    assert second.text == sentences(3)


def test_short_paragraphs_share_a_passage() -> None:
    (only,) = cut(Text("d", ("One.\n\nTwo.\n\nThree.",)), 50)
    assert only.text == "One.\n\nTwo.\n\nThree."


def test_a_sentence_that_goes_on_over_the_page_is_whole_and_counts_for_its_first_page() -> None:
    pages = (f"{sentences(5)} It begins here", "and ends here. More.")
    made = cut(Text("d", pages), 50, overlap=0)
    assert made[-1].text == "It begins here and ends here. More."
    assert [one.page for one in made] == [1, 1]


def test_a_passage_says_on_which_page_its_new_part_begins() -> None:
    pages = tuple(sentences(5) for _ in range(3))
    assert [one.page for one in cut(Text("d", pages), 50)] == [1, 2, 3]


def test_code_is_cut_at_lines_and_keeps_its_spaces() -> None:
    code = "\n".join(f"def f{n}(x):\n    return x + {n}" for n in range(100))
    made = cut(Text("a.py", (code,)), 30, overlap=0)
    assert len(made) > 5
    assert "\n    return x + 0\n" in made[0].text
    assert "\n".join(one.text for one in made).count("return") == 100


@pytest.mark.parametrize("text", ["x" * 100_000, "-" * 100_000, "海" * 100_000, "a, " * 50_000])
def test_text_without_sentences_or_spaces_is_cut_all_the_same(text: str) -> None:
    made = cut(Text("d", (text,)), 80)
    assert max(len(one.text) for one in made) <= 880
    assert sum(len(one.text) for one in made) >= 0.6 * len(text)


def test_a_document_without_words_has_no_passages() -> None:
    assert cut(Text("d", ("", "\n\n"))) == ()
    assert Index(()).rank("anything?", 3) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("OBSERVING", "observed"),
        ("Café", "cafe\u0301s"),
        ("Kabelbahn", "Seilbahnen"),
        ("Straße", "STRASSE"),
        ("東京都", "東京"),
        ("हिन्दी", "हिन्दी।"),
    ],
)
def test_forms_of_a_word_share_terms(one: str, other: str) -> None:
    assert set(terms(one)) & set(terms(other))


def test_words_that_only_begin_alike_do_not_share_terms() -> None:
    assert not set(terms("care")) & set(terms("cart"))
    assert terms("a 18.20 -- _") == ["a", "18", "20"]


DOCUMENT = {
    1: "The harbour master decides when the bridge is raised.",
    2: "Lunch is served from noon; vegetarians are catered for.",
    3: "Tickets are sold on board.",
    4: "Der Leuchtturmwärter wohnt auf der Insel.",
    5: "灯台守は島に住んでいる。",
}


@pytest.mark.parametrize(
    ("question", "right"),
    [
        ("Who raises bridges?", 1),
        ("is there a vegetarian lunch", 2),
        ("Where do I buy a ticket?", 3),
        ("Wo wohnen die Leuchtturmwärter?", 4),
        ("灯台守はどこに？", 5),
    ],
)
def test_the_passage_that_answers_is_ranked_first(question: str, right: int) -> None:
    index = Index([passage(number, text) for number, text in DOCUMENT.items()])
    best, second = index.rank(question, 2)
    assert best.number == right
    assert best.score > second.score >= 0


def test_a_question_that_shares_no_word_gives_the_beginning() -> None:
    ranked = Index([passage(n, text) for n, text in DOCUMENT.items()]).rank("?? xyzzy", 2)
    assert [(one.number, one.score) for one in ranked] == [(1, 0.0), (2, 0.0)]


@settings(max_examples=30, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=6), st.text(max_size=40), st.integers(0, 8))
def test_ranking_takes_any_text_and_returns_at_most_what_was_asked_for(
    texts: list[str], question: str, most: int
) -> None:
    ranked = Index([passage(n, text) for n, text in enumerate(texts)]).rank(question, most)
    assert len(ranked) == min(most, len(texts))
    assert [one.score for one in ranked] == sorted((one.score for one in ranked), reverse=True)


def test_ranking_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    Index([passage(n, text) for n, text in DOCUMENT.items()]).rank("lunch", 2)
    assert capfd.readouterr() == ("", "")


def test_without_bm25s_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bm25s", None)
    with pytest.raises(OndeviceError, match=r'pip install "ondevice\[desktop\]"'):
        Index([passage(1)])


def count(text: str) -> int:
    return len(re.findall(r"\S+", text))


def test_the_best_passages_that_fit_are_shown_in_reading_order() -> None:
    ranked = [passage(number, "word " * 20) for number in (7, 2, 9, 1)]
    around = count(prompt("", ()))
    assert [one.number for one in fit(ranked, around + 80, count)] == [2, 7, 9]
    assert fit(ranked, around + 10, count) == ()
    assert fit((), 1_000, count) == ()


def test_a_passage_that_does_not_fit_gives_its_place_to_no_worse_one() -> None:
    ranked = [passage(3, "word " * 20), passage(1, "word " * 500), passage(2, "word")]
    assert [one.number for one in fit(ranked, 100, count)] == [3]


def test_passages_of_a_document_stay_together() -> None:
    ranked = [passage(2, document="b"), passage(5, document="a"), passage(1, document="b")]
    chosen = fit(ranked, 1_000, count)
    assert [(one.document, one.number) for one in chosen] == [("a", 5), ("b", 1), ("b", 2)]


@settings(max_examples=30)
@given(st.lists(st.integers(1, 60), max_size=8), st.integers(0, 300))
def test_the_prompt_is_never_longer_than_the_room(sizes: list[int], room: int) -> None:
    ranked = [passage(number, "w " * size) for number, size in enumerate(sizes)]
    chosen = fit(ranked, room, count)
    assert not chosen or count(prompt("", chosen)) <= room


def test_the_prompt_has_the_passages_with_their_pages_and_ends_with_the_question() -> None:
    said = prompt("When is lunch?", [Passage("menu.pdf", 4, 2, "Lunch is at noon.")])
    assert "[menu.pdf, page 4]\nLunch is at noon.\n" in said
    assert said.endswith("Question: When is lunch?")
    assert passages.WORDING.before in said
