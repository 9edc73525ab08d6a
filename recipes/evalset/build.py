"""Fills the five splits from the kinds, by quotas, so that no template is in two of them.

A template is a kind with one wording: one of the kind's four ways to ask, a sentence naming the
form of the answer, and a frame around the text. Knows nothing about files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import count
from random import Random

from ondevice.runtime.evaluate.dataset import Example
from recipes.evalset import arithmetic, classify, convert, everyday, extract, fix, reading
from recipes.evalset.kinds import Kind, Pen
from recipes.evalset.twists import TWISTS, Twisted
from recipes.evalset.wordings import FORMS, FRAMES, MAX_TOKENS

SIZES = {"train": 500, "threshold": 300, "certify": 300, "test": 500, "ood": 300}
TIERS = {"easy": 200, "hard": 150, "edge": 75, "adversarial": 75}  # of 500
SEED = 2026
KINDS: tuple[Kind, ...] = (
    *extract.KINDS,
    *classify.KINDS,
    *reading.KINDS,
    *convert.KINDS,
    *fix.KINDS,
    *arithmetic.KINDS,
    *everyday.KINDS,
)
_ASKED_SPLITS = ("train", "threshold", "certify", "test")
_WORDINGS = 8  # of a kind; two for each ask
_TRIES = 500


@dataclass(frozen=True)
class Template:
    """A kind in one wording; `ask`, `form` and `frame` are indices."""

    kind: Kind
    ask: int
    form: int
    frame: int

    @property
    def id(self) -> str:
        return f"{self.kind.id}/{self.ask}{self.form}{self.frame}"

    def prompt(self, twisted: Twisted) -> str:
        case = twisted.case
        ask = self.kind.asks[self.ask].format(**case.fields)
        form = FORMS[self.kind.form][self.form].format(**case.fields)
        frame = FRAMES[self.frame]
        return twisted.prefix + frame.format(ask=ask, form=form, rule=twisted.rule, text=case.text)


def templates(kind: Kind, seed: int = SEED) -> dict[str, list[Template]]:
    """The templates of a kind by split: each ask, form and frame is used in one split only."""
    rng = Random(f"{seed} wordings {kind.id}")
    asks = rng.sample(range(4), 4)
    forms, frames = rng.sample(range(_WORDINGS), _WORDINGS), rng.sample(range(_WORDINGS), _WORDINGS)
    made = [
        Template(kind, asks[place // 2], forms[place], frames[place]) for place in range(_WORDINGS)
    ]
    if kind.ood:
        return {"ood": made}
    return {split: made[2 * place : 2 * place + 2] for place, split in enumerate(_ASKED_SPLITS)}


def quotas(total: int, weights: dict[str, float]) -> dict[str, int]:
    """`total` shared out by weight with the method of largest remainders."""
    whole = sum(weights.values())
    exact = {name: total * weight / whole for name, weight in weights.items()}
    given = {name: int(share) for name, share in exact.items()}
    by_rest = sorted(exact, key=lambda name: given[name] - exact[name])
    for name in by_rest[: total - sum(given.values())]:
        given[name] += 1
    return given


def build(seed: int = SEED) -> dict[str, list[Example]]:
    """All splits. The same seed gives the same items; no prompt occurs twice."""
    seen: set[str] = set()
    return {split: _split(split, size, seed, seen) for split, size in SIZES.items()}


def _split(split: str, size: int, seed: int, seen: set[str]) -> list[Example]:
    rng = Random(f"{seed} {split}")
    kinds = [kind for kind in KINDS if kind.ood == (split == "ood")]
    families = list(dict.fromkeys(kind.family for kind in kinds))
    # The new everyday kinds make up a third of what is out of distribution.
    weights = {name: 3.0 if name == "everyday" else 1.0 for name in families}
    items: list[Example] = []
    tiers = quotas(size, {tier: float(share) for tier, share in TIERS.items()})
    for shift, (tier, wanted) in enumerate(tiers.items()):
        # Turned by tier, so that the rest of the division is not always the same family's.
        turned = {name: weights[name] for name in families[shift:] + families[:shift]}
        used: Counter[str] = Counter()
        for family, share in quotas(wanted, turned).items():
            members = [kind for kind in kinds if kind.family == family]
            items += _cell(split, tier, members, share, seed, rng, seen, used)
    rng.shuffle(items)
    return [_numbered(item, split, place) for place, item in enumerate(items)]


def _numbered(item: Example, split: str, place: int) -> Example:
    return replace(item, id=f"{split}-{place:03}-{item.id}", split=split)


def _cell(
    split: str,
    tier: str,
    kinds: Sequence[Kind],
    wanted: int,
    seed: int,
    rng: Random,
    seen: set[str],
    used: Counter[str],
) -> list[Example]:
    """The items of one family and tier, in turn over its templates.

    The twist least used so far in this split comes next, so that all are about equally frequent.
    """
    pool = [
        template
        for kind in kinds
        if tier not in ("easy", "hard") or tier in kind.levels
        for template in templates(kind, seed)[split]
    ]
    turn = _by_kind(pool, rng)
    twists = list(TWISTS[tier])
    rng.shuffle(twists)
    items: list[Example] = []
    for attempt in count():
        if len(items) == wanted:
            return items
        if attempt > _TRIES + wanted:
            raise AssertionError(f"{split} {tier} {kinds[0].family}: no more new items")
        template = turn[attempt % len(turn)]
        allowed = [name for name in twists if name not in template.kind.bar]
        for name in sorted(allowed, key=lambda name: used[name]):
            item = _item(template, tier, name, rng, seen)
            if item is not None:
                items.append(item)
                used[name] += 1
                break
    raise AssertionError


def _by_kind(pool: list[Template], rng: Random) -> list[Template]:
    """Shuffled so that every kind comes once before any comes twice."""
    kinds = list(dict.fromkeys(template.kind.id for template in pool))
    rng.shuffle(kinds)
    by_kind = {
        kind: rng.sample(group, len(group))
        for kind in kinds
        for group in [[template for template in pool if template.kind.id == kind]]
    }
    rounds = max(len(group) for group in by_kind.values())
    return [by_kind[kind][turn % len(by_kind[kind])] for turn in range(rounds) for kind in kinds]


def _room(form: str, answer: str) -> int:
    """Tokens an answer may take: the form's own, or what a long answer needs, in steps of 8.

    Tokenizers spend up to a token on each digit and on each byte beyond ASCII, and about one on
    three other characters.
    """
    dear = sum(len(one.encode()) for one in answer if one.isdigit() or not one.isascii())
    plain = sum(one.isascii() and not one.isdigit() for one in answer)
    needed = dear + plain // 3 + 12
    return max(MAX_TOKENS[form], -(-needed // 8) * 8)


def _item(template: Template, tier: str, twist: str, rng: Random, seen: set[str]) -> Example | None:
    kind = template.kind
    level = tier if tier in kind.levels else rng.choice(kind.levels)
    twisted = TWISTS[tier][twist](kind, Pen(rng, hard=level == "hard"))
    if twisted is None:
        return None
    prompt = template.prompt(twisted)
    if prompt in seen:
        return None
    seen.add(prompt)
    return Example(
        id=f"{tier}-{twist}" if twist != "plain" else tier,
        prompt=prompt,
        check=twisted.case.check,
        family=kind.family,
        template=template.id,
        tier=tier,
        reference=twisted.case.reference,
        max_tokens=_room(kind.form, twisted.case.reference),
        schema=twisted.case.schema,
    )
