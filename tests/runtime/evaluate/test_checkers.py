"""Every kind of check accepts right answers as models phrase them, and no wrong ones."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondevice.errors import RequestError
from ondevice.runtime.evaluate.checkers import (
    F1,
    KINDS,
    Check,
    Choice,
    Contains,
    CsvEquals,
    Exact,
    JsonEquals,
    JsonSchema,
    Judged,
    Numeric,
    Regex,
    RougeL,
    from_json,
    judge,
    to_json,
)

PERSON = JsonEquals({"name": "Ann Lee", "age": 40})
SCHEMA = JsonSchema(
    {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
)
MILES = Numeric(5, units=("miles", "mile"))
LABEL = Choice("not urgent", ("urgent", "not urgent"))
RIGHT: list[tuple[Check, str]] = [
    (Exact(("Paris",)), "paris"),
    (Exact(("Paris",)), '**"Paris."**'),
    (Exact(("Paris",)), "Answer: Paris"),
    (Exact(("Paris",)), "```\nParis\n```"),
    (Exact(("Paris",)), "Paris\n\nIt is the capital of France."),
    (Exact(("the cat", "a cat")), "A  cat"),
    (Exact(("Don’t go",)), "don't go."),
    (Exact(("On Monday we saw Ann.",), case=True), "On Monday we saw Ann."),
    (Contains(all=("red", "blue")), "Blue and red."),
    (Contains(any=("14:30", "2:30 pm"), none=("15:00",)), "It opens at 14:30."),
    (Contains(none=("secret",)), "nothing"),
    (Regex(r"^\d{4}-\d\d$", full=True), " 2024-05\n"),
    (Regex(r"\bB\b"), "The answer is B."),
    (SCHEMA, 'Here: ```json\n{"age": 3}\n```'),
    (PERSON, '{"name": "ann lee", "age": 40.0}'),
    (PERSON, 'Sure! ```json\n{"age": 40, "name": "Ann Lee"}\n``` Anything else?'),
    (JsonEquals([1, 2]), "[1, 2]"),
    (JsonEquals({"a": {"b": [True, None]}}), '{"a": {"b": [true, null]}}'),
    (Numeric(7.5), "2.5 + 5 = 7.50"),
    (Numeric(1200), "$1,200.00"),
    (Numeric(-40), "−40"),
    (Numeric(3.14159, tolerance=0.01), "about 3.14"),
    (MILES, "5 miles"),
    (MILES, "That's 5 in all"),
    (LABEL, "This is **not urgent**, nothing urgent about it."),
    (F1(("the red house",), 0.8), "a red house the"),
    (RougeL(("one two three four",), 0.8), "one two or three four"),
    (CsvEquals("Ann,40\nBob,3"), "```csv\nann, 40\nBob,3\n```"),
]
WRONG: list[tuple[Check, str]] = [
    (Exact(("Paris",)), "Paris or London"),
    (Exact(("Paris",)), ""),
    (Exact(("On Monday we saw Ann.",), case=True), "on Monday we saw Ann."),
    (Exact(("don't go",)), "dont go"),
    (Contains(all=("red", "blue")), "red"),
    (Contains(all=("red",)), "hundred"),
    (Contains(any=("14:30",), none=("15:00",)), "14:30 or 15:00"),
    (Regex(r"\d+", full=True), "12 apples"),
    (Regex("a"), "a" * 2_001),
    (SCHEMA, '{"age": "three"}'),
    (SCHEMA, "no JSON at all {"),
    (PERSON, '{"name": "Ann Lee", "age": 41}'),
    (PERSON, '{"name": "Ann Lee"}'),
    (PERSON, '{"name": "Ann Lee", "age": 40, "city": "Rome"}'),
    (JsonEquals({"a": 1}), '{"a": true}'),
    (JsonEquals([1, 2]), "[2, 1]"),
    (Numeric(7.5), "75"),
    (Numeric(7.5), "seven and a half"),
    (Numeric(7.5), "7.5 or perhaps 8"),
    (Numeric(20240305), "2024.03.05"),
    (MILES, "5 km"),
    (LABEL, "urgent"),
    (LABEL, "It is not clear"),
    (F1(("the red house",), 0.8), "the blue house"),
    (RougeL(("one two three four",), 0.8), "four three two one"),
    (CsvEquals("Ann,40\nBob,3"), "name,age\nAnn,40\nBob,3"),
    (CsvEquals("Ann,40"), '"Ann'),
    (Judged("polite"), "Dear Sir"),
]


@pytest.mark.parametrize(("check", "answer"), RIGHT)
def test_a_right_answer_is_right_however_it_is_dressed(check: Check, answer: str) -> None:
    assert judge(check, answer).right


@pytest.mark.parametrize(("check", "answer"), WRONG)
def test_a_wrong_answer_is_wrong(check: Check, answer: str) -> None:
    assert not judge(check, answer).right


def test_every_kind_of_check_has_a_right_and_a_wrong_answer_here() -> None:
    assert {type(check) for check, _ in RIGHT} == set(KINDS.values()) - {Judged}
    assert {type(check) for check, _ in WRONG} == set(KINDS.values())


@pytest.mark.parametrize(
    ("check", "plain", "chatty"),
    [
        (Exact(("Paris",)), "Rome", "Paris\nIt is large."),
        (Contains(any=("Paris",), words=3), "in Rome", "The capital of France is Paris."),
        (PERSON, '{"name": "?"}', 'Here it is: {"name": "Ann Lee", "age": 40}'),
        (SCHEMA, '```json\n{"age": "x"}\n```', 'Well, {"age": 3}'),
        (Numeric(7), "$8.00", "It is 7"),
        (MILES, "6 miles", "It is 5 miles"),
        (LABEL, "Urgent.", "I would say not urgent"),
        (Regex(r"\d+", full=True), "12", "12 apples"),
        (CsvEquals("Ann,40"), "Bob,41", "Here you are:\nAnn,40"),
        (F1(("a b",)), "c d", "a\nb"),
        (RougeL(("a b",)), "c d", "a\nb"),
    ],
)
def test_form_is_judged_apart_from_being_right(check: Check, plain: str, chatty: str) -> None:
    assert judge(check, plain).compliant
    assert not judge(check, chatty).compliant


def test_the_score_counts_the_fields_that_agree() -> None:
    assert judge(PERSON, '{"name": "Ann Lee", "age": 41}').score == 0.5
    assert judge(PERSON, '{"name": "Ann Lee", "age": 40}').score == 1.0
    assert judge(PERSON, "nothing").score == 0.0
    assert judge(Contains(all=("a", "b", "c", "d")), "a b c").score == 0.75
    assert judge(F1(("a b c d",)), "a b").score == pytest.approx(2 / 3)


WORDS = st.text(min_size=1, max_size=12)
SEVERAL = st.lists(WORDS, min_size=1, max_size=3).map(tuple)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
CHECKS: st.SearchStrategy[Check] = st.one_of(
    st.builds(Exact, SEVERAL, st.booleans()),
    st.builds(Contains, SEVERAL, SEVERAL, SEVERAL, st.integers(0, 9)),
    st.builds(Regex, st.sampled_from([r"\d+", "a|b", r"x{2}\s*y"]), st.booleans()),
    st.builds(JsonSchema, st.just(SCHEMA.schema)),
    st.builds(JsonEquals, st.dictionaries(WORDS, VALUES, max_size=3) | st.lists(VALUES)),
    st.builds(Numeric, FINITE, FINITE, SEVERAL),
    SEVERAL.map(lambda labels: Choice(labels[0], labels)),
    st.builds(F1, SEVERAL, FINITE),
    st.builds(RougeL, SEVERAL, FINITE),
    st.builds(CsvEquals, WORDS),
)


@given(CHECKS)
def test_a_check_survives_being_written_as_json(check: Check) -> None:
    again = from_json(json.loads(json.dumps(to_json(check))))
    assert again == check
    assert type(again) is type(check)


@given(CHECKS, st.text(max_size=200))
def test_no_answer_makes_the_judge_fail(check: Check, answer: str) -> None:
    verdict = judge(check, answer)
    assert 0.0 <= verdict.score <= 1.0
    assert verdict.score == 1.0 or not (verdict.right and isinstance(check, JsonEquals))


@pytest.mark.parametrize("answer", ["[" * 100_000, "{" * 5_000 + "1" * 5_000, "9" * 5_000, "٣٤"])
@pytest.mark.parametrize("check", [PERSON, SCHEMA, Numeric(3), CsvEquals("a,b")])
def test_a_monstrous_answer_is_only_wrong(check: Check, answer: str) -> None:
    assert not judge(check, answer).right


@given(st.dictionaries(WORDS, VALUES, min_size=1, max_size=4))
def test_a_json_answer_equals_itself(value: dict[str, Any]) -> None:
    assert judge(JsonEquals(value), f"```json\n{json.dumps(value)}\n```").right


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("exact", "a JSON object with a kind"),
        ({"kind": "exakt", "answers": ["a"]}, "did you mean 'exact'?"),
        ({"answers": ["a"]}, "no kind of check None"),
        ({"kind": "exact"}, "needs 'answers'"),
        ({"kind": "exact", "answer": ["a"]}, "did you mean 'answers'?"),
        ({"kind": "exact", "answers": []}, "at least one answer"),
        ({"kind": "exact", "answers": [1]}, "exact.answers has to be a list of texts, not [1]"),
        ({"kind": "exact", "answers": ["a"], "case": 1}, "true or false"),
        ({"kind": "numeric", "value": "7"}, "numeric.value has to be a number, not '7'"),
        ({"kind": "numeric", "value": float("nan")}, "a number"),
        ({"kind": "numeric", "value": True}, "a number"),
        ({"kind": "contains"}, "needs phrases"),
        ({"kind": "contains", "all": ["a"], "words": 1.5}, "a whole number"),
        ({"kind": "choice", "answer": "c", "labels": ["a", "b"]}, "none of choice.labels"),
        ({"kind": "json_schema", "schema": {"type": "objekt"}}, "is no JSON schema"),
        ({"kind": "json_schema", "schema": []}, "has to be JSON"),
        ({"kind": "regex", "pattern": "("}, "is no pattern"),
        ({"kind": "regex", "pattern": "x" * 501}, "longer than 500"),
    ],
)
def test_a_check_that_cannot_be_is_refused_in_one_line(data: Any, words: str) -> None:
    with pytest.raises(RequestError) as caught:
        from_json(data)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("pattern", ["(a+)+$", "(a|a)*$", "((a+)b?)+", "(?:x*y*){2,}", r"(\w+)*!"])
def test_a_pattern_that_could_take_forever_is_refused(pattern: str) -> None:
    with pytest.raises(RequestError, match="take forever"):
        from_json({"kind": "regex", "pattern": pattern})


@pytest.mark.parametrize("pattern", [r"(ab)+", r"[(+]*\)+", r"(a|b){3}", r"\(x+\)+", r"(\d\d:){2}"])
def test_a_harmless_pattern_is_taken(pattern: str) -> None:
    assert from_json({"kind": "regex", "pattern": pattern}) == Regex(pattern)
