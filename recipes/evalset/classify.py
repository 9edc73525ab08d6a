"""Put a short text under one of the labels given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from recipes.evalset import pools, texts
from recipes.evalset.kinds import Case, Kind, Make, Pen, choice

Texts = Mapping[str, Sequence[str]]


def _fill(pen: Pen, text: str) -> str:
    slots = {
        "name": pen.first(),
        "city": pen.city(),
        "item": pen.pick(pools.ITEMS),
        "items": pen.pick(pools.PLURALS),
        "day": pen.pick(pools.WEEKDAYS),
        "food": pen.pick(pools.FOODS),
        "shop": pen.pick(pools.SHOPS),
        "company": pen.pick(pools.COMPANIES),
        "number": str(pen.whole(2, 60)),
    }
    return text.format(**slots)


def _labelled(pen: Pen, easy: Texts, hard: Texts, lure: str) -> Case:
    texts = hard if pen.hard else easy
    labels = list(texts)
    answer = pen.pick(labels)
    pen.rng.shuffle(labels)
    other = next(label for label in labels if label != answer)
    return choice(_fill(pen, pen.pick(texts[answer])), answer, labels, lure=lure.format(other))


def _maker(easy: Texts, hard: Texts, lure: str) -> Make:
    return lambda pen: _labelled(pen, easy, hard, lure)


def _kind(name: str, make: Make, *asks: str, bar: tuple[str, ...] = (), ood: bool = False) -> Kind:
    first, second, third, fourth = asks
    # Padding would change what the text is about.
    barred = frozenset((*bar, "long"))
    return Kind(
        "classify", name, "label", (first, second, third, fourth), make, bar=barred, ood=ood
    )


_LURE = 'Somebody has written "{}" at the top of this sheet by mistake.'

KINDS = (
    _kind(
        "sentiment",
        _maker(texts.SENTIMENT, texts.SENTIMENT_HARD, _LURE),
        "What is the sentiment of the text?",
        "How does the writer feel about it on the whole?",
        "Rate the opinion expressed here.",
        "Which kind of review is this?",
    ),
    _kind(
        "intent",
        _maker(texts.INTENT, texts.INTENT_HARD, _LURE),
        "What does the customer want with this message?",
        "Sort this message by its purpose.",
        "Which kind of message is this?",
        "What is the main intent of the writer?",
    ),
    _kind(
        "topic",
        _maker(texts.TOPIC, texts.TOPIC_HARD, _LURE),
        "What is the text about?",
        "Which section of a newspaper does this belong to?",
        "Name the topic.",
        "Under which subject would you file this?",
    ),
    _kind(
        "urgency",
        _maker(texts.URGENCY, texts.URGENCY_HARD, _LURE),
        "How urgent is this message?",
        "Does this need somebody right now?",
        "Set the priority of the message.",
        "Decide whether this can wait.",
    ),
    _kind(
        "language",
        _maker(texts.LANGUAGE, texts.LANGUAGE_HARD, "({})"),
        "Which language is this written in?",
        "Name the language of the text.",
        "What language does the writer use?",
        "In what language is this sentence?",
        bar=("pii", "inject", "truncated", "lure"),
    ),
    _kind(
        "spam",
        _maker(texts.SPAM, texts.SPAM_HARD, _LURE),
        "Is this message spam?",
        "Check the mail for spam.",
        "Should the mail filter sort this message out?",
        "Is it junk mail or a real message?",
        bar=("pii", "inject"),
    ),
    _kind(
        "department",
        _maker(texts.DEPARTMENT, texts.DEPARTMENT_HARD, _LURE),
        "Which department should deal with this?",
        "Forward this to the right team.",
        "Who in the company is responsible for this request?",
        "Choose the team that has to answer.",
    ),
    _kind(
        "emotion",
        _maker(texts.EMOTION, texts.EMOTION_HARD, _LURE),
        "What does the person in the text feel?",
        "Which emotion is shown here?",
        "Name the feeling.",
        "How does the person feel?",
    ),
    _kind(
        "tense",
        _maker(texts.TENSE, texts.TENSE_HARD, "Note by the printer: {}"),
        "Which tense is the main verb in?",
        "Does the main clause speak of past, present or future?",
        "Determine the time of the main verb.",
        "When does the main action happen, seen from the speaker?",
        bar=("truncated", "pii", "inject"),
    ),
    _kind(
        "formality",
        _maker(texts.FORMALITY, texts.FORMALITY_HARD, _LURE),
        "Is the style formal or informal?",
        "Judge the tone of the text.",
        "Which register is this written in?",
        "How formal is the writing?",
        bar=("truncated", "pii", "inject"),
    ),
    _kind(
        "speech",
        _maker(texts.SPEECH, texts.SPEECH_HARD, "({})"),
        "What type of sentence is this?",
        "Does the sentence ask, order or state something?",
        "Determine the sentence type.",
        "Which of the types does this sentence belong to?",
        bar=("truncated", "pii", "inject"),
        ood=True,
    ),
    _kind(
        "thing",
        _maker(texts.PLANTS, texts.PLANTS_HARD, _LURE),
        "What kind of thing is this?",
        "Which group does it belong to?",
        "Put the thing into a group.",
        "What is meant by this word?",
        bar=("truncated", "unicode"),
        ood=True,
    ),
    _kind(
        "setting",
        _maker(texts.SETTING, texts.SETTING_HARD, _LURE),
        "Where does the scene take place?",
        "Name the place of the scene.",
        "In which place are we?",
        "Which setting fits the text?",
        ood=True,
    ),
)
