"""One model at a time is fetched in a thread, watched, cancelled, gone on with.

`ondevice.pull` does the work, and keeps what was fetched when it is cancelled.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass

from ondevice import store
from ondevice.desktop.feed import Feed
from ondevice.errors import OndeviceError, RequestError
from ondevice.package import Package
from ondevice.progress import Progress

_END_S = 5.0

_log = logging.getLogger(__name__)

Fetch = Callable[[str, Progress, Callable[[str], None]], Package]


class CancelledError(OndeviceError):
    """The person has stopped the download. No `FetchError`: no mirror is tried for it."""


@dataclass(frozen=True)
class Running:
    """How far a pull is; `total` 0 is not known."""

    name: str
    stage: str = "starting"
    done: int = 0
    total: int = 0


class Pulls:
    """The pull that runs, if one does. `fetch` is a seam for tests. Usable from any thread."""

    def __init__(self, arrived: Callable[[Package], None], fetch: Fetch | None = None) -> None:
        self._arrived = arrived
        self._fetch = fetch or _pull
        self._lock = threading.Lock()
        self._cancelled = threading.Event()
        self._thread: threading.Thread | None = None
        self._feed = Feed(replay=False)
        self.running: Running | None = None

    def start(self, name: str) -> Feed:
        """Fetch a model of the lock; its events are `progress`, then `done` or `error`.

        A pull of this model that runs already is watched. Raises `RequestError` when another one
        runs, `LockError` for a model that is not known.
        """
        from ondevice import lock

        lock.read().find(name)
        with self._lock:
            if self.running is not None:
                if self.running.name == name:
                    return self._feed
                raise RequestError(f"{self.running.name} is being fetched; wait, or cancel it")
            self.running = Running(name)
            self._cancelled = threading.Event()
            # All is kept for whoever comes later; `progress` is told at most 100 times a stage.
            self._feed = Feed()
            arguments = (name, self._feed, self._cancelled)
            self._thread = threading.Thread(
                target=self._run, args=arguments, name="pull", daemon=True
            )
            self._thread.start()
            return self._feed

    def watch(self) -> Feed:
        """The events of the pull that runs; none, and the end, when none does."""
        with self._lock:
            if self.running is not None:
                return self._feed
        ended = Feed()
        ended.end()
        return ended

    def cancel(self) -> None:
        """Stop it; what was fetched is kept. Without a pull nothing happens."""
        self._cancelled.set()

    def close(self) -> None:
        """Stop it and wait for its end, a few seconds at most."""
        self.cancel()
        if self._thread is not None:
            self._thread.join(_END_S)

    def _run(self, name: str, feed: Feed, cancelled: threading.Event) -> None:
        error = ""
        try:
            package = self._fetch(name, self._progress(name, feed, cancelled), _log.info)
            self._arrived(package)
        except CancelledError as stopped:
            error = str(stopped)
        except OndeviceError as problem:
            error = str(problem)
        except ImportError as missing:
            error = (
                f"this program cannot make models ready ({missing.name} is not part of it); "
                f'pip install ondevice and "ondevice pull {name}" does it'
            )
        except Exception as bug:
            _log.exception("a pull failed")
            error = f"a bug in ondevice ({type(bug).__name__}); please report it"
        with self._lock:
            self.running = None
        if error:
            feed.tell("error", message=error, cancelled=cancelled.is_set())
        else:
            feed.tell("done", model=package.manifest.name)
        feed.end()

    def _progress(self, name: str, feed: Feed, cancelled: threading.Event) -> Progress:
        told = ("", -1)

        def progress(stage: str, done: int, total: int) -> None:
            nonlocal told
            if cancelled.is_set():
                raise CancelledError(f"stopped; what was fetched of {name} is kept")
            self.running = Running(name, stage, done, total)
            step = (stage, 100 * done // total if total else done)
            if step != told:
                told = step
                feed.tell("progress", stage=stage, done=done, total=total)

        return progress


def partial_bytes(name: str) -> int:
    """What an earlier pull has left of a model, bytes."""
    try:
        return store.size(store.downloads_folder() / name)
    except OSError:
        return 0


def _pull(name: str, progress: Progress, say: Callable[[str], None]) -> Package:
    from ondevice.pull import pull

    return pull(name, progress=progress, say=say)
