"""The checkers: every task accepts right answers as models phrase them, and no wrong ones."""

from __future__ import annotations

import itertools
import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.append(str(Path(__file__).parents[2]))  # after the installed package

from benchmarks.checks import json_object, label, number, says
from benchmarks.prompts import PROMPTS
from benchmarks.tasks import Prompt

# One right answer per task, by kind in the order of its cases.
RIGHT: dict[str, list[str]] = {
    "json-person": [
        '```json\n{"name": "Maria Lopez", "city": "Lisbon"}\n```',
        'Here it is: {"city": "Hamburg", "name": "Tom Becker"}',
    ],
    "json-order": ['{"item": "lamps", "quantity": 3}', '{"item": "Pencils", "quantity": "12"}'],
    "json-list": ['["apples", "pears"]', '```\n["cherries",\n "plums"]\n```'],
    "json-stock": [
        '{"product": "kettle", "price": 24.50, "in_stock": true}',
        '{"product": "toaster", "price": 39, "in_stock": false}',
    ],
    "iso-date": ["2021-03-05", "It is 1998-10-17.", "**2030-07-01**"],
    "email": ["anna.k@example.org", "The address is returns@shop.example."],
    "phone": ["555-0199"],
    "time": ["It begins at 19:30.", "9:00 a.m."],
    "price": ["14 euros", "8.50"],
    "order-number": ["The order number is 88213.", "A-5540"],
    "colours": ["1. Red\n2. Green"],
    "sentiment": ["Negative", "The review is positive.", "Neutral.", "negative"],
    "topic": ["Sports", "politics", "The topic is science.", "Cooking"],
    "spam": ["Yes.", "No, it is not."],
    "language": ["French", "It is German.", "Italian"],
    "urgent": ["Urgent", '"not urgent"'],
    "speech-act": ["Question", "a request", "Complaint."],
    "animal-plant-object": ["Plant", "It is an object.", "animal"],
    "tone": ["informal", "Formal."],
    "capital": ["Paris", "The capital is Tokyo.", "Ottawa"],
    "continent": ["Kenya is in Africa.", "South America"],
    "how-many": ["7", "A spider has 8 legs.", "6"],
    "young": ["Kitten", "A young dog is called a puppy.", "calf", "A lamb."],
    "symbol": ["O", 'The symbol of gold is "Au".'],
    "currency": ["The Japanese yen (¥)", "the euro"],
    "mixing": ["Green", "You get pink."],
    "planet": ["Mercury", "Jupiter"],
    "tool": ["A hammer", "thermometer", "Microscope"],
    "inventor": ["William Shakespeare", "Leonardo da Vinci"],
    "read-who": ["Peter"],
    "read-party": ["She will be 60 years old.", "At the Blue Lantern.", "Lucy brings flowers."],
    "read-trip": ["Norway", "sixteen days", "Because the engine was losing oil."],
    "read-plants": ["The orchid.", "Once a month"],
    "read-hours": ["No", "Yes, it is.", "no."],
    "read-larger": ["Ben", "Emil"],
    "title": ["C", "A) Cooking rice", "The answer is B."],
    "correct": [
        "She goes to school every day.",
        "He doesn’t like coffee.",
        "Corrected: Yesterday, I saw a film.",
        "There are three cats in the garden.",
    ],
    "spelling": [
        "I received your letter.",
        "The **weather** is nice today.",
        "This is definitely my coat.",
    ],
    "plural": ['The plural is "children".', "mice"],
    "past": ["went", "The simple past is 'wrote'."],
    "article": ["an apple", "A bicycle"],
    "gap": ["The opposite of hot is **cold**.", "My mother's sister is my aunt."],
    "capitals": ["My brother lives in London.", "On Monday, we met Anna."],
    "convert": ["3,000 metres", "2 hours = 120 minutes", "5000", "21", "2.5 m"],
    "clock": ["15:00", "21:45", "19:15"],
    "add": ["17 + 25 = 42", "84", "The sum is 402."],
    "subtract": ["56", "23"],
    "multiply": ["7 times 8 is 56.", "210"],
    "divide": ["12", "2.5"],
    "percent": ["10% of 250 is 25.", "20", "34"],
    "word-problem": ["7", "$36", "4", "30", "16 people"],
    "change": ["3", "7.50 euros"],
    "larger": ["354", "0.7"],
    "parity": ["Odd", "114 is an even number."],
    "sequence": ["10", "The next number is 25.", "32"],
    "digits": ["47", "312"],
    "python-output": ["11", "4", "ababab", "3"],
    "python-method": ["`lower()`", "str.strip()"],
    "python-function": [
        "```python\ndef add(a, b):\n    return a + b\n```",
        "def square(x):\n    return x ** 2",
        "def is_even(n): return n % 2 == 0",
    ],
    "sql": ["SELECT * FROM users;", "SELECT name FROM customers\nWHERE city = 'Rome';"],
    "shell": ["`ls`", "pwd", "cp", "mkdir"],
    "html": ["The `<a>` tag", "<img>"],
    "which-language": ["Rust", "Java", "It is SQL."],
    "big-o": ["O(log n)", "It takes O(n)."],
    "upper": ["GOOD MORNING", "EXIT"],
    "reverse": ["tac", "p-m-a-l"],
    "letters": ["4", "6"],
    "sort": ["apple, melon, pear", "1. autumn\n2. spring\n3. summer\n4. winter"],
    "replace": ["The horse sleeps in the barn.", '"My green scarf is new."'],
    "join": ["mother-in-law", "north-south-line"],
    "last-word": ["noon", "The last word is 'ducks'."],
    "initials": ["N.T.", "PQ"],
    "to-french": ['"Merci"', "La maison"],
    "to-spanish": ["agua", "Buenos días"],
    "to-german": ["Hund", "das Brot"],
    "to-english": ["It means school.", "cat"],
    "antonym": ["Small", "late", "full"],
    "odd-one-out": ["Chair", "sandwich"],
    "category": ["Colors", "Instruments"],
    "list": ["apples, bananas and oranges", "1. France\n2. Italy\n3. Spain"],
    "in-order": ["January, February, March", "Spring, summer, autumn, winter"],
    "yes-no": ["Yes.", "No, it cannot.", "Yes", "no"],
}

BY_KIND = defaultdict(list)
for _prompt in PROMPTS:
    BY_KIND[_prompt.id.rpartition("-")[0]].append(_prompt)
ANSWERS = {
    prompt.id: right
    for kind, prompts in BY_KIND.items()
    for prompt, right in zip(prompts, RIGHT[kind], strict=True)
}


def test_there_are_200_different_tasks_of_at_least_60_kinds() -> None:
    assert len(PROMPTS) == 200
    assert len({prompt.id for prompt in PROMPTS}) == 200
    assert len({prompt.text for prompt in PROMPTS}) == 200
    assert len(BY_KIND) >= 60
    assert all("{" not in prompt.text for prompt in PROMPTS if "println" not in prompt.text)


@pytest.mark.parametrize("prompt", PROMPTS, ids=lambda prompt: prompt.id)
def test_a_task_accepts_its_right_answer_and_no_empty_or_evasive_one(prompt: Prompt) -> None:
    assert prompt.check(ANSWERS[prompt.id])
    assert not prompt.check("")
    assert not prompt.check("I'm sorry, but I can't help with that question.") or (
        ANSWERS[prompt.id] == "Question"
    )


@pytest.mark.parametrize("kind", BY_KIND)
def test_a_task_refuses_the_right_answers_of_its_sisters(kind: str) -> None:
    for mine, other in itertools.permutations(BY_KIND[kind], 2):
        answer = ANSWERS[other.id]
        same = other.check(ANSWERS[mine.id]) and mine.check(answer)
        assert same or not mine.check(answer), f"{mine.id} accepts {answer!r}"


def test_only_labels_and_yes_or_no_can_share_a_right_answer() -> None:
    shared = {
        kind
        for kind, prompts in BY_KIND.items()
        for one, other in itertools.combinations(prompts, 2)
        if one.check(ANSWERS[other.id])
    }
    assert shared == {"sentiment", "read-hours", "yes-no"}


@pytest.mark.parametrize(
    ("kind", "case", "wrong"),
    [
        ("json-person", 1, '{"name": "Maria Lopez", "city": "Lisboa"}'),
        ("json-list", 1, '["apples", "pears", "bread"]'),
        ("json-stock", 1, '{"product": "kettle", "price": 24.5, "in_stock": "true"}'),
        ("json-order", 1, '{"item": "lamps", "quantity": 3'),
        ("price", 1, "3 euros"),
        ("time", 2, "8:15"),
        ("read-larger", 2, "Dora"),
        ("read-plants", 2, "twice a month"),
        ("title", 2, "A broken car"),
        ("capitals", 1, "my brother lives in london."),
        ("convert", 1, "3"),
        ("convert", 2, "1200"),
        ("larger", 1, "345 is larger than 354"),
        ("reverse", 1, 'The word "cat" backwards is "cat".'),
        ("sort", 1, "pear, apple, melon"),
        ("which-language", 2, "JavaScript"),
        ("shell", 1, "lsof"),
        ("python-method", 2, "lstrip()"),
        ("python-function", 1, "def add(a, b):\n    return a - b"),
        ("sql", 1, "SELECT name FROM users"),
        ("big-o", 2, "O(n^2)"),
        ("symbol", 1, "o"),
        ("urgent", 1, "Not urgent"),
        ("list", 2, "France and Italy"),
    ],
)
def test_a_near_miss_is_wrong(kind: str, case: int, wrong: str) -> None:
    assert not BY_KIND[kind][case - 1].check(wrong)


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6))
def test_a_number_is_found_exactly_when_it_is_first_or_last(right: int, other: int) -> None:
    for written in (f"It is {right}.", f"{right:,} pieces", f"{other} + {right - other} = {right}"):
        assert number(right)(written)
    assert number(right)(f"about {other} pieces") == (right == other)
    assert not number(right)(f"x{right}")


@given(st.sampled_from(["red", "green", "blue"]), st.sampled_from(["red", "green", "blue"]))
def test_the_first_label_named_counts(first: str, second: str) -> None:
    check = label("red", ("red", "green", "blue"))
    assert check(f"The colour is {first.upper()}, not {second}.") == (first == "red")


@given(st.text(), st.text(alphabet=st.characters(categories=["L"]), min_size=1))
def test_a_phrase_inside_a_longer_word_does_not_count(around: str, phrase: str) -> None:
    assert says(phrase)(f"({phrase})")
    assert not says(phrase)(f"x{phrase}x") or phrase.casefold() in ("x", "xx")
    assert not says(phrase, but_not=(phrase,))(around + phrase)


@given(
    st.dictionaries(
        st.text(alphabet="abc", min_size=1),
        st.integers(-99, 99) | st.booleans() | st.text(max_size=5),
        min_size=1,
    ),
    st.text(alphabet="xyz {[\n", max_size=8),
)
def test_a_json_object_is_found_in_any_prose_and_must_hold_every_key(
    value: dict[str, Any], prose: str
) -> None:
    check = json_object(**value)
    assert check(f"{prose}{json.dumps(value)} done")
    missing = dict(itertools.islice(value.items(), 1, None))
    assert not check(json.dumps(missing))
