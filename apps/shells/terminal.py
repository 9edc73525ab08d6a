"""A program in a terminal of its own, typed at as a person would. POSIX only."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import time

from driver import PATIENCE, Failed, environment

_LOOK = 0.05  # seconds


class Terminal:
    """Starts a command in a new terminal; killed at the end, if it still runs."""

    def __init__(self, command: list[str]) -> None:
        self.screen = ""  # all that was written so far
        self._seen = 0  # characters of it that `until` has passed
        self._exit: int | None = None
        self._pid, self._fd = pty.fork()
        if not self._pid:
            with contextlib.suppress(OSError):
                os.execvpe(command[0], command, {**environment(), "TERM": "xterm"})
            os._exit(127)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._exit is None:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
        os.close(self._fd)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._fd, keys.encode())

    def until(self, text: str) -> None:
        """Wait until it is written after what was waited for before."""
        self.until_match(re.escape(text))

    def until_match(self, pattern: str) -> None:
        """The same with a regular expression; a dot is any character."""
        wanted = re.compile(pattern, re.DOTALL)
        end = time.monotonic() + PATIENCE
        while (found := wanted.search(self.screen, self._seen)) is None:
            if time.monotonic() > end or not self._read():
                raise Failed(f"no {pattern!r} in the terminal; it shows {self.screen[-300:]!r}")
        self._seen = found.end()

    def ended(self, within: float = 10.0) -> int:
        """Wait for the program's end; its exit code, or minus the signal's number."""
        end = time.monotonic() + within
        while self._exit is None:
            if time.monotonic() > end:
                raise Failed(f"the program still runs {within:g} s after Ctrl-D")
            self._read()
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._exit = os.waitstatus_to_exitcode(status)
        return self._exit

    def _read(self) -> bool:
        """Take what has been written, waiting a moment; False at the end."""
        readable, _, _ = select.select([self._fd], [], [], _LOOK)
        if not readable:
            return True
        try:
            data = os.read(self._fd, 1 << 16)
        except OSError:  # Linux's word for the end
            return False
        self.screen += data.decode(errors="replace")
        return bool(data)
