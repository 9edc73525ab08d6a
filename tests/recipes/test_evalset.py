"""The evaluation set is what its README says: counts, splits, right references, same bytes."""

from __future__ import annotations

import gzip
import os
import re
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path
from random import Random

import pytest

sys.path.append(str(Path(__file__).parents[2]))  # after the installed package

from ondevice.files import sha256
from ondevice.runtime.evaluate.checkers import Choice, JsonEquals, JsonSchema, judge
from ondevice.runtime.evaluate.dataset import Example, read
from recipes.evalset import build, twists
from recipes.evalset.convert import roman, words

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "recipes" / "evalset"
ASKED = ("train", "threshold", "certify", "test")


@pytest.fixture(scope="module")
def splits() -> dict[str, list[Example]]:
    return {split: read(FOLDER / f"{split}.jsonl.gz") for split in build.SIZES}


@pytest.fixture(scope="module")
def items(splits: dict[str, list[Example]]) -> list[Example]:
    return [item for examples in splits.values() for item in examples]


def kind(item: Example) -> str:
    return item.template.split("/")[0]


def twist(item: Example) -> str:
    return item.id.split("-", 2)[2]


def test_the_files_have_the_committed_hashes() -> None:
    names = [f"{split}.jsonl.gz" for split in build.SIZES]
    sums = (FOLDER / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    assert sums == [f"{sha256(FOLDER / name)}  {name}" for name in names]


def test_the_generator_makes_the_same_items_again(splits: dict[str, list[Example]]) -> None:
    assert build.build() == splits


def test_another_process_with_other_hash_seeds_writes_the_same(tmp_path: Path) -> None:
    script = (
        f"import runpy, sys; sys.path.append({str(ROOT)!r}); "
        f"sys.argv[1:] = ['--out', {str(tmp_path)!r}]; "
        "runpy.run_module('recipes.evalset', run_name='__main__')"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)
    for split in build.SIZES:
        name = f"{split}.jsonl.gz"
        # Not the compressed bytes: those may differ with the version of zlib.
        assert gzip.decompress((tmp_path / name).read_bytes()) == gzip.decompress(
            (FOLDER / name).read_bytes()
        )


def test_another_seed_makes_other_items(splits: dict[str, list[Example]]) -> None:
    other = build.build(1)
    old = {item.prompt for item in splits["test"]}
    new = {item.prompt for item in other["test"]}
    assert len(old & new) < len(new) / 4


def test_the_counts_of_splits_and_tiers_are_exact(splits: dict[str, list[Example]]) -> None:
    fifths = {"easy": 2, "hard": 1.5, "edge": 0.75, "adversarial": 0.75}
    for split, size in build.SIZES.items():
        tiers = Counter(item.tier for item in splits[split])
        assert tiers == {tier: size / 5 * share for tier, share in fifths.items()}
    assert Counter(item.tier for item in splits["test"])["easy"] == 200


def test_family_and_tier_are_spread_alike_over_the_four_splits(
    splits: dict[str, list[Example]],
) -> None:
    shares = [
        {
            cell: count / build.SIZES[split]
            for cell, count in Counter((i.family, i.tier) for i in splits[split]).items()
        }
        for split in ASKED
    ]
    for cell in shares[0]:
        of_cell = [share[cell] for share in shares]
        assert max(of_cell) - min(of_cell) <= 1 / 300 + 1e-9


def test_twists_are_spread_alike_over_the_four_splits(splits: dict[str, list[Example]]) -> None:
    for split in ASKED:
        size = build.SIZES[split]
        counts = Counter(twist(item) for item in splits[split] if "-" in twist(item))
        assert len(counts) == 10
        assert min(counts.values()) >= 0.02 * size
        assert max(counts.values()) <= 0.04 * size


def test_over_long_texts_are_at_most_a_third_of_the_edge_tier(
    splits: dict[str, list[Example]],
) -> None:
    for items in splits.values():
        edge = [item for item in items if item.tier == "edge"]
        long = [item for item in items if len(item.prompt.split()) > 130]
        assert 0 < len(long) <= len(edge) / 3
        assert {twist(item) for item in long} == {"edge-long"}
        assert max(len(item.prompt.split()) for item in long) <= 600


def test_no_template_and_no_wording_of_a_question_is_in_two_splits(items: list[Example]) -> None:
    places: dict[str, set[str]] = defaultdict(set)
    for item in items:
        places[item.template].add(item.split)
        if item.split != "ood":
            places[f"{kind(item)} ask {item.template.split('/')[1][0]}"].add(item.split)
    assert all(len(found) == 1 for found in places.values())


def test_the_same_kinds_are_in_the_four_splits_and_none_of_them_in_ood(
    splits: dict[str, list[Example]],
) -> None:
    kinds = {split: {kind(item) for item in examples} for split, examples in splits.items()}
    assert kinds["train"] == kinds["threshold"] == kinds["certify"] == kinds["test"]
    assert not kinds["ood"] & kinds["train"]
    families = Counter(one.split(".")[0] for one in kinds["train"] | kinds["ood"])
    assert all(count >= 10 for count in families.values())
    assert len(families) == 7


def test_ids_and_prompts_occur_once(items: list[Example]) -> None:
    assert len({item.id for item in items}) == len(items) == 1900
    assert len({item.prompt for item in items}) == len(items)


def test_every_reference_is_right_and_has_the_form_asked_for(items: list[Example]) -> None:
    for item in items:
        verdict = judge(item.check, item.reference)
        assert verdict.right and verdict.compliant, item.id


def test_every_reference_fits_the_schema_and_its_room(items: list[Example]) -> None:
    for item in items:
        if item.schema is not None:
            assert isinstance(item.check, JsonEquals)
            assert judge(JsonSchema(item.schema), item.reference).right, item.id
        dear = sum(sign.isdigit() or not sign.isascii() for sign in item.reference)
        assert item.max_tokens >= dear + len(item.reference) // 4, item.id


def test_the_reference_of_another_item_of_the_template_is_mostly_wrong(
    items: list[Example],
) -> None:
    groups: dict[str, list[Example]] = defaultdict(list)
    for item in items:
        if not isinstance(item.check, Choice):  # of two labels, each is right half of the time
            groups[item.template].append(item)
    pairs = [(a, b) for group in groups.values() for a in group for b in group if a is not b]
    wrong = sum(not judge(a.check, b.reference).right for a, b in pairs)
    assert wrong / len(pairs) >= 0.95


def test_the_untouched_text_or_prompt_is_no_right_answer(items: list[Example]) -> None:
    for item in items:
        if item.family in ("fix", "arithmetic", "extract") and twist(item) != "edge-empty":
            echo = judge(item.check, item.prompt)
            assert not (echo.right and echo.compliant), item.id


def test_no_right_answer_is_left_to_chance_where_labels_are_given(items: list[Example]) -> None:
    """Labels are listed in random order, so that the first one is not more often right."""
    first = [
        item.check.labels[0] == item.check.answer
        for item in items
        if isinstance(item.check, Choice) and len(item.check.labels) == 2
    ]
    assert 0.35 < sum(first) / len(first) < 0.65


def test_prompts_and_answers_are_short(items: list[Example]) -> None:
    lengths = sorted(len(item.prompt.split()) for item in items if twist(item) != "edge-long")
    assert lengths[len(lengths) // 2] <= 40
    assert lengths[int(0.95 * len(lengths))] <= 80
    answers = sorted(len(item.reference) for item in items)
    assert answers[len(answers) // 2] <= 30  # characters; under 12 tokens


def test_no_slot_is_left_open_and_articles_fit(items: list[Example]) -> None:
    for item in items:
        assert not re.search(r"\{[a-z_]+\}", item.prompt), item.id
        if item.family != "fix":
            assert not re.search(r"\b[Aa] (?!eu|one|uni)[aeiou]\w", item.prompt), item.id


def test_an_empty_text_asks_for_a_defined_answer(items: list[Example]) -> None:
    empty = [item for item in items if twist(item) == "edge-empty"]
    assert len(empty) > 40
    assert all(f'"{item.reference}"' in item.prompt for item in empty)


def test_planted_card_and_account_numbers_have_right_check_digits() -> None:
    rng = Random(3)
    for _ in range(50):
        digits = [int(sign) for sign in twists.card(rng) if sign.isdigit()]
        doubled = [d if place % 2 else 2 * d for place, d in enumerate(digits)]
        assert len(digits) == 16
        assert sum(d - 9 if d > 9 else d for d in doubled) % 10 == 0
        account = twists.iban(rng).replace(" ", "")
        moved = "".join(str(int(sign, 36)) for sign in account[4:] + account[:4])
        assert len(account) == 22
        assert int(moved) % 97 == 1


def test_number_words_and_roman_numerals_can_be_read_back() -> None:
    values = dict(zip("IVXLCDM", (1, 5, 10, 50, 100, 500, 1000), strict=True))
    for value in range(1, 3000):
        digits = [values[letter] for letter in roman(value)]
        following = [*digits[1:], 0]
        read_back = sum(-d if d < f else d for d, f in zip(digits, following, strict=True))
        assert read_back == value
    assert words(4393) == "four thousand three hundred ninety-three"
    assert words(70) == "seventy"
    assert len({words(value) for value in range(10_000)}) == 10_000
