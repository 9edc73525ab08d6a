"""The three sets that a calibration needs: to fit on, to choose the threshold on, to certify on.

Knows examples; nothing about answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ondevice.errors import CalibrationError
from ondevice.runtime.evaluate import dataset
from ondevice.runtime.evaluate.dataset import Example

NAMES = ("train", "threshold", "certify")
SHARES = (0.4, 0.3, 0.3)
FEWEST = 30  # examples in each split
_ENDINGS = (".jsonl.gz", ".jsonl", ".csv")


@dataclass(frozen=True)
class Splits:
    """Examples by use; `ignored` are of other splits, such as "test"."""

    train: tuple[Example, ...]
    threshold: tuple[Example, ...]
    certify: tuple[Example, ...]
    ignored: int = 0

    @property
    def all(self) -> tuple[Example, ...]:
        """The examples of the three splits."""
        return (*self.train, *self.threshold, *self.certify)


def read(data: Path | Sequence[Path]) -> list[Example]:
    """Examples of one file, of several, or of the files named after the three splits in a folder.

    Raises `CalibrationError` or `RequestError` naming the file for what cannot be read, and for
    an id that two files have.
    """
    paths = [data] if isinstance(data, Path) else list(data)
    examples: list[Example] = []
    seen: dict[str, Path] = {}
    for path in (file for given in paths for file in _files(given)):
        for example in dataset.read(path):
            if example.id in seen:
                raise CalibrationError(
                    f"{seen[example.id]} and {path} both have an example {example.id!r}; ids have "
                    "to be unique"
                )
            seen[example.id] = path
            examples.append(example)
    if not examples:
        raise CalibrationError("there is no data to calibrate on; give --data FILE")
    return examples


def split(examples: Sequence[Example], seed: int = 0) -> Splits:
    """By the examples' own `split`, else by whole templates at random: 40%, 30%, 30%.

    Raises `CalibrationError` when a split is missing or has fewer than 30 examples.
    """
    named = {example.split for example in examples}
    if named & set(NAMES):
        missing = [name for name in NAMES if name not in named]
        if missing:
            raise CalibrationError(
                f"the data has a split {sorted(named & set(NAMES))[0]!r} but none called "
                f"{missing[0]!r}; name all three (train, threshold, certify), or none"
            )
        parts = [[e for e in examples if e.split == name] for name in NAMES]
    elif named - {""}:
        raise CalibrationError(
            f"the data's splits are {', '.join(sorted(map(repr, named)))}; call them train, "
            "threshold and certify, or leave the column empty"
        )
    else:
        parts = _by_template(examples, seed)
    for name, part in zip(NAMES, parts, strict=True):
        if len(part) < FEWEST:
            raise CalibrationError(
                f"the {name} split has {len(part)} examples of {len(examples)} in all; each of "
                f"the three needs at least {FEWEST}, and 300 to prove much: give more examples"
            )
    train, threshold, certify = (tuple(part) for part in parts)
    return Splits(train, threshold, certify, len(examples) - sum(map(len, parts)))


def _files(path: Path) -> Iterable[Path]:
    if not path.is_dir():
        return [path]
    found = []
    for name in NAMES:
        here = [path / f"{name}{end}" for end in _ENDINGS if (path / f"{name}{end}").is_file()]
        if not here:
            raise CalibrationError(f"{path} has no {name}.jsonl, {name}.jsonl.gz or {name}.csv")
        found.append(here[0])
    return found


def _by_template(examples: Sequence[Example], seed: int) -> list[list[Example]]:
    """Whole templates at random, each to the split that lacks most of its share."""
    groups: dict[str, list[Example]] = {}
    for example in examples:
        groups.setdefault(example.template or f"id {example.id}", []).append(example)
    members = list(groups.values())
    order = np.random.default_rng(seed).permutation(len(members))
    parts: list[list[Example]] = [[], [], []]
    for index in sorted(order, key=lambda i: -len(members[i])):
        lacking = [s * len(examples) - len(p) for s, p in zip(SHARES, parts, strict=True)]
        parts[int(np.argmax(lacking))] += members[index]
    return parts
