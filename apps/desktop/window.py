"""The assistant's window: the system's web view by pywebview, or the person's browser.

Knows only an address.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

TITLE = "ondevice"
_SIZE = (1100, 760)
_SMALLEST = (360, 480)

_log = logging.getLogger(__name__)


class Window:
    """A native window on an address. `run` blocks, in the main thread, until it is closed."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._window: Any = None
        self._shown = threading.Event()

    def run(self) -> str:
        """Show the window until it is closed; "" then, else why there can be none."""
        try:
            import webview
        except ImportError:
            return 'a window needs pip install "ondevice[desktop]"'
        if sys.platform == "linux" and not _has_display():
            return "there is no display"
        try:
            webview.settings["ALLOW_DOWNLOADS"] = True
            webview.settings["OPEN_EXTERNAL_LINKS_IN_BROWSER"] = True
            self._window = webview.create_window(
                TITLE, self._url, width=_SIZE[0], height=_SIZE[1], min_size=_SMALLEST,
                text_select=True,
            )  # fmt: skip
            self._window.events.shown += self._shown.set
            webview.start(private_mode=True)
        except Exception as error:  # every system's web view fails in its own way
            if self._shown.is_set():
                raise
            _log.info("no window: %s", error)
            return f"the system gives no window ({str(error).splitlines()[0][:200] or 'unknown'})"
        return ""

    def show(self) -> bool:
        """Bring the window to the front, from any thread; whether there is one."""
        if self._window is None or not self._shown.is_set():
            return False
        self._window.restore()
        self._window.show()
        return True

    def close(self) -> None:
        """Close the window, from any thread."""
        if self._window is not None and self._shown.is_set():
            self._window.destroy()


def open_browser(url: str, browse: Callable[[str], bool] | None = None) -> bool:
    """Open an address in the person's browser; whether that worked."""
    import webbrowser

    try:
        return (browse or webbrowser.open)(url)
    except (webbrowser.Error, OSError):
        return False


def _has_display() -> bool:
    import os

    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
