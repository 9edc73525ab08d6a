"""`ondevice chat`: a conversation. Keeps the history and the keyboard; the model does the rest."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from types import FrameType
from typing import TYPE_CHECKING

from ondevice.cli import options, output, replies
from ondevice.cli.ask import answer_json, print_reply, speed
from ondevice.errors import OndeviceError, RequestError

if TYPE_CHECKING:
    from ondevice.runtime.answer import Message, Options
    from ondevice.runtime.fallback.fallback import Fallback
    from ondevice.runtime.model import Model

HELP = """\
/help           this text
/reset          forget the conversation
/system TEXT    answer under these instructions from now on; without TEXT: under none
/exit           leave (so does Ctrl-D)
Ctrl-C stops an answer."""


def chat(
    system: options.System = None,
    model: options.Model = None,
    max_tokens: options.MaxTokens = 512,
    temperature: options.Temperature = 0.0,
    top_k: options.TopK = 40,
    top_p: options.TopP = 0.95,
    min_p: options.MinP = 0.05,
    repetition_penalty: options.RepetitionPenalty = 1.0,
    seed: options.Seed = None,
    stop: options.Stop = None,
    engine: options.Engine = "ort",
    threads: options.Threads = None,
    context: options.Context = None,
    truncate: options.Truncate = True,
    json: options.Json = False,
    cloud: replies.Cloud = None,
    policy: replies.PolicyFile = None,
    task: replies.Task = "",
    data_class: replies.DataClass = "",
) -> None:
    """Talk with a model. /help lists the commands, Ctrl-C stops an answer, Ctrl-D ends.

    In a pipe, each line of stdin is a turn; with --json each answer is a line of JSON.
    Nothing leaves this machine unless a policy says so: see `ondevice route --help`.
    """
    rules = replies.policy_for(policy, cloud)
    import ondevice

    wanted = ondevice.Options(
        max_tokens=max_tokens,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        seed=seed,
        stop=tuple(stop or ()),
        truncate=truncate,
    )
    with ondevice.load(model, engine=engine, threads=threads, context_length=context) as loaded:
        if sys.stdin.isatty():
            output.note("/help lists the commands; Ctrl-D ends")
        fallback = None
        if rules is None:
            rules = replies.policy_of_calibrated(loaded)
        if rules is not None:
            from ondevice.runtime.fallback.build import build

            fallback = build(loaded, rules)
        about = replies.About(system, task, data_class, replies.wish_of(cloud))
        Chat(loaded, wanted, system, as_json=json, fallback=fallback, about=about).run()


@dataclass
class Chat:
    """One conversation with one model."""

    model: Model
    options: Options
    system: str | None = None
    as_json: bool = False
    history: list[Message] = field(default_factory=list)
    fallback: Fallback | None = None
    about: replies.About = field(default_factory=replies.About)

    def run(self) -> None:
        """Answer line after line until the input ends. Raises what the model raises in a pipe."""
        for line in _lines():
            if line.startswith("/"):
                if not self.command(line):
                    return
            elif line.strip():
                self.turn(line)

    def command(self, line: str) -> bool:
        """Obey a line that begins with `/`; false when it ends the conversation."""
        name, _, rest = line.strip().partition(" ")
        if name in ("/exit", "/quit", "/bye"):
            return False
        if name == "/reset":
            self.history.clear()
            output.note("the conversation is forgotten")
        elif name == "/system":
            self.system = rest.strip() or None
            output.note("new instructions" if self.system else "no instructions")
        elif name == "/help":
            print(HELP)
        else:
            print(f"ondevice: unknown command {name}; /help lists them", file=sys.stderr)
        return True

    def turn(self, text: str) -> None:
        """Answer one message and remember both; a message that fails is not remembered."""
        from ondevice.runtime.answer import Message

        asked = [*self.history, Message("user", text)]
        try:
            answer = self._answer(asked)
        except RequestError as error:
            if not sys.stdin.isatty():
                raise
            print(f"ondevice: {error} (/reset forgets the conversation)", file=sys.stderr)
            return
        if answer.text:
            self.history = [*asked, Message("assistant", answer.text)]
        if answer.dropped_messages:
            output.note(f"the oldest {answer.dropped_messages} messages no longer fit the context")

    def _answer(self, asked: list[Message]) -> _Said:
        if self.fallback is not None:
            return self._reply(self.fallback, asked)
        with _Interrupt() as interrupt:
            stream = self.model.stream(
                asked, self.options, system=self.system, should_stop=interrupt.requested
            )
            for piece in stream:
                if not self.as_json:
                    output.print_piece(piece.text)
        answer = stream.answer
        if self.as_json:
            output.print_json(answer_json(answer), one_line=True)
        else:
            print(flush=True)
            stopped = answer.finish_reason == "cancelled"
            output.note("stopped" if stopped else speed(answer))
        return _Said(answer.text, answer.dropped_messages)

    def _reply(self, fallback: Fallback, asked: list[Message]) -> _Said:
        """Answer under a policy."""
        about = replace(self.about, system=self.system)
        with _Interrupt() as interrupt:
            reply = print_reply(
                fallback,
                asked,
                self.options,
                about,
                "json" if self.as_json else "stream",
                interrupt.requested,
            )
        return _Said(reply.text, reply.local.dropped_messages if reply.local is not None else 0)


@dataclass(frozen=True)
class _Said:
    """What a turn leaves behind."""

    text: str
    dropped_messages: int


class _Interrupt:
    """Turns the first Ctrl-C into a request to stop; a second one raises as usual."""

    def __init__(self) -> None:
        self._asked = False

    def requested(self) -> bool:
        return self._asked

    def __enter__(self) -> _Interrupt:
        self._previous = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._previous)

    def _ask(self, number: int, frame: FrameType | None) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True


def _lines() -> Iterator[str]:
    """Lines of the person at the keyboard, or of the pipe, until they end."""
    at_keyboard = sys.stdin.isatty()
    if at_keyboard:
        with contextlib.suppress(ImportError):  # Windows has no readline
            import readline  # noqa: F401
    while True:
        try:
            line = input("> " if at_keyboard else "")
        except EOFError:
            if at_keyboard:
                print()
            return
        except KeyboardInterrupt:
            if not at_keyboard:
                raise
            print()
            output.note("Ctrl-D ends the conversation")
            continue
        except UnicodeDecodeError as error:
            raise RequestError("stdin is not valid UTF-8") from error
        if any("\ud800" <= character <= "\udfff" for character in line):
            raise OndeviceError("that line is not valid UTF-8")
        yield line
