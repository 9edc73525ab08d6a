"""API keys by name: the system's keychain, an environment variable, or the memory of this run.

A key is never written to a file, never shown, and never looked for under a name that was not
asked for. Knows nothing about endpoints.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

from ondevice.errors import CloudError

SERVICE = "ondevice"
WAIT_S = 20.0  # for a keychain that asks the person at the keyboard
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

T = TypeVar("T")


class KeyMissing(CloudError):  # noqa: N818 - it says what is so
    """A key that is nowhere, or that cannot be one."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "auth")


class Keychain(Protocol):
    """What is used of a backend of `keyring`."""

    def get_password(self, service: str, username: str) -> str | None: ...
    def set_password(self, service: str, username: str, password: str) -> None: ...
    def delete_password(self, service: str, username: str) -> None: ...


class Secret:
    """A key and where it came from; nothing but `reveal` shows it, pickling is refused."""

    __slots__ = ("_value", "name", "source")

    def __init__(self, name: str, value: str, source: str) -> None:
        self.name = name
        self.source = source
        self._value = value

    def reveal(self) -> str:
        """The key itself, for the header of a request."""
        return self._value

    def __repr__(self) -> str:
        return f"<key {self.name} from the {self.source}>"

    def __reduce__(self) -> str:
        raise TypeError("a key is not written to files")


class Keys:
    """Keys by name. `environ` and `keychain` are seams; by default the real ones.

    The order: keychain, then the environment variable of exactly that name, then what
    `remember` was given in this run. A keychain that is missing, locked or broken is passed
    over, and the error at the end says why.
    """

    def __init__(
        self,
        *,
        environ: Mapping[str, str] | None = None,
        keychain: Callable[[], Keychain] | None = None,
        wait_s: float = WAIT_S,
    ) -> None:
        self._environ = os.environ if environ is None else environ
        self._keychain = open_keychain if keychain is None else keychain
        self._wait_s = wait_s
        self._memory: dict[str, Secret] = {}

    def get(self, name: str) -> str:
        """The key itself; "" for the name "", which means that an endpoint needs none.

        Raises `KeyMissing` (kind "auth") with what to do next.
        """
        return self.find(name).reveal() if name else ""

    def find(self, name: str) -> Secret:
        """The key of a name, masked, with its source: "keychain", "environment" or "memory"."""
        _check_name(name)
        try:
            value = self._ask(lambda keychain: keychain.get_password(SERVICE, name))
            reason = "has none of that name"
        except _Unusable as error:
            value, reason = None, str(error)
        if value:
            return Secret(name, _clean(name, value, "keychain"), "keychain")
        if _VARIABLE.fullmatch(name) and (value := self._environ.get(name, "").strip()):
            return Secret(name, _clean(name, value, "environment"), "environment")
        if name in self._memory:
            return self._memory[name]
        raise KeyMissing(
            f'no key {name}: the keychain {reason}; "ondevice cloud key set {name}" keeps one '
            f"there, or set the environment variable {name}"
        )

    def remember(self, name: str, value: str) -> None:
        """Keep a key in the memory of this run. Raises `KeyMissing` when it cannot be one."""
        _check_name(name)
        self._memory[name] = Secret(name, _clean(name, value, "memory"), "memory")

    def set(self, name: str, value: str) -> None:
        """Keep a key in the keychain, and only there. Raises `KeyMissing` when that fails."""
        _check_name(name)
        value = _clean(name, value, "given")

        def keep(keychain: Keychain) -> bool:
            keychain.set_password(SERVICE, name, value)
            return keychain.get_password(SERVICE, name) == value

        try:
            kept = self._ask(keep)
        except _Unusable as error:
            raise KeyMissing(f"{name} was not kept: the keychain {error}; {_INSTEAD}") from None
        if not kept:
            raise KeyMissing(f"{name} was not kept: the keychain forgot it; {_INSTEAD}")

    def delete(self, name: str) -> None:
        """Remove a key from the keychain and from memory. Raises `KeyMissing`: none there."""
        _check_name(name)
        remembered = self._memory.pop(name, None)

        def drop(keychain: Keychain) -> bool:
            there = keychain.get_password(SERVICE, name) is not None
            if there:
                keychain.delete_password(SERVICE, name)
            return there

        try:
            dropped = self._ask(drop)
        except _Unusable as error:
            raise KeyMissing(f"{name} was not deleted: the keychain {error}") from None
        if not dropped and remembered is None:
            raise KeyMissing(f"the keychain has no key {name}; nothing was deleted")

    def __repr__(self) -> str:
        return f"<keys, {len(self._memory)} in memory>"

    def _ask(self, action: Callable[[Keychain], T]) -> T:
        """Let a keychain work in a thread of its own, so that one that hangs stops nothing."""
        done: list[T] = []
        failed: list[_Unusable] = []

        def work() -> None:
            try:
                done.append(action(self._keychain()))
            except _Unusable as error:
                failed.append(error)
            except Exception as error:  # backends raise whatever their system raises
                # Only the name of the error: its text could hold what was to be kept.
                failed.append(_Unusable(f"cannot be used ({type(error).__name__})"))

        thread = threading.Thread(target=work, name="keychain", daemon=True)
        thread.start()
        thread.join(self._wait_s)
        if failed:
            raise failed[0]
        if not done:
            raise _Unusable(f"did not answer within {self._wait_s:g} s")
        return done[0]


_INSTEAD = "set an environment variable of that name instead"


class _Unusable(Exception):  # noqa: N818 - it says what is so
    """Why the keychain cannot be used, in words that follow "the keychain"."""


def open_keychain() -> Keychain:
    """The keychain that `keyring` finds. Raises `_Unusable` when there is none to be trusted."""
    try:
        import keyring
    except ImportError:
        raise _Unusable("needs the extra ondevice[cloud]") from None
    backend = keyring.get_keyring()
    candidates = getattr(backend, "backends", None) or [backend]
    for candidate in candidates:
        module = type(candidate).__module__
        # keyrings.alt keeps keys in files, some in plain text; "fail" and "null" keep nothing.
        if not module.startswith(
            ("keyrings.alt", "keyring.backends.fail", "keyring.backends.null")
        ):
            found: Keychain = candidate
            return found
    raise _Unusable("is missing on this system")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        # A key pasted where a name belongs must not be printed.
        raise KeyMissing("that is not the name of a key; use letters, digits, '_', '.', '-'")
    if len(name) > 64:
        raise KeyMissing("that name of a key is too long; was the key itself given as its name?")


def _clean(name: str, value: str, where: str) -> str:
    """A key fit for a header: no blanks around, printable ASCII within."""
    value = value.strip()
    if not value or not value.isascii() or not value.isprintable() or " " in value:
        raise KeyMissing(f"the key {name} ({where}) is empty or has blanks or odd characters in it")
    return value
