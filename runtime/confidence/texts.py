"""What an answer's text says of its own quality beside its prompt: no model and no checker needed.

Knows no coefficients.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

NAMES: tuple[str, ...] = (
    "log_characters",
    "log_prompt_characters",
    "words_from_prompt",
    "numbers_from_prompt",
    "digits",
    "repeated",
    "lines",
    "copy",
    "new_words",
    "is_number",
    "is_sentence",
    "is_quoted",
    "like_a_sentence",
    "prompt_numbers",
    "json",
    "values_from_prompt",
    "keys_from_prompt",
    "json_depth",
)
LONGEST = 4000  # characters looked at, of the prompt and of the answer
_WORDS = re.compile(r"\w+")
_NUMBERS = re.compile(r"\d+")
_NUMBER = re.compile(r"[-−]?[$€£]?\d[\d.,]*\s?%?")
_SENTENCE_ENDS = re.compile(r"[\n.!?;]+")
_QUOTED = re.compile(r"[\"“'‘]([^\"“”'‘’\n]{1,40})[\"”'’]")
_FENCE = re.compile(r"```\w*\s*(.*?)(?:```|\Z)", re.DOTALL)
_DEEPEST = 20


def text_features(prompt: str, text: str) -> NDArray[np.float64]:
    """Features (len(NAMES),) of an answer's text and its prompt; all near 0..10.

    Lengths and counts as ln(1 + x); shares of the answer's words and numbers that occur in the
    prompt (0.5 where it has none) and how many words are new; share of digits; share of its words
    that it said before; whether all of it stands in the prompt, is a number, a sentence, or what
    the prompt has in quotation marks; the most that it has in common with a sentence of the
    prompt (Jaccard index of words). For JSON: whether it is some, the shares of its values and
    keys that occur in the prompt as they are, and its depth; 0 for other answers.
    """
    asked, whole = prompt[-LONGEST:], text.strip()[:LONGEST]
    asked_low, said = asked.casefold(), whole.casefold()
    known = set(_WORDS.findall(asked_low))
    words, numbers = _WORDS.findall(said), _NUMBERS.findall(said)
    new = sum(word not in known for word in words)
    bare = said.rstrip(".").strip("\"'")
    return np.array(
        [
            math.log1p(len(text)),
            math.log1p(len(prompt)),
            1 - new / len(words) if words else 0.5,
            sum(number in known for number in numbers) / len(numbers) if numbers else 0.5,
            sum(map(len, numbers)) / max(len(said), 1),
            1 - len(set(words)) / max(len(words), 1),
            math.log1p(said.count("\n")),
            float(bool(said) and said in asked_low),
            math.log1p(new),
            float(_NUMBER.fullmatch(said) is not None),
            float(whole[:1].isupper() and whole.endswith(".")),
            float(any(bare == quoted.strip() for quoted in _QUOTED.findall(asked_low))),
            _like_a_sentence(set(words), asked_low),
            math.log1p(len(_NUMBERS.findall(asked_low))),
            *_json_features(whole, asked),
        ]
    )


def _like_a_sentence(words: set[str], asked: str) -> float:
    best = 0.0
    for sentence in _SENTENCE_ENDS.split(asked):
        if words and (others := set(_WORDS.findall(sentence))):
            best = max(best, len(words & others) / len(words | others))
    return best


def _json_features(said: str, asked: str) -> tuple[float, float, float, float]:
    fenced = _FENCE.search(said)
    body = fenced.group(1).strip() if fenced else said
    if body[:1] not in ("{", "["):
        return 0.0, 0.0, 0.0, 0.0
    try:
        parsed = json.loads(body)
    except (ValueError, RecursionError):
        return 0.0, 0.0, 0.0, 0.0
    nodes = list(_nodes(parsed, 1))
    values = [value for is_key, value, _ in nodes if not is_key]
    keys = [value for is_key, value, _ in nodes if is_key]
    asked_low = asked.casefold()
    return (
        1.0,
        sum(_stands_in(value, asked) for value in values) / max(len(values), 1),
        sum(key.casefold() in asked_low for key in keys) / max(len(keys), 1),
        float(max((depth for _, _, depth in nodes), default=1)),
    )


def _nodes(value: Any, depth: int) -> Iterator[tuple[bool, Any, int]]:
    """Keys and plain values with their depth: (is a key, what, depth)."""
    if isinstance(value, dict) and depth < _DEEPEST:
        for key, inner in value.items():
            yield True, key, depth
            yield from _nodes(inner, depth + 1)
    elif isinstance(value, list) and depth < _DEEPEST:
        for inner in value:
            yield from _nodes(inner, depth + 1)
    else:
        yield False, value, depth - 1


def _stands_in(value: Any, asked: str) -> bool:
    if isinstance(value, str):
        return bool(value) and value in asked
    if isinstance(value, int | float) and not isinstance(value, bool):
        if abs(value) >= 1e15 or value != value:
            return False
        written = {json.dumps(value), f"{value:.2f}", f"{value:,}"}
        return any(_whole_number(number, asked) for number in written)
    return False


def _whole_number(number: str, asked: str) -> bool:
    return re.search(rf"(?<![\d.,]){re.escape(number)}(?!\d)", asked) is not None
