"""One request that waits for the model: its place in the line, its tokens, its cancellation.

Runs in a thread of its own; knows the host and how to send, not the connection's state.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from ondevice.errors import OndeviceError
from ondevice.host import Ask, Host, Stage, Turn
from ondevice.runtime.clock import Clock, system_clock
from ondevice.runtime.fallback.reply import Draft
from ondevice.stdio import protocol, wire
from ondevice.stdio.wire import Id, Json, WireError

if TYPE_CHECKING:
    from ondevice.runtime.fallback.reply import Event, Proposal

Send = Callable[[Json], None]
AskConsent = Callable[["Job", "Proposal"], bool]

_log = logging.getLogger(__name__)


class Job:
    """A `chat` or `load` on its way; answered exactly once.

    `consent` asks the person at the other end, None where there is nobody to ask.
    """

    def __init__(
        self,
        id: Id,
        host: Host,
        send: Send,
        consent: AskConsent | None = None,
        clock: Clock = system_clock,
    ) -> None:
        self.id = id
        self.cancelled = threading.Event()
        self._host = host
        self._send = send
        self._consent = consent
        self._clock = clock
        self._began = clock()
        self._lock = threading.Lock()
        self._loading: Stage | None = None
        self._loading_since = 0.0
        self._loaded_s = 0.0

    def chat(self, ask: Ask) -> Callable[[], None]:
        """Take a place in the line at once; what is returned makes the answer. Raises `WireError`.

        That is here, before the thread begins, so that answers come in the order of requests.
        """
        consent = self._consent
        try:
            turn = self._host.stream(
                ask,
                cancelled=self.cancelled,
                consent=None if consent is None else lambda proposal: consent(self, proposal),
                tell=self._tell,
            )
        except OndeviceError as error:
            raise protocol.error_of(error) from error
        return lambda: self._answer(lambda: self._read(turn))

    def load(self, model: str) -> Callable[[], None]:
        """What is returned brings a model into memory."""

        def open_model() -> Json:
            name = self._host.package(model).manifest.name
            self._host.open(name, self._tell, cancelled=self.cancelled)
            return protocol.loaded_json(name, self._loaded_s)

        return lambda: self._answer(open_model)

    def tick(self) -> None:
        """Say again that the model is loading, so that a person sees that it goes on."""
        with self._lock:
            if self._loading is not None:
                self._send_stage(self._loading)

    def _answer(self, make: Callable[[], Json]) -> None:
        """Send what `make` gives, or what went wrong."""
        try:
            message = wire.result(self.id, make())
        except OndeviceError as error:
            message = wire.failure(self.id, protocol.error_of(error))
        except MemoryError:
            message = wire.failure(self.id, _NO_MEMORY)
        except Exception as error:  # one answer's bug must not end the others
            _log.exception("a request failed")
            message = wire.failure(self.id, bug(error))
        with self._lock:
            self._loading = None  # nothing is told of a request after its answer
            self._send(message)

    def _read(self, turn: Turn[Event]) -> Json:
        with turn:
            for event in turn:
                if not isinstance(event, Draft):
                    return protocol.answer_json(event.reply, self._clock() - self._began)
                token = protocol.token_json(self.id, event.text, event.provisional)
                self._send(wire.notification("$/token", token))
        raise AssertionError("an answer ended without its final event")

    def _tell(self, stage: Stage) -> None:
        with self._lock:
            if stage.name == "loading":
                self._loading, self._loading_since = stage, self._clock()
            elif self._loading is not None:
                self._loading, self._loaded_s = None, self._clock() - self._loading_since
            self._send_stage(stage)

    def _send_stage(self, stage: Stage) -> None:
        params = protocol.stage_json(self.id, stage, self._clock() - self._began)
        self._send(wire.notification("$/stage", params))


_NO_MEMORY = WireError(wire.UNUSABLE_MODEL, "not enough memory; use a smaller model")


def bug(error: Exception) -> WireError:
    """What the client is told of a bug of ours; the traceback goes to stderr."""
    from ondevice import __version__

    kind = type(error).__name__
    return WireError(
        wire.INTERNAL, f"a bug in ondevice {__version__} ({kind}); please report it with stderr"
    )
