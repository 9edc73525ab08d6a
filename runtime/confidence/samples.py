"""Answered examples as arrays: what a calibration is fitted to and judged on.

Knows examples and records; nothing about coefficients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import CalibrationError
from ondevice.runtime.confidence import features, texts
from ondevice.runtime.confidence.gate import failed_check
from ondevice.runtime.evaluate.dataset import Example
from ondevice.runtime.evaluate.records import Record

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Samples:
    """`n` answered examples.

    `right` (n,) of 0 and 1, `values` (n, features), `open` (n,) true where no check has failed
    the answer, hidden states (n, hidden) or None where a record has none. `groups` are the
    templates, an example without one is a group of its own.
    """

    ids: tuple[str, ...]
    prompts: tuple[str, ...]
    texts: tuple[str, ...]
    groups: tuple[str, ...]
    right: Floats
    values: Floats
    open: NDArray[np.bool_]
    prompt_hidden: Floats | None
    answer_hidden: Floats | None

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def has_hidden(self) -> bool:
        """Whether a probe could be fitted."""
        return self.prompt_hidden is not None and self.answer_hidden is not None

    @property
    def states(self) -> Floats:
        """Both hidden states side by side (n, 2 * hidden)."""
        assert self.prompt_hidden is not None and self.answer_hidden is not None
        return np.hstack([self.prompt_hidden, self.answer_hidden])

    def hidden(self, row: int) -> tuple[Floats, Floats] | tuple[None, None]:
        """Both hidden states of one answer, (hidden,) each."""
        if self.prompt_hidden is None or self.answer_hidden is None:
            return None, None
        return self.prompt_hidden[row], self.answer_hidden[row]

    def take(self, chosen: NDArray[np.intp] | NDArray[np.bool_]) -> Samples:
        """The samples at these indices, or where a mask is true."""
        index = np.arange(len(self))[chosen]

        def pick(of: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(of[i] for i in index)

        return Samples(
            pick(self.ids),
            pick(self.prompts),
            pick(self.texts),
            pick(self.groups),
            self.right[index],
            self.values[index],
            self.open[index],
            None if self.prompt_hidden is None else self.prompt_hidden[index],
            None if self.answer_hidden is None else self.answer_hidden[index],
        )


def from_records(examples: Sequence[Example], records: Sequence[Record]) -> Samples:
    """Samples of examples and their records in the same order.

    A failed call counts as an answer that failed its check. Raises `CalibrationError` for records
    without features, such as those of a cloud model, or of another version.
    """
    width = len(features.NAMES)
    for record in records:
        if not record.error and len(record.features) != width:
            raise CalibrationError(
                f"the answer to {record.id!r} has {len(record.features)} features instead of "
                f"{width}; give another --answers file, so that the answers are made again"
            )
    signals = np.array([r.features or (0.0,) * width for r in records]).reshape(-1, width)
    said = [texts.text_features(e.prompt, r.text) for e, r in zip(examples, records, strict=True)]
    return Samples(
        ids=tuple(e.id for e in examples),
        prompts=tuple(e.prompt for e in examples),
        texts=tuple(r.text for r in records),
        groups=tuple(e.template or f"id {e.id}" for e in examples),
        right=np.array([float(r.right) for r in records]),
        values=np.hstack([signals, np.array(said).reshape(len(records), -1)]),
        open=np.array([_is_open(r) for r in records], dtype=np.bool_),
        prompt_hidden=_hidden([r.prompt_hidden for r in records], records),
        answer_hidden=_hidden([r.answer_hidden for r in records], records),
    )


def _is_open(record: Record) -> bool:
    return not record.error and not failed_check(record.text, record.finish_reason)


def _hidden(states: list[tuple[float, ...]], records: Sequence[Record]) -> Floats | None:
    """All hidden states (n, hidden); None when an answered record has none. Failed calls: zeros."""
    sizes = {len(state) for state, r in zip(states, records, strict=True) if not r.error}
    if len(sizes) != 1 or sizes == {0}:
        return None
    zeros = (0.0,) * sizes.pop()
    return np.array([state or zeros for state in states])
