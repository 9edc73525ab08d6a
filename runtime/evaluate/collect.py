"""Every example answered once by one subject, kept line by line: stopped, it goes on.

Knows subjects by one method; a package on the device is one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from ondevice.errors import RequestError
from ondevice.progress import Progress
from ondevice.runtime.answer import Options
from ondevice.runtime.confidence.features import features
from ondevice.runtime.engine import Hidden
from ondevice.runtime.evaluate import records
from ondevice.runtime.evaluate.checkers import judge
from ondevice.runtime.evaluate.dataset import Example
from ondevice.runtime.evaluate.records import Appender, Record
from ondevice.runtime.model import Model


class Subject(Protocol):
    """Whoever answers: a package on the device, an endpoint, a scripted one in tests."""

    @property
    def name(self) -> str:
        """Such as "device:smollm2"; the records' `subject`."""

    def answer(self, example: Example) -> Record:
        """One answer, checked. Failures of the subject are records with `error`."""


class DeviceSubject:
    """A model on this device.

    `options` apply but for `max_tokens`, which each example has. `hidden` keeps the hidden states
    that a probe learns from.
    """

    def __init__(self, model: Model, options: Options = Options(), *, hidden: bool = False) -> None:
        self._model = model
        self._options = options
        self._hidden = hidden

    @property
    def name(self) -> str:
        return f"device:{self._model.name}"

    def answer(self, example: Example) -> Record:
        options = replace(self._options, max_tokens=example.max_tokens)
        try:
            answer = self._model.generate(example.prompt, options, system=example.system)
        except RequestError as error:  # an empty or over-long prompt: no answer, and said so
            return failed(example, self.name, str(error))
        signals = answer.signals
        return replace(
            checked(example, self.name, answer.text),
            prompt_tokens=answer.prompt_tokens,
            output_tokens=len(answer.tokens),
            finish_reason=answer.finish_reason,
            ttft_s=answer.timings.ttft,
            latency_s=answer.timings.ttft + answer.timings.decode,
            features=tuple(features(answer.signals, answer.finish_reason).tolist()),
            prompt_hidden=_values(signals.prompt_hidden) if self._hidden else (),
            answer_hidden=_values(signals.answer_hidden) if self._hidden else (),
        )


def checked(example: Example, subject: str, text: str) -> Record:
    """A record of an answer's text with its verdict, and nothing measured yet."""
    verdict = judge(example.check, text)
    return Record(
        id=example.id,
        subject=subject,
        text=text,
        right=verdict.right,
        score=verdict.score,
        compliant=verdict.compliant,
        prompt_tokens=0,
        output_tokens=0,
        finish_reason="",
        ttft_s=0.0,
        latency_s=0.0,
        question=question_hash(example),
    )


def question_hash(example: Example) -> str:
    """Names what a subject is asked: prompt, instructions, schema and the longest answer."""
    asked = [example.system, example.prompt, example.schema, example.max_tokens]
    return hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:16]


def failed(example: Example, subject: str, error: str) -> Record:
    """A record of a call that gave no answer: not right, and labelled."""
    return replace(
        checked(example, subject, ""), right=False, score=0.0, compliant=False, error=error
    )


def collect(
    subject: Subject, examples: Sequence[Example], out: Path, progress: Progress | None = None
) -> list[Record]:
    """Records of all examples in their order; those that `out` has already are not made again.

    Kept answers are checked anew, so that a mended checker needs no new run. Raises
    `RequestError` when `out` cannot be read as records.
    """
    kept = {}
    if out.exists():
        kept = {r.id: r for r in records.read(out) if r.subject == subject.name}
    appender = Appender(out)
    found = []
    for number, example in enumerate(examples, start=1):
        record = kept.get(example.id)
        if record is None or record.question != question_hash(example):
            record = subject.answer(example)
            appender.add(record)
        found.append(rechecked(example, record))
        if progress is not None:
            progress(f"answering, {subject.name}", number, len(examples))
    return found


def rechecked(example: Example, record: Record) -> Record:
    """A kept record with the verdict of the checker as it is now."""
    if record.error:
        return record
    verdict = judge(example.check, record.text)
    return replace(record, right=verdict.right, score=verdict.score, compliant=verdict.compliant)


def _values(hidden: Hidden | None) -> tuple[float, ...]:
    return () if hidden is None else tuple(hidden.tolist())
