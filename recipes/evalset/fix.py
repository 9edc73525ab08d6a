"""Mend a mistake of grammar or spelling; the only mistake of the sentence is the planted one."""

from __future__ import annotations

from recipes.evalset import mistakes, pools
from recipes.evalset.kinds import Case, Kind, Make, Pen, article, cased, choice, phrase, sentence


def _slots(pen: Pen) -> dict[str, str]:
    return {
        "name": pen.first(),
        "city": pen.city(),
        "item": pen.pick(pools.ITEMS),
        "shop": pen.pick(pools.SHOPS),
        "day": pen.pick(pools.WEEKDAYS),
    }


def _longer(pen: Pen, right: str, wrong: str) -> tuple[str, str]:
    """The same clause put on to both sentences when a hard one is asked for."""
    if not pen.hard or not right.endswith("."):
        return right, wrong
    clause = f", {pen.pick(mistakes.CLAUSES)}."
    return right[:-1] + clause, wrong[:-1] + clause


def _corrected(pen: Pen, right: str, wrong: str) -> Case:
    right, wrong = _longer(pen, right, wrong)
    return sentence(wrong, right)


def _spelled(pen: Pen) -> tuple[str, str, str, str]:
    """Word, misspelled word, right sentence, wrong sentence."""
    word = pen.pick(sorted(mistakes.WITH_WORD))
    right = mistakes.WITH_WORD[word].format(**_slots(pen))
    wrong = right.replace(word, mistakes.MISSPELLED[word])
    right, wrong = _longer(pen, right, wrong)
    return word, mistakes.MISSPELLED[word], right, wrong


def _spelling(pen: Pen) -> Case:
    _, _, right, wrong = _spelled(pen)
    return sentence(wrong, right)


def _word(pen: Pen) -> Case:
    word, _, _, wrong = _spelled(pen)
    return phrase(wrong, word)


def _agreement(pen: Pen) -> Case:
    base, third, _, rest = pen.pick(mistakes.VERBS)
    slots = _slots(pen)
    when = pen.pick(("every day", "every week", "each spring", f"every {slots['day']}"))
    rest = rest.format(**{**slots, "name": pen.pick(("a friend", "an uncle", "the neighbours"))})
    if pen.hard:
        who = pen.pick(("One of the friends of {}", "The teacher of the children of {}"))
        who = who.format(slots["name"])
        return sentence(f"{who} {base} {rest} {when}.", f"{who} {third} {rest} {when}.")
    who = slots["name"]
    return sentence(f"{who} {base} {rest} {when}.", f"{who} {third} {rest} {when}.")


def _past(pen: Pen) -> Case:
    base, _, past, rest = pen.pick(mistakes.VERBS)
    slots = _slots(pen)
    rest = rest.format(**{**slots, "name": "a friend"})
    when = pen.pick(("Yesterday", "Last week", f"Last {slots['day']}", "A year ago"))
    return _corrected(
        pen, f"{when} {slots['name']} {past} {rest}.", f"{when} {slots['name']} {base} {rest}."
    )


def _article(pen: Pen) -> Case:
    noun = pen.pick(
        ("apple", "egg", "orange", "umbrella", "old car", "island", "engine", "armchair", "onion")
        if not pen.hard
        else ("hourglass", "honest man", "uniform", "university", "European town", "one-way ticket")
    )
    right = "an" if (noun[0] in "aeio" and not noun.startswith("one")) or noun[0] == "h" else "a"
    right = "an" if noun == "umbrella" else right
    wrong = "a" if right == "an" else "an"
    pattern = pen.pick(
        (
            "{name} drew {article} {noun} in the sand.",
            "In {city} {name} talked about {article} {noun}.",
            "{name} dreamed of {article} {noun} last {day}.",
        )
    )
    slots = {**_slots(pen), "noun": noun}
    return sentence(pattern.format(article=wrong, **slots), pattern.format(article=right, **slots))


def _capitals(pen: Pen) -> Case:
    slots = {**_slots(pen), "month": pen.pick(pools.MONTHS)}
    patterns = (
        ("{name} lives in {city}.", "On {day} we saw {name}.", "In {month} {name} was away.")
        if not pen.hard
        else (
            "On {day} {name} flew to {city} with an English friend.",
            "In {month} {name} and I learned French in {city}.",
            "Every {day} I meet {name} from {city} at the {shop}.",
        )
    )
    right = pen.pick(patterns).format(**slots)
    return cased(right.lower(), right)


def _plural(pen: Pen) -> Case:
    noun = pen.pick(list(mistakes.IRREGULAR) if pen.hard else mistakes.REGULAR)
    plural = mistakes.IRREGULAR.get(noun, f"{noun}s")
    pattern = pen.pick(
        (
            "{name} drew {count} {noun} on the wall.",
            "There were {count} {noun} in the picture from {city}.",
            "{name} counted {count} {noun} in the film.",
        )
    )
    slots = {**_slots(pen), "count": pen.pick(("two", "three", "four", "five", "six", "ten"))}
    return sentence(pattern.format(noun=noun, **slots), pattern.format(noun=plural, **slots))


def _doubled(pen: Pen) -> Case:
    right = mistakes.WITH_WORD[pen.pick(sorted(mistakes.WITH_WORD))].format(**_slots(pen))
    right, _ = _longer(pen, right, right)
    words = right.split()
    place = pen.whole(1, len(words) - 2)
    bare = words[place].strip(",")
    return sentence(" ".join([*words[:place], bare, *words[place:]]), right)


def _apostrophe(pen: Pen) -> Case:
    right = pen.pick(list(mistakes.CONTRACTIONS.values())).format(**_slots(pen))
    return _corrected(pen, right, right.replace("'", ""))


def _homophone(pen: Pen) -> Case:
    right, wrong = pen.pick(mistakes.HOMOPHONES)
    slots = _slots(pen)
    return _corrected(pen, right.format(**slots), wrong.format(**slots))


def _which(pen: Pen) -> Case:
    """Two sentences, one of them right."""
    slots = _slots(pen)
    if pen.hard:
        right, wrong = (one.format(**slots) for one in pen.pick(mistakes.HOMOPHONES))
    else:
        _, _, right, wrong = _spelled(pen)
    answer = pen.pick("AB")
    first, second = (right, wrong) if answer == "A" else (wrong, right)
    return choice(f"A: {first}\nB: {second}", answer, ("A", "B"))


def _comparative(pen: Pen) -> Case:
    word = pen.pick(list(mistakes.ADJECTIVES))
    slots = _slots(pen)
    one, other = pen.firsts(2)
    if word in ("tall", "happy", "old", "strong"):
        pattern = "{one} is {word} than {other}."
    elif word == "early":
        pattern = "{one} arrived {word} than {other}."
    elif word == "easy":
        pattern = "The way to {city} is {word} than the one to the lake."
    else:
        pattern = "The {item} of {one} is {word} than mine."
    slots = {**slots, "one": one, "other": other}
    right = pattern.format(word=mistakes.ADJECTIVES[word], **slots)
    return _corrected(pen, right, pattern.format(word=f"more {word}", **slots))


def _joined(pen: Pen) -> Case:
    """Two words written as one."""
    item, colour = pen.pick(pools.ITEMS), pen.pick(pools.COLOURS)
    right = f"{pen.first()} bought {article(colour)} {item} in {pen.city()}."
    words = right.split()
    place = pen.whole(2, len(words) - 4)
    wrong = [*words[:place], words[place] + words[place + 1], *words[place + 2 :]]
    return _corrected(pen, right, " ".join(wrong))


def _order(pen: Pen) -> Case:
    one, item = pen.first(), pen.pick(pools.ITEMS)
    verb = pen.pick(("bought", "sold", "found", "lost", "painted", "cleaned"))
    right = f"{one} {verb} the {item}."
    words = right[:-1].split()
    if len(words) == 4 and pen.hard:
        return sentence(
            f"{one} the {item} {verb}, and nobody saw it.", f"{right[:-1]}, and nobody saw it."
        )
    return sentence(f"{one} {verb} {item} the.", right)


# The whole text is the sentence to be mended, so nothing may be put into it.
_BAR = frozenset(("long", "truncated", "inject", "pii"))


def _kind(
    name: str, form: str, make: Make, *asks: str, ood: bool = False, bar: tuple[str, ...] = ()
) -> Kind:
    first, second, third, fourth = asks
    asked = (first, second, third, fourth)
    return Kind("fix", name, form, asked, make, bar=_BAR | frozenset(bar), ood=ood)


KINDS = (
    _kind(
        "spelling",
        "sentence",
        _spelling,
        "Correct the spelling mistake.",
        "One word is misspelled. Write the sentence correctly.",
        "Mend the spelling of this sentence.",
        "There is a typing error in this sentence; put it right.",
    ),
    _kind(
        "word",
        "phrase",
        _word,
        "One word is misspelled. Write that word correctly.",
        "Find the misspelled word and give its right spelling.",
        "How is the wrongly spelled word spelled correctly?",
        "Which word should replace the one with the spelling mistake?",
    ),
    _kind(
        "agreement",
        "sentence",
        _agreement,
        "The verb does not agree with its subject. Correct the sentence.",
        "Correct the form of the verb (present tense).",
        "Put the verb into the right form of the present tense.",
        "Mend the grammar of this sentence in the present tense.",
    ),
    _kind(
        "past",
        "sentence",
        _past,
        "Put the verb into the past tense.",
        "The verb should be in the simple past. Correct it.",
        "Correct the tense of the verb (simple past).",
        "This happened in the past; mend the verb accordingly.",
    ),
    _kind(
        "article",
        "sentence",
        _article,
        'Correct "a" or "an" in this sentence.',
        "The indefinite article is wrong. Correct the sentence.",
        "Mend the article in front of the noun.",
        "Use the right one of a and an.",
    ),
    _kind(
        "capitals",
        "sentence",
        _capitals,
        "Put in the capital letters that are missing.",
        "Write this with the right capital letters.",
        "Correct the capitalisation.",
        "Somebody has typed this without capitals. Mend it.",
    ),
    _kind(
        "plural",
        "sentence",
        _plural,
        "Put the noun after the number word into the plural.",
        "The noun should be in the plural. Correct it.",
        "Correct the number of the noun.",
        "A plural is missing here; mend the sentence.",
    ),
    _kind(
        "doubled",
        "sentence",
        _doubled,
        "A word is written twice. Remove one of the two.",
        "Take out the repeated word.",
        "Delete the word that stands here twice in a row.",
        "One word slipped in a second time; correct that.",
    ),
    _kind(
        "apostrophe",
        "sentence",
        _apostrophe,
        "An apostrophe is missing. Put it in.",
        "Add the missing apostrophe.",
        "Correct the short form that lacks its apostrophe.",
        "Mend the contraction in this sentence.",
    ),
    _kind(
        "homophone",
        "sentence",
        _homophone,
        "One word is confused with a word that sounds alike. Correct it.",
        "Replace the word that only sounds right.",
        "A similar sounding word was used by mistake; mend the sentence.",
        "Correct the mix-up of two words that sound almost the same.",
    ),
    _kind(
        "which",
        "label",
        _which,
        "Which sentence is correct?",
        "Choose the sentence without a mistake.",
        "One of the two sentences is right. Which one?",
        "Name the sentence with no error.",
        bar=("pair",),
    ),
    _kind(
        "comparative",
        "sentence",
        _comparative,
        "Correct the comparative.",
        'The form with "more" is wrong. Correct the sentence.',
        "Mend the comparison in this sentence.",
        "Use the right comparative form.",
        ood=True,
    ),
    _kind(
        "joined",
        "sentence",
        _joined,
        "Two words are written as one. Separate them.",
        "Put the missing space in.",
        "A space is missing; correct the sentence.",
        "Split the words that ran together.",
        ood=True,
    ),
    _kind(
        "order",
        "sentence",
        _order,
        "Put the words into the right order.",
        "The word order is wrong. Correct it.",
        "Mend the order of the words.",
        "Two words have changed places; set that right.",
        ood=True,
    ),
)
