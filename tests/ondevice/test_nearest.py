from __future__ import annotations

from ondevice.nearest import closest, nearest


def test_a_slip_of_the_pen_names_what_was_meant() -> None:
    assert closest("promt", ["id", "prompt"]) == "prompt"
    assert nearest("promt", ["id", "prompt"]) == "did you mean 'prompt'?"


def test_a_word_like_no_other_names_them_all_in_their_order() -> None:
    assert closest("x", ["id", "prompt"]) is None
    assert nearest("x", ["prompt", "id"]) == "known: prompt, id"
    assert nearest("x", []) == "known: none"
