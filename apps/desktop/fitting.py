"""A conversation to what a model is asked: its history, and passages of its documents with it.

Loads no model; reads a package's tokenizer to count with.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ondevice.desktop.records import Conversation, Message, Shown
from ondevice.package import Package
from ondevice.runtime import answer

if TYPE_CHECKING:
    from ondevice.desktop.store import Store
    from ondevice.runtime.tokenizer import Tokenizer

Count = Callable[[str], int]

MOST_PASSAGES = 64
_MARGIN = 64  # tokens of a chat template around the messages


@dataclass(frozen=True)
class Question:
    """What the model is asked, and the passages that are in it."""

    messages: tuple[answer.Message, ...]
    passages: tuple[Shown, ...] = ()


class Fitting:
    """Puts questions together; keeps the tokenizer used last."""

    def __init__(self, store: Store, context_length: int | None = None) -> None:
        self._store = store
        self._context_length = context_length
        self._lock = threading.Lock()
        self._tokenizer: tuple[Package, Tokenizer] | None = None

    def question(
        self, conversation: Conversation, history: Sequence[Message], package: Package, most: int
    ) -> Question:
        """The messages to send for a history that ends with the question.

        `most` tokens are to be left for the answer. Raises `PackageError` for a tokenizer that
        cannot be read. What is too long is dropped later, by `Options.truncate`.
        """
        asked = history[-1].content
        passages: tuple[Shown, ...] = ()
        if self._store.documents(conversation.id):
            count = self._counter(package)
            room = self._room(conversation, asked, package, most, count)
            asked, passages = self._with_passages(conversation.id, asked, room, count)
        messages = [*turns(history[:-1]), answer.Message("user", asked)]
        if conversation.system.strip():
            messages.insert(0, answer.Message("system", conversation.system))
        return Question(tuple(messages), passages)

    def _room(
        self, conversation: Conversation, asked: str, package: Package, most: int, count: Count
    ) -> int:
        """Tokens left for passages when the rest of the history is dropped."""
        from ondevice.desktop.passages import ROOM
        from ondevice.runtime.engine import limits_of

        context = limits_of(package.manifest, self._context_length).context_length
        taken = count(conversation.system) + count(asked) + min(most, context // 4) + _MARGIN
        return max(0, min(ROOM, context - taken))

    def _with_passages(
        self, conversation: str, asked: str, room: int, count: Count
    ) -> tuple[str, tuple[Shown, ...]]:
        from ondevice.desktop import passages

        kept = self._store.passages(conversation)
        ids = {one.name: one.document for one in kept}
        index = passages.Index([passages.Passage(p.name, p.page, p.number, p.text) for p in kept])
        used = passages.fit(index.rank(asked, MOST_PASSAGES), room, count)
        prompt = passages.prompt(asked, used) if used else asked
        return prompt, tuple(
            Shown(ids[p.document], p.document, p.page, p.number, p.text, p.score) for p in used
        )

    def _counter(self, package: Package) -> Count:
        from ondevice.runtime.tokenizer import Tokenizer

        with self._lock:
            if self._tokenizer is None or self._tokenizer[0] != package:
                self._tokenizer = (package, Tokenizer.read(package.tokenizer_file))
            tokenizer = self._tokenizer[1]
        return lambda text: len(tokenizer.encode(tokenizer.guard(text)))


def turns(history: Sequence[Message]) -> list[answer.Message]:
    """Questions with their answers, in order; a question that got none is left out."""
    made: list[answer.Message] = []
    asked: Message | None = None
    for message in history:
        if message.role == "user":
            asked = message
        elif asked is not None and message.content.strip():
            made += [
                answer.Message("user", asked.content),
                answer.Message("assistant", message.content),
            ]
            asked = None
    return made


def title_of(content: str) -> str:
    """A title for a conversation from its first question."""
    line = " ".join(content.split())
    if len(line) <= 60:
        return line
    return line[:60].rsplit(" ", 1)[0] + "…"
