from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ondevice.errors import OndeviceError
from ondevice.runtime.cloud.detectors import find
from ondevice.runtime.cloud.redact import CLASSES, Redactor, StreamRestorer
from recipes.personal_data import Sample, clean, planted

REDACTOR = Redactor()
PLANTED = planted(400, seed=5)
TOKEN = "ghp_" + "a1B2" * 9

# Text as people and machines write it, and what trips up a redactor: its own placeholders,
# in every form that restoring understands, and pieces of them.
OWN = ["[EMAIL_1]", "email_1", "[Key_2]", r"\[PHONE\_1\]", "[IBAN_", "CARD_1]", "EMAIL_01", "_1"]
NEAR = ["[", "]", "\\", "KEY_" + "9" * 40, " ", "\n", "password = ", "Tel. ", '"', "x"]
VALUES = [item.value for sample in PLANTED for item in sample.items]
pieces = st.text(max_size=12) | st.sampled_from(VALUES) | st.sampled_from([*OWN, *NEAR])
texts = st.lists(pieces, max_size=8).map("".join)


@settings(max_examples=60)
@given(texts)
def test_what_was_hidden_comes_back_exactly(text: str) -> None:
    hidden = REDACTOR.hide(text)
    assert REDACTOR.restore(hidden.text, hidden.found) == text


@settings(max_examples=60)
@given(st.lists(texts, min_size=1, max_size=4))
def test_several_texts_hidden_together_come_back_exactly(several: list[str]) -> None:
    hidden = REDACTOR.hide_all(several)
    restored = [REDACTOR.restore(one.text, one.found) for one in hidden]
    assert restored == several


@settings(max_examples=60)
@given(texts, st.data())
def test_a_stream_cut_anywhere_gives_what_the_whole_text_gives(
    text: str, data: st.DataObject
) -> None:
    hidden = REDACTOR.hide(text)
    answer = hidden.text + data.draw(texts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(answer)), max_size=8)))
    stream = StreamRestorer(hidden.found)
    edges = [0, *cuts, len(answer)]
    out = [stream.push(answer[a:b]) for a, b in pairwise(edges)]
    assert "".join(out) + stream.finish() == REDACTOR.restore(answer, hidden.found)


@pytest.mark.parametrize("sample", PLANTED[:150], ids=range(150))
def test_nothing_found_is_left_in_the_hidden_text(sample: Sample) -> None:
    hidden = REDACTOR.hide(sample.text)
    assert hidden.found
    assert not [value for value in hidden.found.values() if value in hidden.text]


def test_look_alikes_stay_as_they_are() -> None:
    samples = clean(600, seed=5)
    changed = [s.text for s in samples if REDACTOR.hide(s.text).text != s.text]
    assert len(changed) <= 3, changed


def test_planted_items_are_found() -> None:
    missed = []
    for sample in PLANTED:
        covered = {place for m in find(sample.text) for place in range(m.start, m.end)}
        missed += [i.value for i in sample.items if not set(range(i.start, i.end)) <= covered]
    assert len(missed) <= 2, missed


@given(st.text(alphabet="abcdefghij klmnop.,;!?äöü\n"))
def test_text_without_digits_and_at_signs_is_never_changed(text: str) -> None:
    assert REDACTOR.hide(text).text == text


def test_equal_values_get_equal_placeholders_across_texts() -> None:
    first, second = REDACTOR.hide_all(["Mail a@b.de and c@d.de", "No, c@d.de"])
    assert first.text == "Mail [EMAIL_1] and [EMAIL_2]"
    assert second.text == "No, [EMAIL_2]"
    assert (first.counts, second.counts) == ({"email": 2}, {"email": 1})


def test_a_placeholder_that_the_text_holds_already_is_not_used() -> None:
    hidden = REDACTOR.hide("What is [email_1]? Mail a@b.de")
    assert hidden.text == "What is [email_1]? Mail [EMAIL_2]"


def test_a_password_is_hidden_where_nothing_announces_it_too() -> None:
    hidden = REDACTOR.hide("password: S0mmer2024\nI typed S0mmer2024 and it failed.")
    assert "S0mmer2024" not in hidden.text
    assert hidden.counts == {"key": 2}


def test_a_short_password_does_not_tear_up_words() -> None:
    hidden = REDACTOR.hide('password = "test"\ntest the testing')
    assert hidden.text == 'password = "[KEY_1]"\n[KEY_1] the testing'


def test_where_classes_overlap_the_higher_one_names_the_find() -> None:
    hidden = REDACTOR.hide("postgres://app:S0mmer2024@db.example.org/shop")
    assert hidden.text == "postgres://app:[KEY_1]@db.example.org/shop"


@pytest.mark.parametrize(
    "answer",
    [
        "to [EMAIL_1].",
        "to [email_1].",
        "to EMAIL_1.",
        "to Email_1.",
        r"to \[EMAIL\_1\].",
        r"to EMAIL_1.",
    ],
)
def test_an_answer_may_change_case_drop_brackets_or_escape_them(answer: str) -> None:
    assert REDACTOR.restore(answer, {"[EMAIL_1]": "a@b.de"}) == "to a@b.de."


@pytest.mark.parametrize(
    "answer", ["[EMAIL_2]", "EMAIL_11", "MYEMAIL_1", "EMAIL_1_2", "[EMAIL 1]", "[EMAIL_01]"]
)
def test_what_is_no_known_placeholder_stays(answer: str) -> None:
    assert REDACTOR.restore(answer, {"[EMAIL_1]": "a@b.de"}) == answer


def test_originals_are_escaped_for_json() -> None:
    found = {"[KEY_1]": 'a"b\\c\nd'}
    restored = REDACTOR.restore('{"k": "[KEY_1]"}', found, json=True)
    assert json.loads(restored) == {"k": 'a"b\\c\nd'}


def test_only_the_chosen_classes_are_hidden() -> None:
    only = Redactor(["iban"])
    assert only.hide("a@b.de DE89370400440532013000").text == "a@b.de [IBAN_1]"


def test_an_unknown_class_is_refused() -> None:
    with pytest.raises(OndeviceError, match="'name' is no class"):
        Redactor(["email", "name"])


def test_the_originals_are_not_shown() -> None:
    assert "a@b.de" not in repr(REDACTOR.hide("Mail a@b.de"))


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("IBAN de89 3704 0044 0532 0130 00 bei", "iban", "de89 3704 0044 0532 0130 00"),
        ("4111 1111 1111 1111 5555 5555 5555 4444", "card", "4111 1111 1111 1111"),
        ("pay 378282246310005 now", "card", "378282246310005"),
        (f"git push {TOKEN}", "key", TOKEN),
        ("Tel. 0171/1234567 12:30", "phone", "0171/1234567"),
        ("+49 (0)89 123456", "phone", "+49 (0)89 123456"),
        ("邮箱是li@example.cn。", "email", "li@example.cn"),
        ("'o.b@example.com'", "email", "o.b@example.com"),
    ],
)
def test_a_find_is_neither_longer_nor_shorter_than_what_is_there(
    text: str, kind: str, value: str
) -> None:
    first = find(text)[0]
    assert (first.kind, text[first.start : first.end]) == (kind, value)


@pytest.mark.parametrize(
    "text",
    [
        "DE89 3704 0044 0532 0130 01",  # a digit off
        "4111 1111 1111 1112",
        "git@github.com:python/cpython.git",
        "the 14.03.2025 10:30",
        "+1.234.567",
        "password == confirm",
        "password: required",
        "api_key = os.environ['KEY1']",
    ],
)
def test_what_only_looks_like_it_is_not_found(text: str) -> None:
    assert find(text) == []


def test_every_class_can_be_found() -> None:
    assert {m.kind for s in PLANTED for m in find(s.text)} == set(CLASSES)
