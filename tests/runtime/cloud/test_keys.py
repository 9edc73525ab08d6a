from __future__ import annotations

import logging
import pickle
import sys
import threading
import types
from collections.abc import Callable

import pytest

from ondevice.runtime.cloud import keys as keys_module
from ondevice.runtime.cloud.keys import KeyMissing, Keys

VALUE = "sk-do-not-show-me-123456"


class Chain:
    """A keychain in memory; `fail` is raised by every use of it."""

    def __init__(self, fail: Exception | None = None, forgets: bool = False) -> None:
        self.kept: dict[tuple[str, str], str] = {}
        self.fail = fail
        self.forgets = forgets

    def get_password(self, service: str, username: str) -> str | None:
        self._check()
        return self.kept.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._check()
        if not self.forgets:
            self.kept[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        self._check()
        del self.kept[service, username]

    def _check(self) -> None:
        if self.fail is not None:
            raise self.fail


def keys(chain: Chain | None = None, **environ: str) -> Keys:
    found = chain or Chain()
    return Keys(environ=environ, keychain=lambda: found)


def test_the_keychain_comes_before_the_environment_and_that_before_memory() -> None:
    chain = Chain()
    mine = keys(chain, API_KEY="from-environment")
    mine.remember("API_KEY", "from-memory")
    mine.set("API_KEY", "from-keychain")
    assert (mine.get("API_KEY"), mine.find("API_KEY").source) == ("from-keychain", "keychain")
    mine.delete("API_KEY")
    assert (mine.get("API_KEY"), mine.find("API_KEY").source) == ("from-environment", "environment")
    alone = keys(chain)
    alone.remember("API_KEY", "from-memory")
    assert (alone.get("API_KEY"), alone.find("API_KEY").source) == ("from-memory", "memory")


def test_no_name_needs_no_key() -> None:
    assert keys(Chain(fail=RuntimeError())).get("") == ""


def test_only_the_name_asked_for_is_looked_up() -> None:
    with pytest.raises(KeyMissing):
        keys(OPENAI_API_KEY=VALUE).get("MY_KEY")


@pytest.mark.parametrize("fail", [RuntimeError(VALUE), OSError("no bus"), KeyError("locked")])
def test_a_broken_keychain_is_passed_over_and_named_at_the_end(fail: Exception) -> None:
    broken = Chain(fail=fail)
    assert keys(broken, API_KEY=VALUE).get("API_KEY") == VALUE
    with pytest.raises(KeyMissing, match=f"cannot be used .{type(fail).__name__}") as caught:
        keys(broken).get("API_KEY")
    assert caught.value.kind == "auth"
    assert VALUE not in str(caught.value)


def test_a_keychain_that_hangs_is_passed_over() -> None:
    release = threading.Event()

    def hang() -> Chain:
        release.wait(30)
        return Chain()

    mine = Keys(environ={"API_KEY": VALUE}, keychain=hang, wait_s=0.05)
    assert mine.get("API_KEY") == VALUE
    with pytest.raises(KeyMissing, match="did not answer"):
        mine.get("OTHER")
    release.set()


def test_a_missing_key_says_what_to_do() -> None:
    with pytest.raises(KeyMissing, match=r"ondevice cloud key set API_KEY.*environment variable"):
        keys().get("API_KEY")


def test_setting_without_a_keychain_keeps_nothing_anywhere() -> None:
    broken = keys(Chain(fail=RuntimeError("none")))
    with pytest.raises(KeyMissing, match=r"was not kept.*environment variable"):
        broken.set("API_KEY", VALUE)
    with pytest.raises(KeyMissing):
        broken.get("API_KEY")


def test_a_keychain_that_forgets_is_noticed() -> None:
    with pytest.raises(KeyMissing, match="forgot"):
        keys(Chain(forgets=True)).set("API_KEY", VALUE)


def test_deleting_what_is_not_there_is_said() -> None:
    with pytest.raises(KeyMissing, match="nothing was deleted"):
        keys().delete("API_KEY")


def test_a_key_in_memory_can_be_deleted() -> None:
    mine = keys()
    mine.remember("API_KEY", VALUE)
    mine.delete("API_KEY")
    with pytest.raises(KeyMissing):
        mine.get("API_KEY")


@pytest.mark.parametrize("show", [repr, str, "{}".format, lambda x: f"{x!r:>60}", lambda x: f"{x}"])
def test_a_key_is_masked_wherever_it_is_shown(show: Callable[[object], str]) -> None:
    mine = keys(API_KEY=VALUE)
    mine.remember("OTHER", VALUE)
    secret = mine.find("API_KEY")
    for thing in (secret, mine, [secret], {"key": secret}):
        assert VALUE not in show(thing)
    assert secret.reveal() == VALUE


def test_a_key_is_masked_in_logs(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("x").warning("using %s", keys(API_KEY=VALUE).find("API_KEY"))
    assert VALUE not in caplog.text and "API_KEY" in caplog.text


def test_a_key_is_not_pickled() -> None:
    with pytest.raises(TypeError, match="not written to files"):
        pickle.dumps(keys(API_KEY=VALUE).find("API_KEY"))


@pytest.mark.parametrize(
    "value", ["", "  ", "two words-123", "line\nbreak-" + VALUE, "schlüssel", "a\x00b"]
)
def test_what_cannot_be_a_key_is_refused_and_not_repeated(value: str) -> None:
    with pytest.raises(KeyMissing) as caught:
        keys().remember("API_KEY", value)
    assert not value.strip() or value not in str(caught.value)


def test_a_line_end_after_a_key_is_cut_off() -> None:
    assert keys(API_KEY=VALUE + "\n").get("API_KEY") == VALUE


@pytest.mark.parametrize("name", ["../x", "a b", "1", "sk-ä", "x" * 65])
def test_a_bad_name_is_refused_and_not_repeated(name: str) -> None:
    with pytest.raises(KeyMissing) as caught:
        keys().get(name)
    assert name not in str(caught.value) or len(name) == 1


def backend(module: str, **members: object) -> object:
    return type("Keyring", (), {"__module__": module, **members})()


@pytest.mark.parametrize(
    "module", ["keyrings.alt.file", "keyring.backends.fail", "keyring.backends.null"]
)
def test_a_backend_that_writes_to_files_or_keeps_nothing_is_not_used(
    module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = types.SimpleNamespace(get_keyring=lambda: backend(module))
    monkeypatch.setitem(sys.modules, "keyring", fake)
    with pytest.raises(KeyMissing, match="is missing on this system"):
        Keys(environ={}).set("API_KEY", VALUE)


def test_of_several_backends_the_first_to_be_trusted_is_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good = backend("keyring.backends.SecretService")
    chained = backend("keyring.backends.chainer", backends=[backend("keyrings.alt.file"), good])
    fake = types.SimpleNamespace(get_keyring=lambda: chained)
    monkeypatch.setitem(sys.modules, "keyring", fake)
    assert keys_module.open_keychain() is good


def test_without_keyring_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(KeyMissing, match=r"ondevice\[cloud\]"):
        Keys(environ={}).get("API_KEY")
