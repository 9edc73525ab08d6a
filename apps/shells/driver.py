"""Talks with a shell in its conformance mode; knows no case."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

import psutil

Event = dict[str, Any]

PATIENCE = 120.0  # seconds for any one event, on a machine that does other things too


class Failed(Exception):  # noqa: N818 - a check's verdict
    """A shell did not do what it should; the text says what."""


def environment() -> dict[str, str]:
    """For shells and sidecars: the installed `ondevice`, not a folder of that name."""
    return {**os.environ, "PYTHONSAFEPATH": "1"}


class Talk:
    """A shell that runs: commands go in, events come out. Kills what is left at the end."""

    def __init__(self, shell: list[str], sidecar: list[str]) -> None:
        self.events: list[Event] = []
        self.sidecar: psutil.Process | None = None
        self._arrived: queue.Queue[Event | None] = queue.Queue()
        self._folder = tempfile.TemporaryDirectory()
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._process = subprocess.Popen(
            [*shell, "--conformance", *sidecar],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            cwd=self._folder.name,
            env=environment(),
        )
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def pid(self) -> int:
        """Of the shell."""
        return self._process.pid

    @property
    def last(self) -> Event:
        """The last event so far; empty where there was none."""
        return self.events[-1] if self.events else {}

    def __enter__(self) -> Talk:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        if self.sidecar is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                self.sidecar.kill()
        self._stderr.close()
        self._folder.cleanup()

    def request(
        self, tag: str, method: str, params: Any = None, cancel_after: int | None = None
    ) -> None:
        """Have the shell send a request, and cancel it after so many tokens."""
        command = {"do": "request", "tag": tag, "method": method}
        if params is not None:
            command["params"] = params
        self.do(command if cancel_after is None else {**command, "cancel_after": cancel_after})

    def wait(self, *tags: str) -> None:
        """Have the shell wait for the ends of these requests."""
        for tag in tags:
            self.do({"do": "wait", "tag": tag})

    def do(self, command: Event) -> None:
        """Write one command."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(command, ensure_ascii=False).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise Failed(f"the shell no longer reads commands: {self.said()}") from error

    def until(self, name: str, tag: str | None = None) -> Event:
        """The next event of this name, and tag; those before it go to `events` too."""
        return self._until(lambda e: e["event"] == name and tag in (None, e.get("tag")), name)

    def over(self, tag: str) -> Event:
        """The result or the error of a request."""
        for event in self.events:
            if event["event"] in ("result", "error") and event.get("tag") == tag:
                return event
        return self._until(
            lambda e: e["event"] in ("result", "error") and e.get("tag") == tag, f"end of {tag}"
        )

    def of(self, name: str, tag: str) -> list[Event]:
        """What has come so far of a request under this name."""
        return [e for e in self.events if e["event"] == name and e.get("tag") == tag]

    def finish(self, within: float = 10.0) -> int:
        """Close stdin and wait for the end; the exit code. No process may be left."""
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        return self.ended(within)

    def ended(self, within: float = 10.0) -> int:
        """Wait for the shell's end and its sidecar's; the shell's exit code."""
        try:
            code = self._process.wait(within)
        except subprocess.TimeoutExpired:
            raise Failed(f"the shell still runs {within:g} s after its end") from None
        self.sidecar_gone(within)
        with contextlib.suppress(Failed):
            self._until(lambda e: False, "the end")  # the events that are still in the pipe
        return code

    def sidecar_gone(self, within: float) -> None:
        """Wait for the sidecar's end. Raises `Failed` where it goes on."""
        if self.sidecar is None:
            return
        end = time.monotonic() + within
        while self.sidecar.is_running() and self.sidecar.status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > end:
                raise Failed(f"the sidecar still runs {within:g} s later")
            time.sleep(0.02)

    def kill(self) -> None:
        """End the shell at once, as a crash would."""
        self._process.kill()

    def said(self) -> str:
        """What the shell and the sidecar have written to stderr."""
        self._stderr.seek(0)
        return self._stderr.read().decode(errors="replace").strip()

    def _until(self, wanted: Callable[[Event], bool], what: str) -> Event:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                event = self._arrived.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                raise Failed(f"no {what} within {PATIENCE:g} s") from None
            if event is None:
                self._arrived.put(None)
                raise Failed(f"the shell ended before: {what}; {self.said()}")
            self.events.append(event)
            if wanted(event):
                return event

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                event = json.loads(line.decode("utf-8"))
            except ValueError:
                event = {"event": "not an event", "line": line.decode(errors="replace")}
            if event.get("event") == "started" and event.get("pid"):
                with contextlib.suppress(psutil.NoSuchProcess):
                    self.sidecar = psutil.Process(event["pid"])
            self._arrived.put(event)
        self._arrived.put(None)
