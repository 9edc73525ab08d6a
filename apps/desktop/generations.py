"""Answers on their way: one thread for each, from the question to the message that is kept.

Knows the host, the history and who listens; nothing of HTTP.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ondevice.desktop.answers import details_of, failed
from ondevice.desktop.consents import Consents, shown
from ondevice.desktop.database import StoreError
from ondevice.desktop.feed import Feed
from ondevice.desktop.fitting import Fitting, title_of
from ondevice.desktop.records import Conversation, Message, State, new_id, now
from ondevice.desktop.settings import Settings
from ondevice.desktop.store import NotFound, Store
from ondevice.errors import OndeviceError, RequestError
from ondevice.host import Ask, BusyError, GoneError, Host, Stage
from ondevice.package import Package
from ondevice.runtime.answer import Options
from ondevice.runtime.clock import Clock, system_clock
from ondevice.runtime.fallback.reply import Draft, Final, Reply

if TYPE_CHECKING:
    from ondevice.runtime.fallback.decision import Wish
    from ondevice.runtime.fallback.policy import Mode
    from ondevice.runtime.fallback.reply import Proposal

LONGEST_QUESTION = 1_000_000  # characters; far above any context
SAVE_EVERY_S = 1.0
_END_S = 10.0  # that an answer has to end when the window closes

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class Generation:
    """One answer that is being made. `stopped` by the person, `left` when the window has gone."""

    conversation: str
    question: Message
    answer: Message
    wish: Wish
    instead_of: Message | None = None
    id: str = field(default_factory=new_id)
    feed: Feed = field(default_factory=Feed)
    cancelled: threading.Event = field(default_factory=threading.Event)
    left: bool = False
    loaded: bool = False
    text: str = ""
    saved_at: float = 0.0

    def leave(self) -> None:
        """The reader has gone: end the answer and keep what there is of it."""
        self.left = True
        self.cancelled.set()


class Generations:
    """All answers that are being made. Usable from any thread."""

    def __init__(
        self,
        host: Host,
        store: Store,
        fitting: Fitting,
        settings: Callable[[], Settings],
        package: Callable[[str], Package],
        consents: Consents,
        clock: Clock = system_clock,
    ) -> None:
        self._host = host
        self._store = store
        self._fitting = fitting
        self._settings = settings
        self._package = package
        self._consents = consents
        self._clock = clock
        self._lock = threading.Lock()
        self._running: dict[str, tuple[Generation, threading.Thread]] = {}

    def ask(self, conversation: str, content: str, wish: Wish = "none") -> Generation:
        """Begin to answer a question; its events are in the `feed`.

        Raises `NotFound`, or `RequestError` for an empty question and when an answer is being
        made in this conversation. Whatever goes wrong later is told in the feed.
        """
        here = self._store.conversation(conversation)
        _check(content)
        made = Generation(
            conversation,
            Message(new_id(), "user", content, now()),
            Message(new_id(), "assistant", "", now(), "interrupted"),
            wish,
        )
        self._start(made, lambda: self._keep_question(made, here))
        return made

    def regenerate(self, conversation: str, wish: Wish = "none") -> Generation:
        """Begin to answer the last question anew; errors as of `ask`.

        The earlier answer stays until there is another one.
        """
        self._store.conversation(conversation)
        messages = self._store.messages(conversation)
        question = next((one for one in reversed(messages) if one.role == "user"), None)
        if question is None:
            raise RequestError("there is no question yet to answer again")
        last = messages[-1] if messages[-1].role == "assistant" else None
        made = Generation(
            conversation,
            question,
            Message(new_id(), "assistant", "", now(), "interrupted"),
            wish,
            instead_of=last,
        )
        self._start(made, lambda: None)
        return made

    def cancel(self, id: str) -> None:
        """Stop an answer; the text so far stays. One that has ended is no error."""
        with self._lock:
            if id in self._running:
                self._running[id][0].cancelled.set()

    def stop_in(self, conversation: str) -> None:
        """Stop what is being made in a conversation, and wait for its end."""
        with self._lock:
            found = [e for e in self._running.values() if e[0].conversation == conversation]
        for generation, thread in found:
            generation.leave()
            thread.join(_END_S)

    def close(self) -> None:
        """End all answers and keep what there is of them."""
        with self._lock:
            running = list(self._running.values())
        for generation, _ in running:
            generation.leave()
        for _, thread in running:
            thread.join(_END_S)

    def _keep_question(self, made: Generation, here: Conversation) -> None:
        # Both at once: killed in mid-answer, the next start finds the question and a beginning.
        self._store.add(made.conversation, made.question, made.answer)
        if not here.title:
            try:
                self._store.change(made.conversation, title=title_of(made.question.content))
            except StoreError:
                return  # a full disk: `Store.problem` tells of it

    def _start(self, made: Generation, first: Callable[[], None]) -> None:
        thread = threading.Thread(target=self._run, args=(made,), name="answer", daemon=True)
        with self._lock:
            if any(one.conversation == made.conversation for one, _ in self._running.values()):
                raise RequestError("an answer is being made in this conversation; stop it first")
            self._running[made.id] = (made, thread)
        try:
            first()
            made.feed.tell("started", generation=made.id, user=made.question)
            thread.start()
        except BaseException:
            self._forget(made)
            raise

    def _forget(self, made: Generation) -> None:
        with self._lock:
            self._running.pop(made.id, None)

    def _run(self, made: Generation) -> None:
        error, retry = "", None
        try:
            try:
                self._answer(made)
            except GoneError:
                self._keep(made, replace(made.answer, content=made.text, state=_ended(made)))
        except BusyError as busy:
            error, retry = str(busy), busy.retry_after_s
        except OndeviceError as problem:
            error = str(problem)
        except Exception as bug:
            _log.exception("an answer failed")
            error = f"a bug in ondevice ({type(bug).__name__}); please report it"
        try:
            if error:
                self._fail(made, error, retry)
        finally:
            self._forget(made)
            made.feed.end()

    def _answer(self, made: Generation) -> None:
        conversation = self._store.conversation(made.conversation)
        settings = self._settings()
        package = self._package(conversation.model)
        history = self._history(made)
        fitted = self._fitting.question(conversation, history, package, settings.max_tokens)
        made.answer = replace(made.answer, model=package.manifest.name, passages=fitted.passages)
        if fitted.passages:
            made.feed.tell("passages", passages=fitted.passages)
        ask = Ask(
            fitted.messages,
            Options(
                max_tokens=settings.max_tokens, temperature=settings.temperature, truncate=True
            ),
            model=package.manifest.name,
            wish=made.wish,
        )
        with self._host.stream(
            ask,
            cancelled=made.cancelled,
            consent=lambda proposal: self._agrees(made, proposal),
            tell=lambda stage: _tell_stage(made, stage),
            mode=self._mode(),
        ) as turn:
            for event in turn:
                if isinstance(event, Draft):
                    self._draft(made, event)
                else:
                    self._finish(made, event)

    def _mode(self) -> Mode | None:
        """Shown as it is made, even where the cloud may replace it: a person waits less."""
        policy = self._host.policy
        return None if policy is not None and policy.mode == "peek" else "revise"

    def _history(self, made: Generation) -> list[Message]:
        history = self._store.messages(made.conversation)
        at = next((n for n, one in enumerate(history) if one.id == made.question.id), None)
        if at is None:
            raise NotFound("this conversation is not there any more")
        return history[: at + 1]

    def _agrees(self, made: Generation, proposal: Proposal) -> bool:
        return self._consents.ask(
            lambda id: made.feed.tell("consent", id=id, proposal=shown(proposal)),
            made.cancelled.is_set,
        )

    def _draft(self, made: Generation, draft: Draft) -> None:
        made.text += draft.text
        made.feed.tell("token", text=draft.text, provisional=draft.provisional)
        if self._clock() - made.saved_at >= SAVE_EVERY_S and made.instead_of is None:
            self._store.put(made.conversation, replace(made.answer, content=made.text))
            made.saved_at = self._clock()

    def _finish(self, made: Generation, final: Final) -> None:
        reply = final.reply
        local_end = reply.source == "device" and _was_cancelled(reply)
        message = replace(
            made.answer,
            content=reply.text,
            state=_ended(made) if local_end else "complete",
            details=details_of(reply, loaded=made.loaded),
        )
        if reply.cloud is not None:
            message = replace(message, model=reply.cloud.model)
        self._keep(made, message, replaces=final.replaces)

    def _keep(self, made: Generation, message: Message, *, replaces: bool = False) -> None:
        """Write the message and tell it; an earlier answer only gives way to one with text."""
        earlier = made.instead_of
        if earlier is not None and (made.left or not message.content):
            message, replaces = earlier, True
        elif earlier is not None:
            self._store.put(made.conversation, message, instead_of=earlier.id)
        else:
            self._store.put(made.conversation, message)
        try:
            conversation = self._store.conversation(made.conversation)
        except (NotFound, StoreError):
            return  # deleted meanwhile
        made.feed.tell(
            "final",
            message=message,
            replaces=replaces,
            conversation=conversation,
            problem=self._store.problem,
        )

    def _fail(self, made: Generation, error: str, retry: float | None) -> None:
        if made.instead_of is None:
            message = replace(made.answer, content=made.text, state="failed", details=failed(error))
            try:
                self._store.put(made.conversation, message)
            except StoreError as problem:
                error = f"{error}; {problem}"
        made.feed.tell("error", message=error, retry_after_s=retry)


def _check(content: str) -> None:
    if not content.strip():
        raise RequestError("the question is empty; write one")
    if len(content) > LONGEST_QUESTION:
        raise RequestError(
            f"the question has {len(content):,} characters; drop long texts in as a file"
        )


def _tell_stage(made: Generation, stage: Stage) -> None:
    made.loaded = made.loaded or stage.name == "loading"
    made.feed.tell("stage", name=stage.name, ahead=stage.ahead)


def _ended(made: Generation) -> State:
    return "interrupted" if made.left or not made.cancelled.is_set() else "cancelled"


def _was_cancelled(reply: Reply) -> bool:
    return reply.local is not None and reply.local.finish_reason == "cancelled"
