"""A package ready to answer: conversation to prompt, generation, and a measured answer.

The public face of the runtime. Knows nothing of how an engine computes.
"""

from __future__ import annotations

import inspect
import threading
from bisect import bisect_left
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from weakref import WeakSet

from ondevice.closing import Closing
from ondevice.errors import RequestError, TooLongError
from ondevice.package import Package, open_package
from ondevice.runtime.answer import Answer, Message, Options, Piece, RawText
from ondevice.runtime.chat_template import ChatTemplate
from ondevice.runtime.clock import Clock, system_clock
from ondevice.runtime.constrain import Grammars, Mask
from ondevice.runtime.engine import Engine
from ondevice.runtime.generate import Context, Generation, require_fit
from ondevice.runtime.tokenizer import Tokenizer, require_unicode

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Prompt:
    """Token ids of a conversation, and how many of its messages were dropped to make it fit."""

    tokens: tuple[int, ...]
    dropped_messages: int = 0


class Model(Closing):
    """An engine, a tokenizer and a chat template under one name.

    Safe to use from several threads: one generation runs at a time, others wait for it. The KV
    cache is kept between answers, so a conversation that goes on computes only what is new.
    Without a chat template the messages, parted by empty lines, are a text to continue. In any
    case what messages say is text: a control token spelled in one is read as its letters.
    """

    def __init__(
        self,
        engine: Engine,
        tokenizer: Tokenizer,
        *,
        name: str,
        template: ChatTemplate | None = None,
        eos_ids: Sequence[int] = (),
        package: Package | None = None,
        load_s: float = 0.0,
        clock: Clock = system_clock,
    ) -> None:
        self.engine = engine
        self.tokenizer = tokenizer
        self.name = name
        self.package = package
        self.load_s = load_s
        self.clock = clock
        self._template = template
        self._eos_ids = tuple(eos_ids)
        self._context = Context(engine)
        self._turn = _Turn()
        self._streams: WeakSet[Stream] = WeakSet()
        self._closed = False
        self._grammars: Grammars | None = None

    def generate(
        self,
        prompt: str | Sequence[Message],
        options: Options = Options(),
        *,
        system: str | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Answer:
        """The whole answer to a prompt or a conversation.

        `should_stop` is asked after every token, and every 512 tokens of the prompt; the answer
        so far then comes back as "cancelled". Raises `RequestError` for a prompt that is
        empty, not Unicode, or too long, for a conversation that the model does not take, and for
        a schema that cannot be enforced.
        """
        with self.stream(prompt, options, system=system, should_stop=should_stop) as stream:
            for _ in stream:
                pass
        return stream.answer

    def stream(
        self,
        prompt: str | Sequence[Message] | RawText,
        options: Options = Options(),
        *,
        system: str | None = None,
        should_stop: Callable[[], bool] | None = None,
    ) -> Stream:
        """The answer as it is made: iterate for `Piece`s, afterwards read `.answer`.

        Arguments and errors as of `generate`; a `RawText` is continued. The model is taken with
        the first piece and given back at the end, by `close`, or by leaving a `with` block.
        """
        start = self.clock()
        prepared = self._prepared(prompt, system, options)
        mask = None if options.schema is None else self._mask(options.schema)
        generation = Generation(
            self._context,
            self.tokenizer,
            prepared.tokens,
            options,
            eos_ids=self._eos_ids,
            clock=self.clock,
            should_stop=should_stop,
            tokenize_s=self.clock() - start,
            mask=mask,
        )
        stream = Stream(self, generation, prepared.dropped_messages)
        self._streams.add(stream)
        return stream

    def _prepared(
        self, prompt: str | Sequence[Message] | RawText, system: str | None, options: Options
    ) -> Prompt:
        if not isinstance(prompt, RawText):
            return self.prepare(conversation(prompt, system), options)
        require_unicode(prompt.content, "the text")
        tokens = self.tokenizer.encode(self.tokenizer.guard(prompt.content), add_special=True)
        self._require_known(tokens)
        return Prompt(tuple(tokens))

    def prepare(self, messages: Sequence[Message], options: Options = Options()) -> Prompt:
        """Token ids of a conversation, the oldest messages dropped if `options` allow it.

        System messages stay, and what is left begins with a user's. Raises `RequestError` when
        it does not fit or when an id is outside the model's vocabulary.
        """
        limits = self.engine.limits
        tokens = self._encode(messages)
        dropped = 0
        room = min(options.max_tokens, limits.context_length // 4)
        if options.truncate and len(tokens) + room > limits.context_length:
            messages, dropped = self._truncated(messages, limits.context_length - room)
            tokens = self._encode(messages)
            if len(tokens) >= limits.context_length:
                raise TooLongError(
                    f"the last message, with the system message, has {len(tokens)} tokens; the "
                    f"context holds {limits.context_length} with the answer: shorten it"
                )
        self._require_known(tokens)
        return Prompt(tuple(tokens), dropped)

    def close(self) -> None:
        """Wait for a generation in another thread to end, end one of this thread, free memory."""
        if self._turn.is_mine:
            for stream in list(self._streams):
                stream.close()
        with self._turn.taken():
            if not self._closed:
                self._closed = True
                self.engine.close()

    def _require_known(self, tokens: Sequence[int]) -> None:
        """Raise `RequestError` for a prompt that does not fit or that the model cannot read."""
        limits = self.engine.limits
        require_fit(len(tokens), limits.context_length)
        if max(tokens) >= limits.vocab_size:
            raise RequestError(
                f"the tokenizer of {self.name} gives token {max(tokens)} for this prompt, the "
                f"model knows {limits.vocab_size}; use a package with the right tokenizer"
            )

    def _mask(self, schema: str) -> Mask:
        if self._grammars is None:
            size = self.engine.limits.vocab_size
            self._grammars = Grammars(self.tokenizer.to_json(), size, self._eos_ids)
        return self._grammars.mask(schema)

    def _encode(self, messages: Sequence[Message]) -> list[int]:
        guarded = [replace(m, content=self.tokenizer.guard(m.content)) for m in messages]
        if self._template is None:
            text = "\n\n".join(message.content for message in guarded)
            return self.tokenizer.encode(text, add_special=True)
        return self.tokenizer.encode(self._template.render(guarded))

    def _truncated(self, messages: Sequence[Message], most: int) -> tuple[Sequence[Message], int]:
        """The longest end of a conversation with at most `most` tokens, or its last message."""
        turns = [m for m in messages if m.role != "system"]
        system = [m for m in messages if m.role == "system"]
        starts = [at for at, message in enumerate(turns) if message.role == "user"]
        # More dropped, fewer tokens: found by halving, not by encoding every ending.
        first = bisect_left(
            starts, True, key=lambda start: len(self._encode([*system, *turns[start:]])) <= most
        )
        start = starts[min(first, len(starts) - 1)]
        return [*system, *turns[start:]], start


class Stream(Closing, Iterator[Piece]):
    """The pieces of one answer; made by `Model.stream`."""

    def __init__(self, model: Model, generation: Generation, dropped_messages: int) -> None:
        self._model = model
        self._generation = generation
        self._dropped_messages = dropped_messages
        self._pieces = _pieces(model, generation)

    def __next__(self) -> Piece:
        return next(self._pieces)

    def close(self) -> None:
        """End the answer here; `.answer` is what there is of it."""
        self._pieces.close()

    @property
    def answer(self) -> Answer:
        """The finished or cancelled answer. Raises `RuntimeError` before the stream's end."""
        if inspect.getgeneratorstate(self._pieces) != inspect.GEN_CLOSED:
            raise RuntimeError("iterate the stream to its end, or close it, to have its answer")
        done = self._generation
        return Answer(
            text=done.text,
            tokens=tuple(done.tokens),
            prompt_tokens=len(done.prompt),
            finish_reason=done.finish_reason,
            model=self._model.name,
            timings=done.timings,
            load_s=self._model.load_s,
            dropped_messages=self._dropped_messages,
            cached_tokens=done.cached_tokens,
            signals=done.signals,
        )


class _Turn:
    """Whose turn it is to use the model."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owner: int | None = None

    @property
    def is_mine(self) -> bool:
        return self._owner == threading.get_ident()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Wait for the turn and hold it. A thread that holds it already would wait for ever."""
        if self.is_mine:
            raise RequestError(
                "an earlier answer of this model is still being streamed in this thread; "
                "read it to its end or close it first"
            )
        with self._lock:
            self._owner = threading.get_ident()
            try:
                yield
            finally:
                self._owner = None


def _pieces(model: Model, generation: Generation) -> Generator[Piece, None, None]:
    # No method of Stream: a stream that is dropped half read must end at once, and give the turn
    # back, which a reference to itself would delay.
    with model._turn.taken():
        if model._closed:
            raise RequestError(f"{model.name} is closed; load it again")
        yield from generation


def load(
    package: str | Path | Package | None = None,
    *,
    engine: str = "ort",
    threads: int | None = None,
    context_length: int | None = None,
) -> Model:
    """Open a package: a name in the store, a path, or None for the default model.

    `threads` None takes the measured best count. Raises `PackageError` or `EngineError` when it
    cannot be used.
    """
    from ondevice.runtime.engines import open_engine

    start = system_clock()
    found = _find(package)
    tokenizer = Tokenizer.read(found.tokenizer_file)
    text = found.manifest.text
    source = found.chat_template()
    template = None
    if source is not None:
        bos = tokenizer.spelling(text.bos_id)
        eos = tokenizer.spelling(text.eos_ids[0] if text.eos_ids else None)
        template = ChatTemplate(source, bos=bos, eos=eos)
    opened = open_engine(found, engine, threads=threads, context_length=context_length)
    return Model(
        opened,
        tokenizer,
        name=found.manifest.name,
        template=template,
        eos_ids=text.eos_ids,
        package=found,
        load_s=system_clock() - start,
    )


def conversation(prompt: str | Sequence[Message], system: str | None = None) -> list[Message]:
    """A prompt or a list of messages as a checked conversation that ends with the user.

    Raises `RequestError` for an empty prompt, invalid Unicode, an unknown role, a second
    system message, or a last message that is not the user's.
    """
    messages = [Message("user", prompt)] if isinstance(prompt, str) else list(prompt)
    if system is not None:
        if any(message.role == "system" for message in messages):
            raise RequestError("the conversation has a system message already; give one of both")
        messages.insert(0, Message("system", system))
    for message in messages:
        if message.role not in ROLES:
            raise RequestError(f"unknown role {message.role!r}; known are {', '.join(ROLES)}")
        require_unicode(message.content, f"the {message.role} message")
    if not messages or messages[-1].role != "user":
        raise RequestError("the conversation does not end with a user message; add the question")
    if not messages[-1].content.strip():
        raise RequestError("the prompt is empty; write a question or an instruction")
    return messages


def _find(package: str | Path | Package | None) -> Package:
    if isinstance(package, Package):
        return package
    if isinstance(package, Path):
        return open_package(package)
    from ondevice import store

    return store.find(package)
