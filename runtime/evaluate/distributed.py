"""The examples of one package spread over a Dask cluster of the user's own machines.

Results are appended to the same file as on one machine, in the order they come; a worker that
dies loses nothing but the answers it was making, which others make again. Only plain data
travels: the package's name or path, examples and records. dask is imported when it is used.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import queue
import socket
import threading
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ondevice.errors import EngineError, OndeviceError, RequestError
from ondevice.progress import Progress
from ondevice.runtime.evaluate import check, records
from ondevice.runtime.evaluate.collect import DeviceSubject, Subject, rechecked
from ondevice.runtime.evaluate.dataset import Example
from ondevice.runtime.evaluate.kept import usable
from ondevice.runtime.evaluate.records import Appender, Record
from ondevice.runtime.evaluate.subjects import OPTIONS, package_identity
from ondevice.runtime.model import Model, load

Client = Any  # distributed.Client and distributed.Future, which have no types
Future = Any

PORT = 8786  # of a scheduler whose address names none
CONNECT_S = 10.0
WORKERS_S = 30.0
"""How long to wait for the scheduler, and for a first worker or one after the last has died."""

FETCH_S = 2.0
"""How long fetching a finished answer may take before it is taken to be lost with its worker."""

_AHEAD = 3  # examples sent for each thread of a worker: it need not wait for the next
_LOOK_S = 0.5
_GONE = (
    "the Dask scheduler went away; what was answered is kept: start it again and run the same "
    "command"
)


@dataclass(frozen=True)
class Task:
    """What a worker has to open: a package by name or path, and the identity it must have."""

    package: str
    identity: str
    threads: int | None = None
    hidden: bool = False

    def plain(self) -> dict[str, Any]:
        """As JSON data."""
        return dataclasses.asdict(self)


def collect(
    task: Task,
    subject: str,
    examples: Sequence[Example],
    out: Path,
    address: str,
    progress: Progress | None = None,
) -> list[Record]:
    """As `collect.collect`, the answers made by the workers of the scheduler at `address`.

    Raises `EngineError` when dask is missing, the scheduler does not answer, no worker is there,
    or a worker cannot open the package; what was answered is kept.
    """
    kept = usable(out, examples, subject)
    missing = [example for example in examples if example.id not in kept]
    if missing:
        with _client(address) as client:
            _prepare(client, task, address)
            appender, done = Appender(out), len(examples) - len(missing)
            for record in _answers(client, task, missing, address):
                appender.add(record)
                kept[record.id] = record
                done += 1
                if progress is not None:
                    progress(f"answering, {subject}, on {address}", done, len(examples))
    return [rechecked(example, kept[example.id]) for example in examples]


# ---- on the machine that asks


@contextlib.contextmanager
def _client(address: str) -> Iterator[Client]:
    try:
        import distributed
    except ImportError as error:
        raise EngineError('dask is not installed; pip install "ondevice[cluster]"') from error
    with _quiet():
        try:
            _require_listener(address)
            connect: Any = distributed.Client
            client = connect(address, timeout=CONNECT_S, set_as_default=False)
        except (OSError, ValueError, TypeError) as error:
            raise EngineError(
                f"no Dask scheduler answers at {address!r} within {CONNECT_S:g} s; start one with "
                '"dask scheduler" or mend --dask HOST:PORT'
            ) from error
        try:
            yield client
        finally:
            with contextlib.suppress(OSError, TimeoutError):
                client.close(timeout=CONNECT_S)


def _require_listener(address: str) -> None:
    """Raise `OSError` or `ValueError` where nothing listens: a client of dask's that cannot connect
    leaves threads behind."""
    from distributed.comm.addressing import parse_address, parse_host_port

    scheme, place = parse_address(address)
    if scheme not in ("tcp", "tls"):
        raise ValueError(f"{scheme} is neither tcp nor tls")
    socket.create_connection(parse_host_port(place, PORT), CONNECT_S).close()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What dask says of its own about lost connections is told in one line by us."""
    loggers = [logging.getLogger(name) for name in ("distributed", "distributed.client")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _prepare(client: Client, task: Task, address: str) -> None:
    """Wait for a worker, and let all that are there say whether they can open the package."""
    try:
        client.wait_for_workers(1, timeout=WORKERS_S)
    except TimeoutError as error:
        raise EngineError(
            f"the Dask scheduler at {address} has no workers; start some with "
            f'"dask worker {address}"'
        ) from error
    for worker, problem in _problems(client, task).items():
        if isinstance(problem, BaseException):
            raise EngineError(
                f"worker {worker} has no ondevice of this version: {_reason(problem)}; install "
                "the same on all machines"
            )
        if problem:
            raise EngineError(f"worker {worker}: {problem}")


def _problems(client: Client, task: Task) -> dict[str, Any]:
    """What each worker says, by address; one that says nothing in time is left out."""
    import distributed

    run = uuid.uuid4().hex[:12]
    asked = {
        worker: client.submit(
            problem_of, task.plain(), workers=[worker], key=f"ondevice-{run}-{n}", pure=False
        )
        for n, worker in enumerate(_workers(client))
    }
    wait: Any = distributed.wait
    with client.as_current(), contextlib.suppress(TimeoutError):
        wait(list(asked.values()), timeout=WORKERS_S)
    found: dict[str, Any] = {}
    for worker, future in asked.items():
        with contextlib.suppress(TimeoutError):
            if future.status == "error":
                found[worker] = future.exception(timeout=FETCH_S)
            elif future.status == "finished":
                found[worker] = future.result(timeout=FETCH_S)
    return found


def _answers(
    client: Client, task: Task, examples: Sequence[Example], address: str
) -> Iterator[Record]:
    """Records as they come. A few examples for each worker are under way at a time."""
    waiting = deque(examples)
    ready: queue.SimpleQueue[Future] = queue.SimpleQueue()
    under_way: dict[Future, str] = {}
    run = uuid.uuid4().hex[:12]

    def send() -> None:
        threads = sum(worker["nthreads"] for worker in _workers(client).values())
        while waiting and len(under_way) < max(1, threads) * _AHEAD:
            example = waiting.popleft()
            key = f"ondevice-{run}-{len(waiting)}"
            future = client.submit(answer, task.plain(), _plain(example), key=key, pure=False)
            under_way[future] = example.id
            future.add_done_callback(ready.put)

    try:
        send()
        while under_way:
            future = _next(client, ready, address)
            record = _record(future, under_way[future])
            if record is None:
                _require_worker(client, address)
                future.add_done_callback(ready.put)
                continue
            del under_way[future]
            yield record
            send()
    finally:
        client.cancel(list(under_way), force=True)


def _next(client: Client, ready: queue.SimpleQueue[Future], address: str) -> Future:
    """The next finished answer; raises `EngineError` when nobody is left who could finish one."""
    alone = 0.0
    while True:
        with contextlib.suppress(queue.Empty):
            return ready.get(timeout=_LOOK_S)
        alone = 0.0 if _workers(client) else alone + _LOOK_S
        if client.status != "running" and alone >= CONNECT_S:
            raise EngineError(_GONE)
        if alone >= WORKERS_S:
            raise _nobody_left(address)


def _require_worker(client: Client, address: str) -> None:
    """Raise `EngineError` unless a worker is there, or comes in time, to make an answer again that
    was lost: the client may take it for finished until then."""
    try:
        if client.status == "running":
            client.wait_for_workers(1, timeout=WORKERS_S)
    except TimeoutError as error:
        raise _nobody_left(address) from error


def _nobody_left(address: str) -> EngineError:
    return EngineError(
        f"no worker is left at {address}; what was answered is kept: start workers and run the "
        "same command again"
    )


def _workers(client: Client) -> dict[str, Any]:
    if client.status != "running":
        return {}
    found: dict[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
    return found


def _record(future: Future, example_id: str) -> Record | None:
    """The answer of a task that has ended; None when its worker died before it could be fetched,
    and another one is making it again. Raises `OndeviceError` for a task that failed."""
    try:
        if future.status == "error":
            raise _failure(future.exception(timeout=FETCH_S), example_id)
        return records.from_json(future.result(timeout=FETCH_S))
    except TimeoutError:
        return None
    except CancelledError as error:  # the scheduler forgot what it was asked
        raise EngineError(_GONE) from error


def _failure(error: BaseException, example_id: str) -> OndeviceError:
    from distributed import KilledWorker

    if isinstance(error, OndeviceError):
        return error
    if isinstance(error, KilledWorker):
        return EngineError(
            f"several workers died answering example {example_id!r}; look at their memory, then "
            "run the same command again"
        )
    return EngineError(
        f"a worker failed at example {example_id!r}: {_reason(error)}; what was answered is kept"
    )


def _plain(example: Example) -> dict[str, Any]:
    data = {f.name: getattr(example, f.name) for f in dataclasses.fields(example)}
    return data | {"check": check.to_json(example.check)}


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


# ---- on the workers


_opened: dict[Task, tuple[Model, Subject]] = {}  # at most one
_opening = threading.Lock()


def problem_of(task: dict[str, Any]) -> str:
    """Why this worker cannot answer for the package; empty when it can."""
    try:
        _package(Task(**task))
    except OndeviceError as error:
        return str(error)
    return ""


def answer(task: dict[str, Any], example: dict[str, Any]) -> dict[str, Any]:
    """One answer, made on a worker; its record as JSON data."""
    asked = Example(**(example | {"check": check.from_json(example["check"])}))
    return _subject(Task(**task)).answer(asked).to_json()


def _subject(task: Task) -> Subject:
    """The package's model, loaded by the first task of this process and kept until another
    package is asked for."""
    with _opening:
        if task not in _opened:
            while _opened:
                _opened.popitem()[1][0].close()
            model = load(_package(task), threads=task.threads)
            _opened[task] = (model, DeviceSubject(model, OPTIONS, hidden=task.hidden))
        return _opened[task][1]


def _package(task: Task) -> Any:
    from ondevice import store

    package = store.find(task.package)
    if package_identity(package) != task.identity:
        raise RequestError(
            f"the package {task.package} there is another one than here; bring the same to all "
            "machines"
        )
    return package
