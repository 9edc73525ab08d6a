from __future__ import annotations

from benchmarks import redaction
from recipes.personal_data import CLASSES, LANGUAGES, clean, hand_written, planted


def test_every_item_stands_where_it_is_said_to_stand() -> None:
    samples = [*planted(300, seed=1), *hand_written()]
    for sample in samples:
        for item in sample.items:
            assert sample.text[item.start : item.end] == item.value
            assert item.value


def test_a_seed_gives_the_same_texts_and_another_gives_others() -> None:
    assert planted(60, seed=3) == planted(60, seed=3) != planted(60, seed=4)
    assert clean(60, seed=3) == clean(60, seed=3) != clean(60, seed=4)


def test_the_classes_are_planted_in_equal_shares_and_in_all_languages() -> None:
    samples = planted(500, seed=2)
    kinds = [item.kind for sample in samples for item in sample.items]
    assert {kinds.count(kind) for kind in CLASSES} <= {100, 101}
    assert {sample.source for sample in samples} == set(LANGUAGES)
    assert len(LANGUAGES) >= 5


def test_no_field_of_a_template_is_left_unfilled() -> None:
    for sample in planted(300, seed=1):
        assert "{x}" not in sample.text and "{name}" not in sample.text
    for sample in clean(600, seed=1):
        assert "{d" not in sample.text and "{D" not in sample.text


def test_the_benchmark_reports_recall_and_damage_within_the_target() -> None:
    figures = redaction.run(items=500, texts=300, seed=9)
    assert figures["recall"] >= 0.99
    assert figures["other_text_changed"] <= 0.005
    assert figures["clean_characters_changed"] <= 0.005
    assert figures["restored_exactly"] == 1.0
    assert figures["by_hand"]["items"] == figures["by_hand"]["at_first_sight"]["items"]
    assert figures["by_hand"]["clean_texts"] == figures["by_hand"]["at_first_sight"]["clean_texts"]
