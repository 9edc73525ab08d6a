"""Records of one or several subjects as figures: shares, means, times, costs, comparisons.

Knows examples and their records; not who made them or how they are shown.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ondevice.errors import RequestError
from ondevice.runtime.evaluate import statistics
from ondevice.runtime.evaluate.dataset import Example
from ondevice.runtime.evaluate.records import Record
from ondevice.runtime.evaluate.statistics import Estimate, Spread

REFUSED = "refused"
"""How the `error` of an example begins that was not sent because of its data class."""


@dataclass(frozen=True)
class Group:
    """Figures of one subject on some of the examples; times in seconds, cost in USD.

    `errors` are calls without an answer, `refused` those of them that were not sent because of
    their data class; both count as wrong. `score` is the mean of 0..1. Times are of the answered
    examples, None where there is none. `cost_usd` is the sum.
    """

    name: str
    n: int
    right: int
    accuracy: Estimate
    compliance: Estimate
    score: Estimate
    errors: int
    refused: int
    ttft_s: Spread | None
    latency_s: Spread | None
    prompt_tokens: int
    output_tokens: int
    cost_usd: float
    cost_per_1000_usd: float


@dataclass(frozen=True)
class SubjectSummary:
    """All figures of one subject; the groups are in the order of the data set."""

    name: str
    identity: str
    overall: Group
    by_check: tuple[Group, ...]
    by_family: tuple[Group, ...]
    by_tier: tuple[Group, ...]


@dataclass(frozen=True)
class FamilyDifference:
    """The accuracy of `b` minus that of `a` on the `n` examples of one family."""

    name: str
    n: int
    difference: Estimate


@dataclass(frozen=True)
class Comparison:
    """Two subjects on the same examples. `difference` is the accuracy of `b` minus that of `a`.

    `p_value` is of McNemar's exact test; `p_holm` is adjusted for the number of comparisons.
    `by_family` has the families in the order of the data set, each with an interval of its own.
    """

    a: str
    b: str
    n: int
    both_right: int
    only_a_right: int
    only_b_right: int
    both_wrong: int
    difference: Estimate
    p_value: float
    p_holm: float
    by_family: tuple[FamilyDifference, ...] = ()


def summarize(
    name: str, identity: str, examples: Sequence[Example], records: Sequence[Record]
) -> SubjectSummary:
    """Figures of one subject. Raises `RequestError` when the records are not of these examples."""
    ordered = aligned(name, examples, records)

    def grouped(key: Callable[[Example], str]) -> tuple[Group, ...]:
        parts: dict[str, list[int]] = {}
        for index, example in enumerate(examples):
            parts.setdefault(key(example), []).append(index)
        return tuple(
            group(part, [examples[i] for i in places], [ordered[i] for i in places])
            for part, places in parts.items()
            if part
        )

    return SubjectSummary(
        name=name,
        identity=identity,
        overall=group("all", examples, ordered),
        by_check=grouped(lambda example: example.check.kind),
        by_family=grouped(lambda example: example.family),
        by_tier=grouped(lambda example: example.tier),
    )


def group(name: str, examples: Sequence[Example], records: Sequence[Record]) -> Group:
    """Figures of records that belong to the examples one by one; at least one."""
    n = len(records)
    right = sum(record.right for record in records)
    answered = [record for record in records if not record.error]
    cost = sum(record.cost_usd for record in records)
    return Group(
        name=name,
        n=n,
        right=right,
        accuracy=statistics.share(right, n),
        compliance=statistics.share(sum(record.compliant for record in records), n),
        score=statistics.mean([record.score for record in records], _templates(examples)),
        errors=n - len(answered),
        refused=sum(record.error.startswith(REFUSED) for record in records),
        ttft_s=statistics.spread([record.ttft_s for record in answered]),
        latency_s=statistics.spread([record.latency_s for record in answered]),
        prompt_tokens=sum(record.prompt_tokens for record in records),
        output_tokens=sum(record.output_tokens for record in records),
        cost_usd=cost,
        cost_per_1000_usd=1000 * cost / n,
    )


def aligned(name: str, examples: Sequence[Example], records: Sequence[Record]) -> list[Record]:
    """The records in the order of the examples.

    Raises `RequestError` when examples lack a record, records have no example, or two records
    are of one example.
    """
    if not examples:
        raise RequestError("there are no examples to evaluate; check --split and --limit")
    by_id = {record.id: record for record in records}
    wanted = {example.id for example in examples}
    missing = [example.id for example in examples if example.id not in by_id]
    extra = [record.id for record in records if record.id not in wanted]
    if missing or extra:
        parts = [f"{len(missing)} have no answer (first {missing[0]!r})"] if missing else []
        parts += [f"{len(extra)} answers are to others (first {extra[0]!r})"] if extra else []
        raise RequestError(
            f"{name} was not asked these {len(examples)} examples: {', '.join(parts)}; "
            "evaluate every model on the same set"
        )
    if len(by_id) != len(records):
        raise RequestError(f"{name} has two answers to one example; keep one of them")
    return [by_id[example.id] for example in examples]


def compare(
    examples: Sequence[Example], a: Sequence[Record], b: Sequence[Record], names: tuple[str, str]
) -> Comparison:
    """Two subjects' records of the same examples, paired.

    Raises `RequestError` when they were not asked the same.
    """
    first, second = aligned(names[0], examples, a), aligned(names[1], examples, b)
    pairs = [(x.right, y.right) for x, y in zip(first, second, strict=True)]
    only_a, only_b = pairs.count((True, False)), pairs.count((False, True))
    p_value = statistics.mcnemar(only_a, only_b)
    return Comparison(
        a=names[0],
        b=names[1],
        n=len(pairs),
        both_right=pairs.count((True, True)),
        only_a_right=only_a,
        only_b_right=only_b,
        both_wrong=pairs.count((False, False)),
        difference=statistics.mean([y - x for x, y in pairs], _templates(examples)),
        p_value=p_value,
        p_holm=p_value,
        by_family=_by_family(examples, [y - x for x, y in pairs]),
    )


def _by_family(
    examples: Sequence[Example], differences: Sequence[int]
) -> tuple[FamilyDifference, ...]:
    parts: dict[str, list[int]] = {}
    for index, example in enumerate(examples):
        parts.setdefault(example.family, []).append(index)
    return tuple(
        FamilyDifference(
            name,
            len(places),
            statistics.mean(
                [differences[i] for i in places], _templates([examples[i] for i in places])
            ),
        )
        for name, places in parts.items()
        if name
    )


def compare_all(
    examples: Sequence[Example], records: Mapping[str, Sequence[Record]]
) -> tuple[Comparison, ...]:
    """Every two subjects, the earlier one as `a`, with p-values adjusted for their number."""
    found = [
        compare(examples, records[a], records[b], (a, b))
        for a, b in itertools.combinations(records, 2)
    ]
    adjusted = statistics.holm([comparison.p_value for comparison in found])
    return tuple(replace(c, p_holm=p) for c, p in zip(found, adjusted, strict=True))


def _templates(examples: Sequence[Example]) -> list[str]:
    return [example.template for example in examples]
