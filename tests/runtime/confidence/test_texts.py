from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondevice.runtime.confidence import texts


def named(prompt: str, text: str) -> dict[str, float]:
    return dict(zip(texts.NAMES, texts.text_features(prompt, text).tolist(), strict=True))


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_text_has_finite_features(prompt: str, text: str) -> None:
    found = texts.text_features(prompt, text)
    assert found.shape == (len(texts.NAMES),) and np.isfinite(found).all()


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_any_json_has_finite_features(value: object) -> None:
    import json

    assert np.isfinite(texts.text_features("a prompt", json.dumps(value))).all()


def test_words_and_numbers_are_looked_up_in_the_prompt() -> None:
    found = named("Pay 12 to Ann", "Ann paid 12 12")
    assert found["words_from_prompt"] == 0.75 and found["numbers_from_prompt"] == 1
    assert found["new_words"] == pytest.approx(np.log(2))
    assert found["repeated"] == 0.25 and found["digits"] == pytest.approx(4 / 14)
    assert found["prompt_numbers"] == pytest.approx(np.log(2))


def test_the_form_of_an_answer_is_told() -> None:
    assert named("How much?", "-$1,200.50")["is_number"] == 1
    assert named("How much?", "12 dollars")["is_number"] == 0
    assert named("Who?", "Ann did it.")["is_sentence"] == 1
    assert named("Who?", "ann")["is_sentence"] == 0
    assert named('Say "not given" if it is not there.', "Not given.")["is_quoted"] == 1
    assert named("Say not given if it is not there.", "Not given.")["is_quoted"] == 0
    assert named("Ann is here", "ann")["copy"] == 1
    assert named("Mend it. We was here. Bye.", "We were here.")["like_a_sentence"] == 0.5


def test_json_is_compared_with_the_prompt_value_by_value() -> None:
    prompt = "Give name, price and stock as JSON: the lamp costs 21.50, 3 left"
    found = named(prompt, '```json\n{"name": "lamp", "price": 21.5, "stock": 4}\n```')
    assert found["json"] == 1 and found["json_depth"] == 1
    assert found["values_from_prompt"] == pytest.approx(2 / 3)
    assert found["keys_from_prompt"] == 1
    nested = named(prompt, '{"thing": {"name": "Lamp"}}')
    assert nested["json_depth"] == 2 and nested["values_from_prompt"] == 0
    assert nested["keys_from_prompt"] == 0.5
    assert named(prompt, '{"price": 1}')["values_from_prompt"] == 0  # not the 1 in 21


@pytest.mark.parametrize("text", ["{", "[" * 9999, '{"a": 1', "no JSON", "[1e999, -1e999]"])
def test_what_only_looks_like_json_is_no_error(text: str) -> None:
    assert np.isfinite(texts.text_features("prompt", text)).all()
