"""The evaluation set with both models' recorded answers, as arrays; and making them again.

Knows where answers lie and what they would cost; nothing about rules.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.routing import Outcomes, simulated_large
from ondevice.progress import Progress
from ondevice.runtime.cloud.prices import Prices
from ondevice.runtime.confidence.samples import Samples, from_records
from ondevice.runtime.evaluate import records
from ondevice.runtime.evaluate.collect import DeviceSubject, collect, question_hash, rechecked
from ondevice.runtime.evaluate.dataset import Example, read
from ondevice.runtime.evaluate.records import Record

Floats = NDArray[np.float64]

SET = Path(__file__).resolve().parent.parent / "recipes" / "evalset"
SPLITS = ("train", "threshold", "certify", "test", "ood")
SMALL, LARGE = "qwen2.5-coder-0.5b-instruct", "qwen2.5-coder-1.5b-instruct"
REAL = "Qwen 1.5B"
SIMULATED = {0.0: "simulated 97%", 0.5: "simulated 97%, correlated errors"}
PRICED_AS = "gpt-4o-mini"  # in prices.toml: 4 times as dear for output as for input
RETRIES = 0.02  # share of calls that are made twice and paid twice, an assumption
WATTS, KWH_USD = 15.0, 0.30  # of a laptop while it generates, and a household's price; assumptions
TOKEN_CHARACTERS = 4  # of a simulated answer, for which no tokens were counted


@dataclass(frozen=True, eq=False)
class Answers:
    """By split: examples, the small model's answered samples, and outcomes of each large one."""

    examples: Mapping[str, Sequence[Example]]
    small: Mapping[str, Samples]
    records: Mapping[str, Sequence[Record]]
    large: Mapping[tuple[str, str], tuple[Floats, Floats]]  # (large, split): right, price in USD

    @property
    def larges(self) -> list[str]:
        """Names of the large models that answered what the table needs."""
        names = dict.fromkeys(name for name, _ in self.large)
        return [name for name in names if all((name, split) in self.large for split in SPLITS[1:])]

    def outcomes(self, large: str, split: str) -> Outcomes:
        """What both models made of a split."""
        right, price = self.large[large, split]
        seconds = np.array([record.latency_s for record in self.records[split]])
        small = self.small[split]
        local = seconds * WATTS / 3.6e6 * KWH_USD
        return Outcomes(small.right, right, price * (1 + RETRIES), local, small.groups)


@dataclass(frozen=True)
class Part:
    """How a split was answered."""

    split: str
    tier: str
    examples: int
    small_accuracy: float
    small_compliant: float
    large_accuracy: float | None


def load(folder: Path = SET / "answers") -> Answers:
    """The committed answers, checked anew. Raises `SystemExit` when one is missing or stale."""
    examples = {split: read(SET / f"{split}.jsonl.gz") for split in SPLITS}
    small = {record.id: record for record in records.read(folder / "small.jsonl.gz")}
    large = {record.id: record for record in records.read(folder / "large.jsonl.gz")}
    given = {split: _matching(examples[split], small) for split in SPLITS}
    samples = {split: from_records(examples[split], given[split]) for split in SPLITS}
    found: dict[tuple[str, str], tuple[Floats, Floats]] = {}
    for split in SPLITS:
        if all(example.id in large for example in examples[split]):
            real = _matching(examples[split], large)
            right = np.array([float(record.right) for record in real])
            found[REAL, split] = right, _prices([(r.prompt_tokens, r.output_tokens) for r in real])
    for correlation, name in SIMULATED.items():
        for split in SPLITS:
            tokens = [
                (record.prompt_tokens, len(example.reference) // TOKEN_CHARACTERS + 1)
                for example, record in zip(examples[split], given[split], strict=True)
            ]
            seed = int.from_bytes(hashlib.sha256(f"{name} {split}".encode()).digest()[:4])
            right = simulated_large(samples[split].right, 0.97, correlation, seed)
            found[name, split] = right, _prices(tokens)
    return Answers(examples, samples, given, found)


def describe(answers: Answers) -> list[Part]:
    """Accuracy of both real models by split and tier."""
    found = []
    for split, examples in answers.examples.items():
        tiers = np.array([example.tier for example in examples])
        large = answers.large.get((REAL, split))
        compliant = np.array([record.compliant for record in answers.records[split]])
        for tier in ("all", *Counter(tiers)):
            inside = np.full(len(tiers), True) if tier == "all" else tiers == tier
            found.append(
                Part(
                    split,
                    tier,
                    int(inside.sum()),
                    float(answers.small[split].right[inside].mean()),
                    float(compliant[inside].mean()),
                    None if large is None else float(large[0][inside].mean()),
                )
            )
    return found


def rerun(folder: Path, threads: int, progress: Progress | None = None) -> None:
    """Make all answers again from the two models, line by line, and write them compressed."""
    from ondevice.runtime.model import load as load_model

    examples = [example for split in SPLITS for example in read(SET / f"{split}.jsonl.gz")]
    for name, model_name in (("small", SMALL), ("large", LARGE)):
        lines = folder / f"{name}.jsonl"
        with load_model(model_name, threads=threads, context_length=2048) as model:
            subject = DeviceSubject(model, hidden=name == "small")
            made = collect(subject, examples, lines, progress)
        records.write(folder / f"{name}.jsonl.gz", packed(made))


def packed(made: Sequence[Record]) -> list[Record]:
    """Records as they are committed: features to seven digits, hidden states to five bits of
    mantissa (1.6%), which halves the file, times to a millisecond."""
    return [
        replace(
            record,
            features=tuple(float(f"{value:.7g}") for value in record.features),
            prompt_hidden=_coarse(record.prompt_hidden),
            answer_hidden=_coarse(record.answer_hidden),
            ttft_s=round(record.ttft_s, 3),
            latency_s=round(record.latency_s, 3),
        )
        for record in made
    ]


def _coarse(values: Sequence[float]) -> tuple[float, ...]:
    fraction, exponent = np.frexp(np.asarray(values, np.float64))
    return tuple(np.ldexp(np.round(fraction * 64) / 64, exponent).tolist())


def _matching(examples: Sequence[Example], made: Mapping[str, Record]) -> list[Record]:
    stale = [
        example.id
        for example in examples
        if example.id not in made or made[example.id].question != question_hash(example)
    ]
    if stale:
        raise SystemExit(f"{len(stale)} answers are missing or stale, such as {stale[0]}: --rerun")
    return [rechecked(example, made[example.id]) for example in examples]


def _prices(tokens: Sequence[tuple[int, int]]) -> Floats:
    price = Prices().find(PRICED_AS)
    counts = np.array(tokens, np.float64)
    per_million = np.array([float(price.input_per_million), float(price.output_per_million)])
    costs: Floats = counts @ per_million / 1e6
    return costs
