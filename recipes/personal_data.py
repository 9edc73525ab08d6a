"""Texts with planted structured personal data, and clean texts that look like them, by seed.

The formats are those in use in the countries named; nothing here knows the redactor that is
judged with them. All values are made up: numbers that pass their check digits, not accounts.
"""

from __future__ import annotations

import base64
import random
import re
import string
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

CLASSES = ("email", "phone", "iban", "card", "key")
_TEXTS = tomllib.loads(Path(__file__).with_name("personal_data.toml").read_text(encoding="utf-8"))
_ESCAPES = {"\\\\": "\\", "\\n": "\n", "\\t": "\t"}
_UNSEEN = Path(__file__).with_name("personal_data_unseen.txt")
LANGUAGES = tuple(name for name in _TEXTS if name not in ("any", "clean", "forms"))
_FORMED = _TEXTS["forms"]
_NAMES: list[str] = _FORMED["names"]


@dataclass(frozen=True)
class Item:
    """One planted value: characters `start` to `end` of its text; `form` is its format."""

    kind: str
    form: str
    value: str
    start: int
    end: int


@dataclass(frozen=True)
class Sample:
    """A text and what was planted in it; `source` is a language, or the family of a clean one."""

    text: str
    source: str
    items: tuple[Item, ...] = ()


def planted(count: int, seed: int = 0) -> list[Sample]:
    """Texts that together hold at least `count` items, the classes in turn."""
    rng = random.Random(seed)
    samples: list[Sample] = []
    total = 0
    while total < count:
        parts = rng.choices((1, 2, 3), weights=(7, 2, 1))[0]
        language = rng.choice(LANGUAGES)
        kinds = [CLASSES[(total + i) % len(CLASSES)] for i in range(parts)]
        sample = _joined(rng, language, kinds)
        samples.append(sample)
        total += parts
    return samples


def clean(count: int, seed: int = 0) -> list[Sample]:
    """`count` texts without personal data, the families in turn."""
    rng = random.Random(seed)
    families = list(_TEXTS["clean"])
    made = []
    for index in range(count):
        family = families[index % len(families)]
        made.append(Sample(_filled(rng, rng.choice(_TEXTS["clean"][family])), family))
    return made


def hand_written() -> list[Sample]:
    """The texts of personal_data_unseen.txt; `source` is "clean" for those without an item."""
    # The bar keeps programs that look for leaked keys from taking made-up ones for real.
    lines = _UNSEEN.read_text(encoding="utf-8").replace("¦", "").splitlines()
    texts = (re.sub(r"\\[\\nt]", lambda m: _ESCAPES[m[0]], line) for line in lines)
    return [_marked(text) for text in texts if not text.startswith("#")]


def _marked(line: str) -> Sample:
    """A line in which items are marked as ⟦class:value⟧."""
    text, place = "", 0
    items: list[Item] = []
    for mark in re.finditer(r"⟦(\w+):([^⟧]*)⟧", line):
        text += line[place : mark.start()]
        items.append(Item(mark[1], "by hand", mark[2], len(text), len(text) + len(mark[2])))
        text += mark[2]
        place = mark.end()
    return Sample(text + line[place:], "by hand" if items else "clean", tuple(items))


def _joined(rng: random.Random, language: str, kinds: list[str]) -> Sample:
    """Sentences of one language after each other, sometimes with a clean one between."""
    text = ""
    items: list[Item] = []
    for kind in kinds:
        if text:
            text += rng.choice((" ", "\n", "\n\n"))
        if rng.random() < 0.2:
            family = rng.choice(list(_TEXTS["clean"]))
            text += _filled(rng, rng.choice(_TEXTS["clean"][family])) + "\n"
        sentence, item = _sentence(rng, language, kind)
        items.append(
            Item(item.kind, item.form, item.value, item.start + len(text), item.end + len(text))
        )
        text += sentence
    return Sample(text, language, tuple(items))


def _sentence(rng: random.Random, language: str, kind: str) -> tuple[str, Item]:
    source = "any" if rng.random() < 0.35 else language
    template = rng.choice(_TEXTS[source][kind])
    form = rng.choice(list(_FORMS[kind]))
    made = _FORMS[kind][form](rng)
    around, value = made if isinstance(made, tuple) else ("{v}", made)
    before, _, after = template.replace("{k}", "{x}").partition("{x}")
    fill = {"name": rng.choice(_NAMES)}
    left, _, right = around.partition("{v}")
    before, after = (part.format(**fill) for part in (before, after))
    text = before + left + value + right + after
    start = len(before) + len(left)
    return text, Item(kind, form, value, start, start + len(value))


# --- random parts -------------------------------------------------------------------------


def _digits(rng: random.Random, count: int, first: str = string.digits) -> str:
    return rng.choice(first) + "".join(rng.choices(string.digits, k=count - 1)) if count else ""


def _chars(
    rng: random.Random, count: int, alphabet: str = string.ascii_letters + string.digits
) -> str:
    return "".join(rng.choices(alphabet, k=count))


def _shaped(rng: random.Random, shape: str) -> str:
    """A shape with N for 2-9, Z for 1-9 and X for any digit; the rest stays."""
    digits = {"X": string.digits, "N": "23456789", "Z": "123456789"}
    return "".join(rng.choice(digits[c]) if c in digits else c for c in shape)


def _of(*shapes: str) -> Callable[[random.Random], str]:
    return lambda rng: _shaped(rng, rng.choice(shapes))


# --- e-mail -------------------------------------------------------------------------------


def _email(rng: random.Random) -> str:
    return f"{rng.choice(_FORMED['locals'])}@{rng.choice(_FORMED['domains'])}"


def _spelt_out(rng: random.Random) -> str:
    at, dot = rng.choice(
        ((" [at] ", " [dot] "), ("(at)", "."), (" (at) ", " (dot) "), ("[at]", "."))
    )
    host, end = rng.choice(("example", "gmail", "web")), rng.choice(("com", "de", "fr"))
    return f"{rng.choice(_FORMED['locals'])}{at}{host}{dot}{end}"


# --- phone --------------------------------------------------------------------------------

_PHONES = {country: _of(*shapes) for country, shapes in _FORMED["phones"].items()}


# --- IBAN ---------------------------------------------------------------------------------

_ACCOUNTS: dict[str, str] = _FORMED["accounts"]


def _iban(rng: random.Random) -> str:
    country = rng.choice(list(_ACCOUNTS))
    alphabet = {
        "A": string.ascii_uppercase,
        "X": string.digits,
        "C": string.digits + string.ascii_uppercase,
    }
    account = "".join(rng.choice(alphabet[c]) for c in _ACCOUNTS[country])
    number = int("".join(str(int(c, 36)) for c in account + country + "00"))
    return f"{country}{98 - number % 97:02d}{account}"


def _fours(separator: str) -> Callable[[random.Random], str]:
    def made(rng: random.Random) -> str:
        number = _iban(rng)
        return separator.join(number[i : i + 4] for i in range(0, len(number), 4))

    return made


# --- cards --------------------------------------------------------------------------------

_CARDS = (
    ("visa", ("4",), 16, (4, 4, 4, 4)),
    ("mastercard", ("51", "52", "53", "54", "55", "2221", "2720", "2500"), 16, (4, 4, 4, 4)),
    ("amex", ("34", "37"), 15, (4, 6, 5)),
    ("discover", ("6011", "65", "644"), 16, (4, 4, 4, 4)),
    ("diners", ("36", "38", "300"), 14, (4, 6, 4)),
    ("jcb", ("3528", "3589"), 16, (4, 4, 4, 4)),
    ("unionpay", ("62",), 16, (4, 4, 4, 4)),
    ("maestro", ("6759", "5018"), 16, (4, 4, 4, 4)),
)


def _card(separator: str) -> Callable[[random.Random], str]:
    def made(rng: random.Random) -> str:
        _, prefixes, length, groups = rng.choice(_CARDS)
        prefix = rng.choice(prefixes)
        body = prefix + _digits(rng, length - len(prefix) - 1)
        number = body + _check_digit(body)
        parts, start = [], 0
        for size in groups:
            parts.append(number[start : start + size])
            start += size
        return separator.join(parts)

    return made


def _check_digit(body: str) -> str:
    """The Luhn digit that completes a number."""
    total = 0
    for place, digit in enumerate(reversed(body)):
        doubled = int(digit) * (2 if place % 2 == 0 else 1)
        total += doubled - 9 if doubled > 9 else doubled
    return str(-total % 10)


# --- keys ---------------------------------------------------------------------------------

_URL64 = string.ascii_letters + string.digits + "-_"
_LABELS, _SAID, _PASSWORDS = (tuple(_FORMED[name]) for name in ("labels", "said", "passwords"))


def _labelled(labels: tuple[str, ...]) -> Callable[[random.Random], tuple[str, str]]:
    def made(rng: random.Random) -> tuple[str, str]:
        strong = _chars(rng, rng.choice((20, 32, 40)))
        return rng.choice(labels), rng.choice(
            (*_PASSWORDS, strong, strong, rng.randbytes(16).hex())
        )

    return made


def _jwt(rng: random.Random) -> str:
    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    head = part(b'{"alg":"HS256","typ":"JWT"}')
    body = part(b'{"sub":"' + _digits(rng, 10).encode() + b'"}')
    return f"{head}.{body}.{_chars(rng, 43, _URL64)}"


def _pem(rng: random.Random) -> str:
    kind = rng.choice(("RSA ", "EC ", "OPENSSH ", "", "ENCRYPTED ", "DSA "))
    body = base64.b64encode(rng.randbytes(rng.choice((90, 200)))).decode()
    lines = "\n".join(body[i : i + 64] for i in range(0, len(body), 64))
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{lines}\n-----END {kind}PRIVATE KEY-----"


def _of_key(
    prefix: str, count: int, alphabet: str = string.ascii_letters + string.digits
) -> Callable[[random.Random], str]:
    return lambda rng: prefix + _chars(rng, count, alphabet)


def _in_url(rng: random.Random) -> tuple[str, str]:
    around = f"postgres://{rng.choice(('app', 'root'))}:{{v}}@db.example.org:5432/shop"
    return around, rng.choice(_PASSWORDS).replace("#", "x")


def _azure(rng: random.Random) -> tuple[str, str]:
    value = base64.b64encode(rng.randbytes(64)).decode()
    return "AccountName=shop;AccountKey={v};", value


_KEYS: dict[str, Callable[[random.Random], str | tuple[str, str]]] = {
    "labelled": _labelled(_LABELS),
    "labelled-2": _labelled(_LABELS),
    "said": _labelled(_SAID),
    "openai": _of_key("sk-", 48),
    "openai-project": _of_key("sk-proj-", 120, _URL64),
    "anthropic": _of_key("sk-ant-api03-", 93, _URL64),
    "aws": _of_key("AKIA", 16, string.ascii_uppercase + "234567"),
    "github": _of_key("ghp_", 36),
    "github-fine": lambda rng: f"github_pat_{_chars(rng, 22)}_{_chars(rng, 59)}",
    "gitlab": _of_key("glpat-", 20, _URL64),
    "slack": lambda rng: f"xox{rng.choice('bpas')}-{_digits(rng, 12)}-{_chars(rng, 24)}",
    "google": _of_key("AIza", 35, _URL64),
    "stripe": lambda rng: f"{rng.choice(('sk_live', 'rk_live', 'sk_test'))}_{_chars(rng, 24)}",
    "hf": _of_key("hf_", 34, string.ascii_letters),
    "npm": _of_key("npm_", 36),
    "sendgrid": lambda rng: f"SG.{_chars(rng, 22, _URL64)}.{_chars(rng, 43, _URL64)}",
    "telegram": lambda rng: f"{_digits(rng, 10, '123456789')}:AA{_chars(rng, 33, _URL64)}",
    "jwt": _jwt,
    "pem": _pem,
    "bearer": lambda rng: ("Authorization: Bearer {v}", _chars(rng, 40, _URL64)),
    "url": _in_url,
    "azure": _azure,
}  # fmt: skip

_FORMS: dict[str, dict[str, Callable[[random.Random], str | tuple[str, str]]]] = {
    "email": {**{f"plain-{i}": _email for i in range(19)}, "spelt out": _spelt_out},
    "phone": {**_PHONES},
    "iban": {
        "joined": _iban,
        "fours": _fours(" "),
        "fours ": _fours(" "),
        "dashes": _fours("-"),
        "no-break spaces": _fours("\u00a0"),
        "small letters": lambda rng: _iban(rng).lower(),
    },
    "card": {
        "joined": _card(""),
        "spaces": _card(" "),
        "spaces ": _card(" "),
        "dashes": _card("-"),
        "no-break spaces": _card("\u00a0"),
    },
    "key": {**_KEYS},
}


# --- clean texts --------------------------------------------------------------------------


def _filled(rng: random.Random, template: str) -> str:
    """A clean template with random digits, dates and identifiers in its fields."""
    return string.Formatter().vformat(template, (), _Fields(rng))


class _Fields(dict[str, str]):
    """Fields by name, made when asked for: every use in a template gets a new value."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._rng = rng

    def __missing__(self, name: str) -> str:
        rng = self._rng
        y, m, d = rng.randint(1970, 2030), rng.randint(1, 12), rng.randint(1, 28)
        fixed = {
            "y": f"{y}",
            "m": f"{m:02d}",
            "dd": f"{d:02d}",
            "iso": f"{y}-{m:02d}-{d:02d}",
            "iso_compact": f"{y}{m:02d}{d:02d}",
            "dmy": f"{d:02d}.{m:02d}.{y}",
            "dmy_slash": f"{d:02d}/{m:02d}/{y}",
            "dmy_dash": f"{d:02d}-{m:02d}-{y}",
            "mdy": f"{m}/{d}/{y}",
            "hm": f"{rng.randint(0, 23):02d}:{rng.randint(0, 59):02d}",
            "ip": ".".join(str(rng.randint(1, 254)) for _ in range(4)),
            "ts": f"1{rng.randint(6, 7)}{_digits(rng, 8)}",
        }
        if name in fixed:
            return fixed[name]
        if name == "u":
            h = rng.randbytes(16).hex()
            return f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}"
        if name == "ean":
            return _ean(rng)
        if name == "imei":
            body = "35" + _digits(rng, 12)
            return body + _check_digit(body)
        count = int(name[1:])
        if name[0] == "h":
            return _chars(rng, count, "0123456789abcdef")
        return _digits(rng, count, "123456789" if name[0] == "D" else string.digits)


def _ean(rng: random.Random) -> str:
    body = rng.choice(("400", "426", "500", "301", "871", "978")) + _digits(rng, 9)
    total = sum(int(c) * (3 if place % 2 else 1) for place, c in enumerate(body))
    return body + str(-total % 10)
