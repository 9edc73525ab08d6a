"""Questions of the evaluation set as token ids to learn from, in the form evaluation asks them.

Knows prompts and batches; nothing about models or training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Tokenizer as Inner

from ondevice.errors import RequestError
from ondevice.export.source import TokenizerFiles
from ondevice.runtime.answer import Message
from ondevice.runtime.chat_template import ChatTemplate
from ondevice.runtime.evaluate.dataset import Example
from ondevice.runtime.tokenizer import Tokenizer

_SORTED = 8  # batches whose examples are sorted by length together


@dataclass(frozen=True)
class Lesson:
    """A question and its right answer as token ids; the answer ends with an end-of-answer token."""

    prompt: tuple[int, ...]
    answer: tuple[int, ...]

    @property
    def tokens(self) -> int:
        return len(self.prompt) + len(self.answer)


class Lessons:
    """Makes lessons with a checkpoint's tokenizer and chat template."""

    def __init__(self, files: TokenizerFiles) -> None:
        """Raises `RequestError` for a checkpoint without a chat template: it is not asked."""
        if files.chat_template is None or not files.eos_ids:
            raise RequestError("the checkpoint has no chat template; choose an instruction model")
        self._tokenizer = Tokenizer(Inner.from_str(files.tokenizer_json))
        # Templates spell one end of a turn; it is the first of the ids that end an answer.
        self._end = files.eos_ids[0]
        self._template = ChatTemplate(
            files.chat_template,
            bos=self._tokenizer.spelling(files.bos_id),
            eos=self._tokenizer.spelling(self._end),
        )

    def lesson(self, example: Example) -> Lesson:
        """The prompt as `runtime.model` makes it, and the reference answer."""
        messages = [Message("user", self._tokenizer.guard(example.prompt))]
        if example.system is not None:
            messages.insert(0, Message("system", self._tokenizer.guard(example.system)))
        prompt = self._tokenizer.encode(self._template.render(messages))
        answer = self._tokenizer.encode(self._tokenizer.guard(example.reference))
        return Lesson(tuple(prompt), (*answer, self._end))


def within(lessons: Sequence[Lesson], longest: int) -> list[Lesson]:
    """The lessons of at most `longest` tokens."""
    return [lesson for lesson in lessons if lesson.tokens <= longest]


def batches(
    lessons: Sequence[Lesson], size: int, seed: int, first_step: int = 0
) -> Iterator[list[Lesson]]:
    """Batches of one epoch after another for ever, from step `first_step` on.

    The order of an epoch depends on the seed and its number alone, so that a training that goes
    on sees what it would have seen. Neighbours have similar lengths: little is padding.
    """
    per_epoch = -(-len(lessons) // size)
    step = first_step
    while True:
        epoch = _epoch(lessons, size, np.random.default_rng([seed, step // per_epoch]))
        for batch in epoch[step % per_epoch :]:
            yield batch
            step += 1


def _epoch(lessons: Sequence[Lesson], size: int, chance: np.random.Generator) -> list[list[Lesson]]:
    shuffled = [lessons[index] for index in chance.permutation(len(lessons))]
    ordered: list[Lesson] = []
    for start in range(0, len(shuffled), size * _SORTED):
        ordered += sorted(shuffled[start : start + size * _SORTED], key=lambda one: one.tokens)
    cut = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    return [cut[index] for index in chance.permutation(len(cut))]
