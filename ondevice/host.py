"""Models behind one door: opened when first asked for, one generation at a time, a line before it.

What the HTTP server, the JSON-RPC server and the desktop share; knows nothing of protocols.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from ondevice.closing import Closing
from ondevice.errors import OndeviceError, RequestError
from ondevice.nearest import closest
from ondevice.package import Package
from ondevice.runtime.answer import Message, Options, RawText
from ondevice.runtime.clock import Clock, system_clock

if TYPE_CHECKING:
    from ondevice.runtime.answer import Answer, Piece
    from ondevice.runtime.fallback.decision import Wish
    from ondevice.runtime.fallback.fallback import Fallback
    from ondevice.runtime.fallback.policy import Mode, Policy
    from ondevice.runtime.fallback.reply import Event, Proposal
    from ondevice.runtime.model import Model

T = TypeVar("T")

LONGEST_WAIT = 3600.0  # seconds that a `retry_after_s` never exceeds
_LOOK = 0.05  # seconds between two looks at whether the asker has gone


class BusyError(OndeviceError):
    """The line is full. `retry_after_s` is how long it should take until there is room."""

    def __init__(self, waiting: int, retry_after_s: float) -> None:
        super().__init__(f"{waiting} requests are waiting already; try again later")
        self.retry_after_s = retry_after_s


class GoneError(OndeviceError):
    """The asker has gone before its turn came; there is nobody to tell."""


@dataclass(frozen=True)
class Ask:
    """One question with everything that belongs to it; `model` "" is the first.

    `task`, `data_class`, `wish` and `schema` as in `ondevice.runtime.fallback.fallback.About`.
    `raw` is a text to continue in place of `messages`; for `Host.pieces` alone.
    """

    messages: tuple[Message, ...]
    options: Options = field(default_factory=Options)
    model: str = ""
    task: str = ""
    data_class: str = ""
    wish: Wish = "none"
    schema: dict[str, Any] | None = None
    raw: str | None = None


@dataclass(frozen=True)
class Stage:
    """Where a question is before its first token: `ahead` of it others in the line, or loading."""

    name: Literal["queued", "loading", "ready"]
    model: str
    ahead: int = 0


Tell = Callable[[Stage], None]
Consent = Callable[["Proposal"], bool]


@dataclass(frozen=True)
class Load:
    """How models are opened; values as of `ondevice.load`."""

    engine: str = "ort"
    threads: int | None = None
    context_length: int | None = None


class Host(Closing):
    """Models by name under one policy.

    `queue` questions may wait while one is answered. `keep_open` models stay in memory, the one
    used longest ago goes first. `open_model` is a seam for tests, `build` puts a loaded model under
    a policy (`ondevice.runtime.fallback.build.build`). Usable from any thread.
    """

    def __init__(
        self,
        packages: Sequence[Package],
        policy: Policy | None = None,
        *,
        load: Load = Load(),
        queue: int = 8,
        keep_open: int = 1,
        open_model: Callable[[Package], Fallback] | None = None,
        build: Callable[[Model, Policy], Fallback] | None = None,
        clock: Clock = system_clock,
    ) -> None:
        self.policy = policy
        self.turns = Turns(queue, clock)
        self._packages = {package.manifest.name: package for package in packages}
        self._load = load
        self._keep_open = max(1, keep_open)
        self._open_model = open_model or self._loaded
        self._build = build
        self._outdated: set[str] = set()  # open models that are under an earlier policy
        self._open: OrderedDict[str, Fallback] = OrderedDict()

    @property
    def packages(self) -> tuple[Package, ...]:
        """What can be asked for, in order; the first is the default."""
        return tuple(self._packages.values())

    @property
    def open_names(self) -> tuple[str, ...]:
        """Names of the models in memory, the one used last at the end."""
        return tuple(self._open)

    def package(self, name: str = "") -> Package:
        """The package of a name, "" for the first. Raises `RequestError` for an unknown one."""
        if not self._packages:
            raise RequestError('no model is installed; "ondevice pull" fetches one')
        name = name or next(iter(self._packages))
        if name not in self._packages:
            near = closest(name, list(self._packages))
            hint = f"did you mean {near!r}?" if near else f"here: {', '.join(self._packages)}"
            raise RequestError(f"no model {name!r}; {hint}")
        return self._packages[name]

    def offer(self, packages: Sequence[Package]) -> None:
        """Offer these from now on; a model that left is closed when no answer is being made."""
        self._packages = {package.manifest.name: package for package in packages}

    def set_policy(self, policy: Policy) -> None:
        """Answer under another policy from the next question on; open models stay in memory."""
        self.policy = policy
        self._outdated = set(self._open)

    def stream(
        self,
        ask: Ask,
        *,
        cancelled: threading.Event | None = None,
        consent: Consent | None = None,
        tell: Tell | None = None,
        mode: Mode | None = None,
    ) -> Turn[Event]:
        """The answer under the policy: some `Draft`s, then one `Final`.

        Takes a place in the line at once: raises `BusyError` when it is full, `RequestError` for
        an unknown model. Iterate it in one thread, and close it. Iterating raises what
        `Fallback.stream` does, `PackageError` or `EngineError` from opening the model, and
        `GoneError` when cancelled before its turn.
        """

        def events(fallback: Fallback, stop: Callable[[], bool]) -> Iterator[Event]:
            return fallback.stream(
                ask.messages,
                ask.options,
                task=ask.task,
                data_class=ask.data_class,
                schema=ask.schema,
                consent=consent,
                wish=ask.wish,
                should_stop=stop,
                mode=mode,
            )

        return self._turn(ask.model, events, cancelled, tell)

    def pieces(
        self,
        ask: Ask,
        *,
        cancelled: threading.Event | None = None,
        tell: Tell | None = None,
    ) -> Turn[Piece | Answer]:
        """The local model's tokens with their log-probabilities, then the `Answer`; no fallback.

        `ask.options.schema` is the schema here. Errors as of `stream`.
        """

        def pieces(fallback: Fallback, stop: Callable[[], bool]) -> Iterator[Piece | Answer]:
            prompt = ask.messages if ask.raw is None else RawText(ask.raw)
            with fallback.model.stream(prompt, ask.options, should_stop=stop) as stream:
                yield from stream
            yield stream.answer

        return self._turn(ask.model, pieces, cancelled, tell)

    def open(
        self,
        name: str = "",
        tell: Tell | None = None,
        *,
        cancelled: threading.Event | None = None,
    ) -> None:
        """Bring a model into memory now, when its turn comes; errors as of `stream`."""
        with self._turn(name, lambda *_: iter(()), cancelled, tell) as turn:
            for _ in turn:
                pass

    def close(self) -> None:
        """End the answer being made, wait for it, free all models; nothing is answered after."""
        self.turns.close()
        with self.turns.alone():
            while self._open:
                self._open.popitem()[1].close()

    def _turn(
        self,
        name: str,
        start: Callable[[Fallback, Callable[[], bool]], Iterator[Any]],
        cancelled: threading.Event | None,
        tell: Tell | None,
    ) -> Turn[Any]:
        package = self.package(name)
        cancelled = cancelled or threading.Event()
        ticket = self.turns.enter()
        return Turn(self._events(package, start, cancelled, tell, ticket), self.turns, ticket)

    def _events(
        self,
        package: Package,
        start: Callable[[Fallback, Callable[[], bool]], Iterator[Any]],
        cancelled: threading.Event,
        tell: Tell | None,
        ticket: Ticket,
    ) -> Iterator[Any]:
        name = package.manifest.name
        tell = tell or (lambda _: None)

        def stop() -> bool:
            return cancelled.is_set() or self.turns.closed

        with self.turns.taken(ticket, stop, lambda ahead: tell(Stage("queued", name, ahead))):
            fallback = self._fallback(package, tell)
            tell(Stage("ready", name))
            yield from start(fallback, stop)

    def _fallback(self, package: Package, tell: Tell) -> Fallback:
        """The open model of a package; called by whoever has the turn."""
        name = package.manifest.name
        for gone in [n for n, f in self._open.items() if f.model.package != self._packages.get(n)]:
            self._open.pop(gone).close()
        if name not in self._open:
            tell(Stage("loading", name))
            while len(self._open) >= self._keep_open:
                self._open.popitem(last=False)[1].close()
            self._open[name] = self._open_model(package)
        elif name in self._outdated:
            self._open[name] = self._under_policy(self._open[name].model)
        self._outdated.discard(name)
        self._open.move_to_end(name)
        return self._open[name]

    def _loaded(self, package: Package) -> Fallback:
        from ondevice.runtime.model import load

        how = self._load
        model = load(
            package,
            engine=how.engine,
            threads=how.threads,
            context_length=how.context_length,
        )
        return self._under_policy(model)

    def _under_policy(self, model: Model) -> Fallback:
        from ondevice.runtime.fallback import build
        from ondevice.runtime.fallback.policy import Policy

        return (self._build or build.build)(model, self.policy or Policy())


@dataclass(eq=False)
class Ticket:
    """A place in the line."""

    left: bool = False


class Turns:
    """One at a time, first come first served, `most` waiting; knows nothing of models."""

    def __init__(self, most: int, clock: Clock = system_clock) -> None:
        self.closed = False
        self._most = most
        self._clock = clock
        self._line: deque[Ticket] = deque()
        self._changed = threading.Condition()
        self._mean_s = 1.0  # of the turns so far, the recent ones weighing more

    @property
    def waiting(self) -> int:
        """How many wait for their turn."""
        return max(0, len(self._line) - 1)

    @property
    def busy(self) -> bool:
        """Whether an answer is being made."""
        return bool(self._line)

    def enter(self) -> Ticket:
        """Take a place at the end. Raises `BusyError` when the line is full."""
        with self._changed:
            if self.closed:
                raise RequestError("the server is closing; start it again")
            if len(self._line) > self._most:
                wait = min(LONGEST_WAIT, max(1.0, self._mean_s * len(self._line)))
                raise BusyError(self.waiting, wait)
            ticket = Ticket()
            self._line.append(ticket)
            return ticket

    def leave(self, ticket: Ticket) -> None:
        """Give a place back; a second call does nothing."""
        with self._changed:
            if not ticket.left:
                ticket.left = True
                self._line.remove(ticket)
                self._changed.notify_all()

    @contextmanager
    def taken(
        self, ticket: Ticket, gone: Callable[[], bool], tell: Callable[[int], None]
    ) -> Iterator[None]:
        """Wait for the turn, have it, give it back. Raises `GoneError` when `gone` before."""
        try:
            self._wait(ticket, gone, tell)
            start = self._clock()
            yield
            self._mean_s += 0.3 * (self._clock() - start - self._mean_s)
        finally:
            self.leave(ticket)

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until the line is empty, and let nobody in meanwhile."""
        with self._changed:
            while self._line:
                self._changed.wait()
            yield

    def close(self) -> None:
        """Let nobody in any more; those in the line are told to stop."""
        with self._changed:
            self.closed = True
            self._changed.notify_all()

    def _wait(self, ticket: Ticket, gone: Callable[[], bool], tell: Callable[[int], None]) -> None:
        told = 0
        while True:
            with self._changed:
                if ticket.left or gone():
                    raise GoneError("cancelled before its turn came")
                ahead = self._line.index(ticket)
                if not ahead:
                    return
                if ahead == told:
                    self._changed.wait(_LOOK)
                    continue
            told = ahead
            tell(ahead)


class Turn(Closing, Iterator[T]):
    """What one question gives, as it is made; keeps its place in the line until closed."""

    def __init__(self, events: Iterator[T], turns: Turns, ticket: Ticket) -> None:
        self._events = events
        self._turns = turns
        self._ticket = ticket

    def __next__(self) -> T:
        return next(self._events)

    def close(self) -> None:
        """End the answer here, from the thread that iterates it, and leave the line."""
        close = getattr(self._events, "close", None)
        if close is not None:
            close()
        self._turns.leave(self._ticket)
