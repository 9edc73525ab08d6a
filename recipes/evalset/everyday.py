"""Everyday tasks of quite another kind; they occur in the out-of-distribution split only."""

from __future__ import annotations

from datetime import date, timedelta

from ondevice.runtime.evaluate.checkers import Regex
from recipes.evalset import pools
from recipes.evalset.kinds import Case, Kind, Make, Pen, choice, number, phrase

_GROUPS = {
    "colours": pools.COLOURS,
    "fruit": [
        "apple",
        "pear",
        "plum",
        "cherry",
        "peach",
        "mango",
        "lemon",
        "melon",
        "banana",
        "fig",
    ],
    "animals": [
        "horse",
        "goat",
        "rabbit",
        "eagle",
        "tiger",
        "salmon",
        "sheep",
        "wolf",
        "otter",
        "camel",
    ],
    "tools": [
        "hammer",
        "saw",
        "drill",
        "wrench",
        "chisel",
        "pliers",
        "spanner",
        "screwdriver",
        "file",
    ],
    "days": pools.WEEKDAYS,
    "months": ["January", "March", "April", "June", "July", "August", "October", "December"],
    "furniture": ["table", "chair", "sofa", "wardrobe", "desk", "bookcase", "armchair", "cupboard"],
    "instruments": [
        "guitar",
        "violin",
        "flute",
        "trumpet",
        "cello",
        "harp",
        "piano",
        "drum",
        "oboe",
    ],
    "vehicles": ["car", "bus", "tram", "lorry", "bicycle", "ferry", "scooter", "van", "motorcycle"],
}
# Different groups that look as though they belonged together.
_CLOSE = (
    (["whale", "dolphin", "seal", "otter", "bat"], "shark"),
    (["spinach", "lettuce", "cabbage", "leek", "kale"], "mushroom"),
    (["Berlin", "Madrid", "Rome", "Paris", "Lisbon"], "Barcelona"),
    (["Mars", "Venus", "Saturn", "Jupiter", "Neptune"], "Moon"),
    (["silver", "copper", "iron", "gold", "zinc"], "bronze"),
    (["violin", "cello", "guitar", "harp", "viola"], "flute"),
    (["ant", "bee", "beetle", "moth", "wasp"], "spider"),
    (["pence", "euro", "dollar", "yen", "rouble"], "pound cake"),
)
_OPPOSITES = {
    "hot": "cold",
    "up": "down",
    "big": "small",
    "early": "late",
    "open": "closed",
    "full": "empty",
    "day": "night",
    "left": "right",
    "wet": "dry",
    "strong": "weak",
    "rich": "poor",
    "young": "old",
    "dark": "light",
    "first": "last",
    "north": "south",
    "buy": "sell",
    "win": "lose",
    "push": "pull",
    "remember": "forget",
    "arrive": "leave",
}
_OPPOSITES_HARD = {
    "ancient": "modern",
    "increase": "decrease",
    "generous": "stingy",
    "temporary": "permanent",
    "victory": "defeat",
    "maximum": "minimum",
    "expand": "contract",
    "import": "export",
    "ascend": "descend",
    "include": "exclude",
    "guilty": "innocent",
    "artificial": "natural",
    "optimist": "pessimist",
    "interior": "exterior",
    "majority": "minority",
    "entrance": "exit",
    "vertical": "horizontal",
    "attack": "defend",
    "accept": "refuse",
    "plural": "singular",
}
_OTHER_OPPOSITES = {
    "closed": ("shut", "close"),
    "leave": ("depart",),
    "modern": ("new", "recent", "contemporary"),
    "stingy": ("selfish", "mean", "miserly", "greedy", "frugal"),
    "decrease": ("reduce", "reduction", "decline"),
    "contract": ("shrink", "reduce"),
    "refuse": ("reject", "decline", "deny"),
    "defeat": ("loss",),
    "small": ("little", "tiny"),
    "light": ("bright",),
    "natural": ("real", "genuine"),
    "defend": ("defense", "defence", "retreat"),
    "weak": ("feeble",),
}


def _sort(pen: Pen) -> Case:
    words = pen.some(pools.FOODS, 5 if pen.hard else 3)
    if pen.hard:
        numbers = pen.some(range(100, 9999), 5)
        text = "; ".join(map(str, numbers))
        order, sorted_words = "number, largest first", [str(n) for n in sorted(numbers)[::-1]]
    else:
        text, order, sorted_words = ", ".join(words), "alphabet", sorted(words)
    shown = ", ".join(sorted_words)
    pattern = r"\W+".join(sorted_words)
    return Case(text, Regex(rf"(?i)\W*{pattern}\W*"), shown, {"order": order})


def _letters(pen: Pen) -> Case:
    words = [
        "strawberry",
        "banana",
        "committee",
        "balloon",
        "tomorrow",
        "address",
        "parallel",
        "mississippi",
        "bookkeeper",
        "success",
        "umbrella",
        "assessment",
        "tennessee",
        "coffee",
        "pepper",
    ]
    word = pen.pick(words) if pen.hard else pen.pick(pools.FOODS)
    letter = pen.pick(sorted(set(word)))
    lure = f"(The word {pen.pick(pools.FOODS)} is not meant.)"
    return number(word, word.count(letter), fields={"letter": letter}, lure=lure)


def _odd(pen: Pen) -> Case:
    if pen.hard:
        group, odd = pen.pick(_CLOSE)
        members = [*pen.some(group, 4), odd]
    else:
        one, other = pen.some(list(_GROUPS), 2)
        odd = pen.pick(_GROUPS[other])
        members = [*pen.some(_GROUPS[one], 3), odd]
    pen.rng.shuffle(members)
    return choice(", ".join(members), odd, members)


def _unit_price(pen: Pen) -> Case:
    food = pen.pick(pools.FOODS)
    if pen.hard:
        small, large = pen.pick(((3, 5), (2, 7), (4, 9), (3, 8)))
        one, other = pen.some(range(61, 99), 2)
        prices = (small * one, large * other)
        cheaper = "A" if one < other else "B"
    else:
        small, large = 1, 2
        one = pen.whole(2, 9)
        both = 2 * one + pen.pick((-1, 1))
        prices = (100 * one, 100 * both)
        cheaper = "A" if both > 2 * one else "B"
    text = (
        f"A: {small} kg of {food} for ${prices[0] / 100:.2f}\n"
        f"B: {large} kg of {food} for ${prices[1] / 100:.2f}"
    )
    lure = f"C, {pen.whole(6, 9)} kg for ${pen.whole(2, 5)}, is sold out."
    return choice(text, cheaper, ("A", "B"), lure=lure)


def _backwards(pen: Pen) -> Case:
    words = "stone garden window planet silver basket market" if pen.hard else "cat dog sun pen cup"
    word = pen.pick((words + (" bottle thunder" if pen.hard else " map bag lid net tub")).split())
    return phrase(word, word[::-1])


def _sequence(pen: Pen) -> Case:
    start, step = pen.whole(1, 20), pen.whole(2, 9)
    if pen.hard:
        factor = pen.pick((2, 3))
        row = [start]
        while len(row) < 5:
            row.append(row[-1] * factor + (step if start % 2 else 0))
    else:
        row = [start + step * place for place in range(5)]
    lure = f"(row {pen.whole(2, 40)} of the sheet)"
    return number(", ".join(map(str, row[:4])), row[4], lure=lure)


def _opposite(pen: Pen) -> Case:
    pairs = _OPPOSITES_HARD if pen.hard else _OPPOSITES
    word = pen.pick(list(pairs))
    return phrase(word, pairs[word], *_OTHER_OPPOSITES.get(pairs[word], ()))


def _weekday(pen: Pen) -> Case:
    days = pen.whole(8, 60) if pen.hard else pen.whole(1, 3)
    today = date(2024, 1, 1) + timedelta(days=pen.whole(0, 6))
    then = today + timedelta(days=days)
    noun = "day" if days == 1 else "days"
    text = f"Today is {pools.WEEKDAYS[today.weekday()]}. The guests come in {days} {noun}."
    lure = f"Last time they came on a {pools.WEEKDAYS[(then.weekday() + 2) % 7]}."
    right = pools.WEEKDAYS[then.weekday()]
    others = [day for day in pools.WEEKDAYS if day != right]
    return phrase(text, right, none=others, lure=lure)


def _longest(pen: Pen) -> Case:
    pool = sorted({*pools.FOODS, *pools.SHOPS, *pools.HOBBIES}, key=lambda word: (len(word), word))
    pool = [word for word in pool if " " not in word]
    words = pen.some(pool, 6 if pen.hard else 3)
    best = max(words, key=len)
    words = [word for word in words if word == best or len(word) < len(best)]
    return phrase(", ".join(words), best, none=[word for word in words if word != best])


def _count(pen: Pen) -> Case:
    words = pen.some(pools.ITEMS, pen.whole(7, 14) if pen.hard else pen.whole(3, 5))
    lure = f"(Order number {pen.whole(20, 99)})"
    return number(", ".join(words), len(words), lure=lure)


_CLOSED = ("long", "truncated", "inject", "pii")


def _kind(
    name: str,
    form: str,
    make: Make,
    *asks: str,
    bar: tuple[str, ...] = _CLOSED,
) -> Kind:
    first, second, third, fourth = asks
    asked = (first, second, third, fourth)
    return Kind("everyday", name, form, asked, make, bar=frozenset(bar), ood=True)


KINDS = (
    _kind(
        "sort",
        "phrase",
        _sort,
        "Sort the list by {order}, with commas between.",
        "Put the entries in the order of the {order}, separated by commas.",
        "Write the list again, sorted by {order}, with commas.",
        "Order the list by {order}; separate the entries with commas.",
        bar=(*_CLOSED, "unicode"),
    ),
    _kind(
        "letters",
        "number",
        _letters,
        'How many times does the letter "{letter}" occur in the word?',
        'Count the letter "{letter}" in this word.',
        'How often is "{letter}" found in the word?',
        'The word has how many letters "{letter}"?',
        bar=(*_CLOSED, "unicode", "pair"),
    ),
    _kind(
        "odd",
        "label",
        _odd,
        "Which word does not belong with the others?",
        "Find the odd one out.",
        "One of the words does not fit. Which one?",
        "Which is the word that is out of place?",
        bar=(*_CLOSED, "unicode"),
    ),
    _kind(
        "unit_price",
        "label",
        _unit_price,
        "Which offer has the lower price for a kilogram?",
        "Where is one kilogram cheaper?",
        "Compare the price per kilogram: which is lower?",
        "Which of the two is the better buy by weight?",
    ),
    _kind(
        "backwards",
        "phrase",
        _backwards,
        "Write the word backwards.",
        "Spell the word from its last letter to its first.",
        "Reverse the letters of the word.",
        "What is the word read from right to left?",
        bar=(*_CLOSED, "unicode"),
    ),
    _kind(
        "sequence",
        "number",
        _sequence,
        "Which number comes next?",
        "Continue the row by one number.",
        "What is the next number of the sequence?",
        "Find the number that follows.",
    ),
    _kind(
        "opposite",
        "phrase",
        _opposite,
        "What is the opposite of the word?",
        "Give the word with the opposite meaning.",
        "Name the antonym.",
        "Which word means the contrary?",
        bar=(*_CLOSED, "unicode"),
    ),
    _kind(
        "weekday",
        "phrase",
        _weekday,
        "On what day of the week do they come?",
        "Which weekday will that be?",
        "Name the weekday of the visit.",
        "Work out the day of the week of their coming.",
        bar=(),
    ),
    _kind(
        "longest",
        "phrase",
        _longest,
        "Which word has the most letters?",
        "Find the longest word.",
        "Name the word with the greatest number of letters.",
        "Which of the words is the longest?",
        bar=(*_CLOSED, "unicode"),
    ),
    _kind(
        "count",
        "number",
        _count,
        "How many things are on the list?",
        "Count the entries of the list.",
        "How many entries does the list have?",
        "What is the number of things listed?",
        bar=(*_CLOSED, "unicode"),
    ),
)
