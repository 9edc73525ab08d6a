"""The person's settings: checked, and kept in one JSON file that is always whole.

Knows nothing of how they are shown. `rules` makes a policy of them.
"""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from ondevice import files, json_file
from ondevice.errors import CloudError, RequestError
from ondevice.nearest import nearest
from ondevice.runtime.fallback.policy import Consent

FILE = "settings.json"
FORMAT = 1
LONGEST_TEXT = 20_000  # characters of a system prompt
MOST_PRESETS = 100
MOST_TOKENS = 1 << 17
Theme = Literal["system", "light", "dark"]


@dataclass(frozen=True)
class Preset:
    """A system prompt by name."""

    name: str
    system: str


@dataclass(frozen=True)
class CloudAddress:
    """Where the cloud model is, as the person writes it."""

    name: str
    base_url: str
    model: str


_PRESETS = (
    Preset("Assistant", "You are a helpful assistant. Answer briefly and precisely."),
    Preset("Translator", "Translate what the user writes into English; answer with nothing else."),
    Preset("Programmer", "You are an experienced programmer. Answer with code and few words."),
)


@dataclass(frozen=True)
class Settings:
    """All of them. `model` "" is the default model; `threshold` None is what was calibrated.

    Limits are USD per UTC day and month, None for no limit.
    """

    theme: Theme = "system"
    model: str = ""
    max_tokens: int = 512
    temperature: float = 0.0
    send_on_enter: bool = True
    presets: tuple[Preset, ...] = _PRESETS
    consent: Consent = "never"
    endpoint: CloudAddress | None = None
    threshold: float | None = None
    day_limit_usd: float | None = None
    month_limit_usd: float | None = None
    first_run_done: bool = False


class SettingsFile:
    """The settings on disk. `start` is what holds before any were written.

    A file that cannot be read is set aside, and `note` says so.
    """

    def __init__(self, path: Path, start: Settings = Settings()) -> None:
        self.path = path
        self.note = ""
        self._lock = threading.Lock()
        self._settings = self._read(start)

    @property
    def now(self) -> Settings:
        """What holds now."""
        return self._settings

    def change(self, values: dict[str, Any]) -> Settings:
        """Set some or all; what is not named stays.

        Raises `RequestError` for a wrong value, `OndeviceError` when they cannot be written: then
        nothing has changed.
        """
        with self._lock:
            changed = merged(self._settings, values)
            data = {"format_version": FORMAT, **as_json(changed)}
            files.write_text(self.path, json_file.dumps(data))
            self._settings = changed
            return changed

    def _read(self, start: Settings) -> Settings:
        try:
            if not self.path.exists():
                return start
            data = json_file.read(self.path)
            json_file.require_version(data, FORMAT, self.path)
            if not isinstance(data, dict):
                raise RequestError(f"{self.path} holds no settings")
            known = {field.name for field in fields(Settings)}
            return merged(start, {k: v for k, v in data.items() if k in known})
        except (RequestError, OSError) as error:
            self.note = f"the settings could not be read ({error}); {self._set_aside()}"
            return start

    def _set_aside(self) -> str:
        stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
        aside = self.path.with_name(f"{self.path.stem}.damaged-{stamp}{self.path.suffix}")
        try:
            self.path.rename(aside)
        except OSError as error:
            return f"they stay where they are ({error.strerror}), and the usual ones hold"
        return f"they are set aside as {aside}, and the usual ones hold"


def as_json(settings: Settings) -> dict[str, Any]:
    """Settings as the page sees them, and as they are written."""
    data: dict[str, Any] = json.loads(json.dumps(asdict(settings)))
    return data


def merged(settings: Settings, values: dict[str, Any]) -> Settings:
    """Settings with some changed. Raises `RequestError` for an unknown name or a wrong value."""
    for name in values:
        if name not in _CHECKS:
            raise RequestError(f"unknown setting {name!r}; {nearest(name, _CHECKS)}")
    checked = {name: _CHECKS[name](name, value) for name, value in values.items()}
    made = replace(settings, **checked)
    if made.consent != "never" and made.endpoint is None:
        raise RequestError(f"consent {made.consent!r} needs an endpoint; give its address first")
    return made


def _word(of: Any) -> Callable[[str, Any], Any]:
    def check(name: str, value: Any) -> Any:
        if value not in get_args(of):
            raise RequestError(f"{name} must be {' or '.join(get_args(of))}, not {value!r}")
        return value

    return check


def _yes(name: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise RequestError(f"{name} must be true or false, not {value!r}")
    return value


def _text(name: str, value: Any, most: int = 500) -> str:
    if not isinstance(value, str) or len(value) > most:
        raise RequestError(f"{name} must be a text of at most {most} characters")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RequestError(f"{name} is not valid Unicode") from error
    return value


def _whole(name: str, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_TOKENS:
        raise RequestError(f"{name} must be a whole number from 1 to {MOST_TOKENS}, not {value!r}")
    return value


def _number(most: float) -> Callable[[str, Any], float]:
    def check(name: str, value: Any) -> float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not math.isfinite(value) or not 0 <= value <= most:
            raise RequestError(f"{name} must be a number from 0 to {most:g}, not {value!r}")
        return float(value)

    return check


def _or_none(check: Callable[[str, Any], Any]) -> Callable[[str, Any], Any]:
    return lambda name, value: None if value is None else check(name, value)


def _presets(name: str, value: Any) -> tuple[Preset, ...]:
    if not isinstance(value, list) or len(value) > MOST_PRESETS:
        raise RequestError(f"{name} must be a list of at most {MOST_PRESETS} presets")
    made = [
        Preset(
            _text("the name of a preset", entry["name"], 100),
            _text("the system prompt of a preset", entry["system"], LONGEST_TEXT),
        )
        for entry in (_entries(one, ("name", "system"), "a preset") for one in value)
    ]
    if len({preset.name for preset in made}) < len(made):
        raise RequestError("two presets have the same name; rename one")
    return tuple(made)


def _endpoint(name: str, value: Any) -> CloudAddress:
    from ondevice.runtime.cloud.endpoint import Endpoint

    entry = _entries(value, ("name", "base_url", "model"), name)
    address = CloudAddress(**{key: _text(key, text).strip() for key, text in entry.items()})
    try:
        Endpoint(address.name, address.base_url, address.model)
    except CloudError as error:
        raise RequestError(str(error)) from error
    return address


def _entries(value: Any, names: tuple[str, ...], what: str) -> dict[str, Any]:
    if not isinstance(value, dict) or set(value) != set(names):
        raise RequestError(f"{what} needs exactly {', '.join(names)}")
    return value


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "theme": _word(Theme),
    "model": _text,
    "max_tokens": _whole,
    "temperature": _number(2),
    "send_on_enter": _yes,
    "presets": _presets,
    "consent": _word(Consent),
    "endpoint": _or_none(_endpoint),
    "threshold": _or_none(_number(1)),
    "day_limit_usd": _or_none(_number(1e6)),
    "month_limit_usd": _or_none(_number(1e6)),
    "first_run_done": _yes,
}
