"""The five factors, what each score means, and which size of model their mean speaks for.

Knows nothing about money.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

from ondevice.errors import RequestError

Choice = Literal["small", "hybrid", "large"]
HYBRID_FROM = Fraction(5, 2)
HYBRID_TO = Fraction(7, 2)
"""A mean below 2.5 speaks for a small model, above 3.5 for a large one; both ends are hybrid."""


@dataclass(frozen=True)
class Factor:
    """One question, and the sentence for each score from 1 (small model) to 5 (large model)."""

    name: str
    question: str
    meanings: tuple[str, str, str, str, str]


FACTORS: tuple[Factor, ...] = (
    Factor(
        "complexity",
        "How hard is the task?",
        (
            "One step with few possible results: a label, a field, a yes or no.",
            "A known pattern: extract several fields, reformat, correct a text.",
            "Several steps in a known order, or a summary of a page or two.",
            "Reasoning whose steps are not known beforehand, over long or mixed material.",
            "Open problems: plans, proofs, large programs, many dependent steps.",
        ),
    ),
    Factor(
        "knowledge",
        "How much must the model know that is not in the prompt?",
        (
            "Nothing: everything it needs is in the prompt.",
            "One narrow field that an adapter or a few examples can teach.",
            "Common knowledge, where a wrong fact is noticed.",
            "Several fields at the depth of a practitioner.",
            "Anything anybody may ask, rare and recent facts included.",
        ),
    ),
    Factor(
        "deployment",
        "How free is the place where it runs?",
        (
            "It must answer without a network, or the data may not leave.",
            "Data may leave in exceptions only, or the network is often away.",
            "Some data may leave; a second of delay is no harm.",
            "A network is always there; only agreements with the provider are needed.",
            "No limit on place, network or data.",
        ),
    ),
    Factor(
        "volume",
        "How many requests are there, and how much does their price matter?",
        (
            "So many, or so thin a margin, that the price of a call decides.",
            "Many every day; the bill is looked at.",
            "Some thousands a day; the bill is a cost among others.",
            "Few; a cent a request is no matter.",
            "So few, or so valuable, that the price is no matter.",
        ),
    ),
    Factor(
        "quality",
        "How bad is a wrong answer?",
        (
            "Harmless: a person sees it and tries again.",
            "A nuisance: it costs a minute.",
            "It costs money or goodwill, and is found later.",
            "It costs much, or a decision rests on it; a person checks some.",
            "Somebody is harmed or a law is broken, and nobody checks.",
        ),
    ),
)
NAMES: tuple[str, ...] = tuple(factor.name for factor in FACTORS)


@dataclass(frozen=True)
class Scores:
    """A score of 1 to 5 for each factor. Raises `RequestError` for any other value."""

    complexity: int
    knowledge: int
    deployment: int
    volume: int
    quality: int

    def __post_init__(self) -> None:
        for name in NAMES:
            check_score(name, getattr(self, name))

    @property
    def mean(self) -> Fraction:
        """The exact mean of the five."""
        return Fraction(sum(getattr(self, name) for name in NAMES), len(NAMES))

    def meaning(self, factor: Factor) -> str:
        """The sentence of the score given for a factor."""
        return factor.meanings[getattr(self, factor.name) - 1]


@dataclass(frozen=True)
class Constraints:
    """What cannot be traded against anything else."""

    must_work_offline: bool = False
    data_may_not_leave: bool = False

    def rules_out(self, option: str) -> str:
        """Why an option (`api`, `gpu`, `device`, `hybrid`) is ruled out; empty when it is not.

        A GPU of one's own keeps data in the house, but is reached over a network.
        """
        calls_out = option in ("api", "hybrid")
        if self.must_work_offline and (calls_out or option == "gpu"):
            return "it must work offline"
        if self.data_may_not_leave and calls_out:
            return "the data may not leave"
        return ""

    @property
    def reasons(self) -> str:
        """The constraints in words, empty without any."""
        said = [
            words
            for holds, words in (
                (self.must_work_offline, "it must work offline"),
                (self.data_may_not_leave, "the data may not leave"),
            )
            if holds
        ]
        return " and ".join(said)


@dataclass(frozen=True)
class Verdict:
    """What is recommended. `by_scores` is what the mean alone speaks for; `why` says the rest.

    `doubtful`: a hard constraint forces a size that the scores speak against. The honest choice
    is then a small model that has been tested, or none.
    """

    choice: Choice
    by_scores: Choice
    mean: Fraction
    doubtful: bool
    why: str


def check_score(name: str, score: int) -> int:
    """The score, if it is a whole number from 1 to 5. Raises `RequestError`."""
    if isinstance(score, bool) or not isinstance(score, int) or not 1 <= score <= 5:
        raise RequestError(f"{name}: {score} is no score; give a whole number from 1 to 5")
    return score


def from_mapping(scores: Mapping[str, int | None]) -> Scores:
    """Scores by name. Raises `RequestError` naming the missing ones."""
    missing = [name for name in NAMES if scores.get(name) is None]
    if missing:
        raise RequestError(
            f"no score for {', '.join(missing)}; give each as --{missing[0]} 1 to 5, or run "
            '"ondevice advise" at a terminal to be asked'
        )
    return Scores(**{name: int(scores[name] or 0) for name in NAMES})


def recommend(scores: Scores, constraints: Constraints = Constraints()) -> Verdict:
    """The size the mean speaks for, unless a hard constraint leaves only the small one."""
    mean = scores.mean
    by_scores = _by_mean(mean)
    figure = f"the mean score is {float(mean):.1f}"
    if not constraints.reasons:
        return Verdict(by_scores, by_scores, mean, False, f"{figure}: {_RANGES[by_scores]}")
    if by_scores == "small":
        why = f"{figure}, and {constraints.reasons}: a small model is right on both counts"
        return Verdict("small", by_scores, mean, False, why)
    why = (
        f"{constraints.reasons}, so a small model or none: {figure}, which speaks for "
        f"{_ARTICLES[by_scores]}; test the small one with `ondevice eval` and do without it where "
        "it fails"
    )
    return Verdict("small", by_scores, mean, True, why)


def _by_mean(mean: Fraction) -> Choice:
    if mean < HYBRID_FROM:
        return "small"
    return "hybrid" if mean <= HYBRID_TO else "large"


_RANGES: dict[Choice, str] = {
    "small": "below 2.5, a small model",
    "hybrid": "from 2.5 to 3.5, a small model first and a large one where it is unsure",
    "large": "above 3.5, a large model",
}
_ARTICLES: dict[Choice, str] = {"hybrid": "a hybrid", "large": "a large model", "small": "a small"}
