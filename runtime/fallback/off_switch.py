"""The person's hard off-switch: a file in the kit's folder. While it is there nothing leaves."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ondevice import files

if TYPE_CHECKING:
    from ondevice.runtime.fallback.policy import Policy

FILE = "cloud.off"


def path() -> Path:
    """Where the file lies."""
    from ondevice import store

    return store.home() / FILE


def is_off() -> bool:
    """Whether the switch is set. What cannot be looked at counts as set."""
    try:
        path().lstat()
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return True


def allows(policy: Policy) -> bool:
    """Whether policy and switch let anything leave at all."""
    return policy.consent != "never" and not is_off()


def why_off(policy: Policy) -> str:
    """What keeps everything here; "" when nothing does."""
    if is_off():
        return f"the off-switch is set ({path()}); `ondevice cloud on` takes it back"
    return "" if allows(policy) else "the policy says consent never"


def set_off() -> Path:
    """Let nothing leave from now on, in every process; returns the file."""
    file = path()
    files.write_text(file, "No cloud calls. `ondevice cloud on` removes this file.\n")
    return file


def set_on() -> None:
    """Take the switch back; what may leave is up to the policy."""
    file = path()
    with files.writing(file):
        file.unlink(missing_ok=True)
