"""One assistant at a time for a person: a locked file, and where the one that runs is found.

The file beside the lock holds the address with its token, readable by the person alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from pathlib import Path

from ondevice import files
from ondevice.closing import Closing

LOCK = "instance.lock"
FILE = "instance.json"
_WAIT_S = 2.0


@dataclass(frozen=True)
class Address:
    """Where an assistant answers on this machine, and the token that lets one in."""

    port: int
    token: str
    pid: int

    @property
    def url(self) -> str:
        """What a browser opens."""
        return f"http://127.0.0.1:{self.port}/?token={self.token}"


class Instance(Closing):
    """The right to be the assistant of this folder, until closed."""

    def __init__(self, folder: Path) -> None:
        from filelock import FileLock

        self._folder = folder
        with files.writing(folder / LOCK):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = FileLock(folder / LOCK)

    def take(self) -> bool:
        """Whether this process is the one now; False when another is."""
        from filelock import Timeout

        with files.writing(self._folder / LOCK):
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                return False
        return True

    def announce(self, address: Address) -> None:
        """Write down where this one answers. Raises `OndeviceError` when it cannot be."""
        path = self._folder / FILE
        with files.writing(path):
            handle, name = tempfile.mkstemp(prefix=f".{FILE}.", dir=self._folder)
            with os.fdopen(handle, "w", encoding="utf-8") as file:  # mkstemp: for us alone
                json.dump(asdict(address), file)
            Path(name).replace(path)

    def other(self) -> Address | None:
        """Where the other one answers; None when it does not say."""
        try:
            data = json.loads((self._folder / FILE).read_text(encoding="utf-8"))
            return Address(int(data["port"]), str(data["token"]), int(data["pid"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def close(self) -> None:
        """Let another one be it."""
        if self._lock.is_locked:
            with contextlib.suppress(OSError):
                (self._folder / FILE).unlink(missing_ok=True)
            self._lock.release()


def bring_forward(address: Address) -> bool | None:
    """Ask another assistant to show its window; whether it has one, None when it is silent."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{address.port}/app/show",
        data=b"{}",
        headers={"Authorization": f"Bearer {address.token}", "Content-Type": "application/json"},
        method="POST",
    )
    # No proxy of the environment's: this stays on the machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_WAIT_S) as answer:
            return bool(json.load(answer).get("shown"))
    except (OSError, ValueError, AttributeError):
        return None
