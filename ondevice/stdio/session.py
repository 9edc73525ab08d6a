"""One client's conversation with the runtime: which method does what, and when.

Reads go on while answers are made; knows the messages, not how they are framed or written.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ondevice.errors import OndeviceError
from ondevice.host import Host
from ondevice.nearest import nearest
from ondevice.runtime.engine import limits_of
from ondevice.stdio import protocol, wire
from ondevice.stdio.job import Job, bug
from ondevice.stdio.protocol import Client
from ondevice.stdio.wire import Id, Json, Notification, Request, Response, Unreadable, WireError

if TYPE_CHECKING:
    from ondevice.runtime.fallback.reply import Proposal

_LOOK = 0.05  # seconds between two looks at whether a question to the client still matters

_log = logging.getLogger(__name__)


@dataclass
class _Question:
    """A request of ours that the client has not answered yet."""

    answered: threading.Event = field(default_factory=threading.Event)
    result: object = None


class Session:
    """Takes messages one after the other from one thread; sends from several.

    `send` must not block. `exited` is called when the client says `exit`. `context_length` is that
    of all models, None where each chooses; raises `RequestError` where one does not have it.
    """

    def __init__(
        self,
        host: Host,
        send: Callable[[bytes], None],
        exited: Callable[[], None],
        context_length: int | None = None,
    ) -> None:
        self._host = host
        self._send_body = send
        self._exited = exited
        self._models = [
            protocol.model_json(p, limits_of(p.manifest, context_length).context_length)
            for p in host.packages
        ]
        self._client: Client | None = None
        self._shut_down = False
        self._lock = threading.Lock()
        self._jobs: dict[Id, Job] = {}
        self._idle = threading.Condition(self._lock)
        self._questions: dict[Id, _Question] = {}
        self._numbers = itertools.count(1)

    def receive(self, body: bytes) -> None:
        """Take one message. Raises nothing: what is wrong with it is answered."""
        try:
            self._dispatch(wire.decode(body))
        except Unreadable as error:
            self._send(wire.failure(error.id, error))

    def refuse(self, error: OndeviceError) -> None:
        """Answer bytes that are no message at all."""
        self._send(wire.failure(None, WireError(wire.PARSE_ERROR, str(error))))

    def tick(self) -> None:
        """Tell of what takes long; called now and then."""
        for job in self._running():
            job.tick()

    def cancel_all(self, wait_s: float | None = None) -> bool:
        """Stop every request and wait until each is answered; whether that was in time."""
        with self._lock:
            for job in self._jobs.values():
                job.cancelled.set()
            return self._idle.wait_for(lambda: not self._jobs, wait_s)

    def _dispatch(self, message: wire.Message) -> None:
        if isinstance(message, Response):
            self._take_response(message)
        elif isinstance(message, Notification):
            self._notice(message)
        else:
            self._request(message)

    def _notice(self, message: Notification) -> None:
        """Unknown ones are passed over, as JSON-RPC wants it."""
        if message.method == "exit":
            self._exited()
        elif message.method == "$/cancel":
            id = protocol.cancelled_id(message.params)
            with self._lock:
                job = self._jobs.get(id) if id is not None else None
            if job is not None:
                job.cancelled.set()

    def _take_response(self, message: Response) -> None:
        with self._lock:
            question = self._questions.pop(message.id, None) if message.id is not None else None
        if question is not None:
            question.result = message.result
            question.answered.set()

    def _request(self, message: Request) -> None:
        try:
            self._check_state(message)
            self._methods()[message.method](message)
        except WireError as error:
            self._send(wire.failure(message.id, error))
        except OndeviceError as error:
            self._send(wire.failure(message.id, protocol.error_of(error)))
        except Exception as error:  # a bug in one request must not end the others
            _log.exception("a request failed")
            self._send(wire.failure(message.id, bug(error)))

    def _methods(self) -> dict[str, Callable[[Request], None]]:
        return {
            "initialize": self._initialize,
            "models": self._list_models,
            "load": self._load,
            "chat": self._chat,
            "ping": self._ping,
            "shutdown": self._shutdown,
        }

    def _check_state(self, message: Request) -> None:
        method = message.method
        if self._shut_down:
            raise WireError(wire.INVALID_REQUEST, "the server was shut down; start it again")
        if (method == "initialize") == (self._client is not None):
            said = "first, and only once" if method == "initialize" else "first"
            raise WireError(wire.INVALID_REQUEST, f"initialize comes {said}")
        if method not in self._methods():
            hint = nearest(method[:40], self._methods())
            raise WireError(wire.UNKNOWN_METHOD, f"no method {method[:40]!r}; {hint}")
        with self._lock:
            if message.id in self._jobs:
                raise WireError(wire.INVALID_REQUEST, f"id {message.id!r} is in use")

    def _initialize(self, message: Request) -> None:
        self._client = protocol.client_of(message.params)
        self._send(wire.result(message.id, protocol.server_json(self._models)))

    def _list_models(self, message: Request) -> None:
        protocol.no_params(message.params, "models")
        self._send(wire.result(message.id, {"models": self._models}))

    def _ping(self, message: Request) -> None:
        protocol.no_params(message.params, "ping")
        self._send(wire.result(message.id, {}))

    def _load(self, message: Request) -> None:
        model = protocol.model_of(message.params)
        job = self._job(message)
        self._start(job, job.load(model))

    def _chat(self, message: Request) -> None:
        ask = protocol.ask_of(message.params)
        job = self._job(message)
        self._start(job, job.chat(ask))

    def _shutdown(self, message: Request) -> None:
        """Ends every answer and frees the models, in a thread: meanwhile `exit` may come."""
        protocol.no_params(message.params, "shutdown")
        self._shut_down = True

        def shut_down() -> None:
            self.cancel_all()
            self._host.close()
            self._send(wire.result(message.id, None))

        threading.Thread(target=shut_down, name="shutdown", daemon=True).start()

    def _job(self, message: Request) -> Job:
        asks = self._client is not None and self._client.consent
        return Job(message.id, self._host, self._send, self._ask_consent if asks else None)

    def _start(self, job: Job, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            finally:
                with self._lock:
                    del self._jobs[job.id]
                    self._idle.notify_all()

        with self._lock:
            self._jobs[job.id] = job
        threading.Thread(target=run, name=f"job {job.id}", daemon=True).start()

    def _ask_consent(self, job: Job, proposal: Proposal) -> bool:
        """Ask the client and wait for its answer; a cancelled request needs none."""
        question = _Question()
        with self._lock:
            number = next(self._numbers)
            self._questions[number] = question
        self._send(wire.request(number, "consent", protocol.consent_json(job.id, proposal)))
        try:
            while not question.answered.wait(_LOOK):
                if job.cancelled.is_set():
                    return False
        finally:
            with self._lock:
                self._questions.pop(number, None)
        return protocol.allowed(question.result)

    def _running(self) -> list[Job]:
        with self._lock:
            return list(self._jobs.values())

    def _send(self, message: Json) -> None:
        self._send_body(wire.encode(message))
