"""A policy's TOML to data, strictly: every surprise is an error with file, line and remedy."""

from __future__ import annotations

import dataclasses
import math
import re
import tomllib
import typing
from collections.abc import Iterable, Iterator, Mapping
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from ondevice.errors import OndeviceError, PolicyError
from ondevice.nearest import nearest
from ondevice.runtime.fallback.needs import NEEDS
from ondevice.runtime.fallback.policy import (
    REDACTIONS,
    RESTRICTED,
    Consent,
    DraftPassing,
    EarlyAbort,
    Mode,
    Policy,
    Rule,
    Task,
    TokenPrice,
    Where,
)
from ondevice.toml_lines import KeyPath, key_lines

if TYPE_CHECKING:
    from ondevice.runtime.cloud.endpoint import Deadlines, Endpoint
    from ondevice.runtime.cloud.ledger import Caps

FILE = "policy.toml"
LARGEST = 1_000_000  # bytes
_CLASS_NAME = re.compile(r"[a-z0-9][a-z0-9_-]*")
_KEY_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_LimitField = Literal["max_tokens", "max_completion_tokens"]
_SECRET = re.compile(r"(?:sk|pk|rk|gsk|xai)-|[A-Za-z0-9_-]{40,}")


def home_path() -> Path:
    """Where the person's own policy lies."""
    from ondevice import store

    return store.home() / FILE


def default_text() -> str:
    """The default policy with its comments, as `ondevice route init` writes it."""
    return (resources.files(__package__) / FILE).read_text(encoding="utf-8")


def read_policy(path: Path | None = None) -> Policy:
    """The policy of a file; without one, the person's own, or the default if there is none.

    Raises `PolicyError` for a file that cannot be read or that holds anything unknown.
    """
    if path is None:
        path = home_path()
        if not path.exists():
            return Policy()
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise PolicyError(f"{path} is larger than 1 MB; that is no policy")
        return parse_policy(data.decode("utf-8-sig").replace("\r\n", "\n"), path)
    except OSError as error:
        raise PolicyError(f"cannot read the policy {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise PolicyError(f"{path} is not valid UTF-8 (byte {error.start}); save it so") from error


def parse_policy(text: str, path: Path) -> Policy:
    """The policy that a text says; `path` is for messages. Raises `PolicyError`."""
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise PolicyError(f"{path} is not valid TOML: {error}; mend that line") from error
    top = _Table(data, (), path, key_lines(text))
    top.only(
        "consent", "mode", "peek_tokens", "threshold", "route_below", "default_class",
        "endpoint", "budget", "classes", "rules", "tasks", "redaction", "audit", "early_abort",
    )  # fmt: skip
    classes = _classes(top.table("classes"))
    policy = Policy(
        consent=top.choice("consent", Consent, "never"),
        mode=top.choice("mode", Mode, "hold"),
        peek_tokens=top.whole("peek_tokens", 16, least=1),
        threshold=top.share("threshold"),
        route_below=top.share("route_below"),
        default_class=_class(top, "default_class", classes, "general"),
        endpoint=_endpoint(top.table("endpoint")) if "endpoint" in top else None,
        price=_price(top.table("endpoint").table("price")),
        budget=_budget(top.table("budget")) if "budget" in top else None,
        classes=classes,
        rules=_rules(top),
        tasks=_tasks(top.table("tasks"), classes),
        redaction=_redaction(top.table("redaction")),
        audit_content=_audit(top.table("audit")),
        early_abort=_early_abort(top.table("early_abort")) if "early_abort" in top else None,
        path=path,
    )
    if policy.consent != "never" and policy.endpoint is None:
        top.wrong("consent", f"{policy.consent!r} needs an [endpoint] with base_url and model")
    return policy


class _Table:
    """One table of the file: its values come out checked, or an error names their line."""

    def __init__(
        self, data: dict[str, Any], at: KeyPath, path: Path, lines: dict[KeyPath, int]
    ) -> None:
        self._data, self._at, self._path, self._lines = data, at, path, lines

    def __contains__(self, key: str) -> bool:
        return key in self._data

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    def fail(self, message: str, *path: str | int) -> NoReturn:
        """Raise the error for a key of this table, or for the table itself."""
        at: KeyPath = (*self._at, *path)
        while at and at not in self._lines:
            at = at[:-1]
        line = f", line {self._lines[at]}" if at else ""
        raise PolicyError(f"{self._path}{line}: {message}")

    def wrong(self, key: str, message: str) -> NoReturn:
        self.fail(f"{key} {message}", key)

    def only(self, *known: str) -> None:
        """Fail at the first key that is not known."""
        for key in self._data:
            if key not in known:
                where = f" in [{'.'.join(map(str, self._at))}]" if self._at else ""
                self.fail(f"unknown key {key!r}{where}; {nearest(key, known)}", key)

    def table(self, key: str) -> _Table:
        value = self._data.get(key, {})
        if not isinstance(value, dict):
            self.wrong(key, f"must be a table, not {value!r}; write it as [{key}]")
        return _Table(value, (*self._at, key), self._path, self._lines)

    def tables(self, key: str) -> list[_Table]:
        """The entries of an array of tables."""
        value = self._data.get(key, [])
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            heading = ".".join(map(str, (*self._at, key)))
            self.wrong(key, f"must be an array of tables; write each as [[{heading}]]")
        return [
            _Table(entry, (*self._at, key, number), self._path, self._lines)
            for number, entry in enumerate(value)
        ]

    def choice(self, key: str, of: Any, default: Any) -> Any:
        """One of the words of a `Literal`."""
        words = typing.get_args(of)
        value = self._data.get(key, default)
        if value not in words and (key in self or default is not None):
            hint = nearest(value, words) if isinstance(value, str) else "choose one"
            self.wrong(key, f"must be {' or '.join(words)}, not {value!r}; {hint}")
        return value

    def text(self, key: str, default: str | None = None) -> str:
        value = self._data.get(key, default)
        if value is None:
            self.fail(f"{key} is missing; add it")
        if not isinstance(value, str) or (not value.strip() and value != default):
            self.wrong(key, f"must be a text that is not empty, not {value!r}")
        return value

    def yes(self, key: str, default: bool) -> bool:
        value = self._data.get(key, default)
        if not isinstance(value, bool):
            self.wrong(key, f"must be true or false, not {value!r}")
        return value

    def whole(self, key: str, default: Any, *, least: int) -> Any:
        value = self._data.get(key)
        if value is None:
            return default
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            self.wrong(key, f"must be a whole number of at least {least}, not {value!r}")
        return value

    def number(self, key: str, default: Any, *, least: float, most: float = math.inf) -> Any:
        value = self._data.get(key)
        if value is None:
            return default
        plain = isinstance(value, int | float) and not isinstance(value, bool)
        if not plain or not math.isfinite(value) or not least <= value <= most:
            range_ = f"from {least:g} to {most:g}" if most < math.inf else f"of at least {least:g}"
            self.wrong(key, f"must be a number {range_}, not {value!r}")
        return float(value)

    def share(self, key: str) -> float | None:
        result: float | None = self.number(key, None, least=0, most=1)
        return result

    def words(self, key: str, known: Iterable[str], default: tuple[str, ...]) -> tuple[str, ...]:
        """A list of known words."""
        value = self._data.get(key)
        if value is None:
            return default
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            self.wrong(key, f"must be a list of words, not {value!r}; known: {', '.join(known)}")
        for number, word in enumerate(value):
            if word not in known:
                self.fail(f"{key} has an unknown {word!r}; {nearest(word, known)}", key, number)
        return tuple(value)

    def pattern(self, key: str) -> re.Pattern[str] | None:
        if key not in self._data:
            return None
        try:
            return re.compile(self.text(key))
        except (re.error, OverflowError, RecursionError) as error:
            self.wrong(key, f"is not a regular expression: {error}; mend it")


def _classes(table: _Table) -> Mapping[str, bool]:
    classes = dict(Policy().classes)
    for name in table:
        if not _CLASS_NAME.fullmatch(name):
            table.fail(f"class {name!r} must be in small letters, digits, '-' and '_'", name)
        leaves = table.yes(name, False)
        if name == RESTRICTED and leaves:
            table.fail(f"{RESTRICTED} data never leaves; use another class for data that may", name)
        classes[name] = leaves
    return MappingProxyType(classes)


def _class(table: _Table, key: str, classes: Mapping[str, bool], default: str) -> str:
    name = table.text(key, default)
    if name and name not in classes:
        table.wrong(key, f"names an unknown class {name!r}; {nearest(name, classes)}")
    return name


def _endpoint(table: _Table) -> Endpoint:
    from ondevice.runtime.cloud.endpoint import Endpoint

    usual = {entry.name: entry.default for entry in dataclasses.fields(Endpoint)}
    table.only(*usual, "price")
    key = table.text("key", "")
    if key and (not _KEY_NAME.fullmatch(key) or _SECRET.match(key)):
        table.wrong(
            "key",
            "is the name of a key, and what is there looks like a key itself: remove it, then "
            "store it with `ondevice cloud key set NAME` and write that name here",
        )
    values: dict[str, Any] = {name: table.text(name) for name in ("base_url", "model")}
    values |= {"name": table.text("name", "cloud"), "key": key}
    for name, default in usual.items():
        if isinstance(default, bool):
            values[name] = table.yes(name, default)
    values["limit_field"] = table.choice("limit_field", _LimitField, usual["limit_field"])
    values["ca_file"] = table.text("ca_file", "")
    values["deadlines"] = _deadlines(table.table("deadlines"))
    try:
        return Endpoint(**values)
    except OndeviceError as error:
        table.fail(str(error))


def _deadlines(table: _Table) -> Deadlines:
    from ondevice.runtime.cloud.endpoint import Deadlines

    usual = vars(Deadlines())
    table.only(*usual)
    seconds = {
        name: table.number(name, default, least=0.01)
        for name, default in usual.items()
        if name != "retries"
    }
    try:
        return Deadlines(**seconds, retries=table.whole("retries", usual["retries"], least=0))
    except OndeviceError as error:
        table.fail(str(error))


def _price(table: _Table) -> TokenPrice | None:
    table.only("input_per_million", "output_per_million")
    prices = [table.number(f"{side}_per_million", None, least=0) for side in ("input", "output")]
    if prices == [None, None]:
        return None
    if None in prices:
        table.fail("a price has input_per_million and output_per_million; add the other")
    return TokenPrice(*prices)


def _budget(table: _Table) -> Caps:
    from ondevice.runtime.cloud.ledger import Caps

    names = ("per_request_usd", "per_day_usd", "per_month_usd")
    table.only(*names)
    return Caps(*(table.number(name, None, least=0) for name in names))


def _rules(table: _Table) -> tuple[Rule, ...]:
    return tuple(_rule(entry, number) for number, entry in enumerate(table.tables("rules"), 1))


def _rule(table: _Table, number: int) -> Rule:
    table.only("name", "send", "matches", "longer_than", "shorter_than", "needs")
    send = table.choice("send", Where, None)
    if send is None:
        table.fail('a rule needs send = "cloud" or send = "device"; add it')
    rule = Rule(
        name=table.text("name", f"rule {number}"),
        send=send,
        matches=table.pattern("matches"),
        longer_than=table.whole("longer_than", None, least=0),
        shorter_than=table.whole("shorter_than", None, least=1),
        needs=table.words("needs", NEEDS, ()),
    )
    conditions = (rule.matches, rule.longer_than, rule.shorter_than, rule.needs or None)
    if conditions == (None,) * 4:
        table.fail("a rule needs a condition: matches, longer_than, shorter_than or needs")
    return rule


def _tasks(table: _Table, classes: Mapping[str, bool]) -> Mapping[str, Task]:
    tasks = {name: _task(table.table(name), name, classes) for name in table}
    return MappingProxyType(tasks)


def _task(table: _Table, name: str, classes: Mapping[str, bool]) -> Task:
    table.only("draft", "mode", "threshold", "class", "answer_matches", "rules")
    return Task(
        name=name,
        draft=table.choice("draft", DraftPassing, "none"),
        mode=table.choice("mode", Mode, None),
        threshold=table.share("threshold"),
        data_class=_class(table, "class", classes, ""),
        answer_matches=table.pattern("answer_matches"),
        rules=_rules(table),
    )


def _redaction(table: _Table) -> tuple[str, ...]:
    table.only("classes")
    return table.words("classes", REDACTIONS, REDACTIONS)


def _audit(table: _Table) -> bool:
    table.only("content")
    return table.yes("content", False)


def _early_abort(table: _Table) -> EarlyAbort | None:
    table.only("minimum", "tokens", "window")
    minimum = table.number("minimum", None, least=-1000, most=0)
    if minimum is None:
        table.fail("early_abort needs a minimum, such as minimum = -2.5; add it")
    usual = EarlyAbort(minimum)
    abort = EarlyAbort(
        minimum,
        tokens=table.whole("tokens", usual.tokens, least=1),
        window=table.whole("window", usual.window, least=1),
    )
    if abort.window > abort.tokens:
        table.wrong("window", f"of {abort.window} is more than the {abort.tokens} tokens watched")
    return abort
