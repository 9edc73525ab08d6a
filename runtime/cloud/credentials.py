"""Keys, tokens and passwords in text: by their prefixes, and by the label they follow.

Random-looking text without a prefix or a label is left alone: hashes and identifiers look so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_TOKENS = (
    r"sk-(?=[\w-]{0,80}\d)(?=[\w-]{0,80}?\w{12})[\w-]{16,}",
    r"(?:AKIA|ASIA|AROA|AIDA|ABIA|ACCA)[A-Z0-9]{16}",
    r"gh[pousr]_[A-Za-z0-9]{30,}",
    r"github_pat_\w{40,}",
    r"gl(?:pat|ptt|dt|rt|cbt|soat|ft)-[\w-]{20,}",
    r"xox[a-z]-[\w-]{10,}",
    r"xapp-[\w-]{20,}",
    r"AIza[\w-]{35}",
    r"ya29\.[\w-]{20,}",
    r"GOCSPX-[\w-]{20,}",
    r"[spr]k_(?:live|test)_[A-Za-z0-9]{16,}",
    r"whsec_[\w+/=-]{16,}",
    r"(?:hf|gsk|r8|npm|dop_v1|shpat|shpss|dckr_pat|lin_api|figd|secret|ntn|pat|fw|nvapi|pplx|xai|tgp_v1|key)"
    r"[_-](?=\w{0,80}\d)(?=\w{0,80}[A-Za-z])[A-Za-z0-9_]{20,}",
    r"hf_[A-Za-z0-9]{30,}",
    r"npm_[A-Za-z0-9]{36}",
    r"pypi-[\w-]{40,}",
    r"SG\.[\w-]{16,}\.[\w-]{16,}",
    r"hvs\.[\w-]{20,}",
    r"\d{8,10}:[A-Za-z0-9_-]{35}",
    r"eyJ[\w-]{8,}\.[\w-]{8,}(?:\.[\w-]*){0,3}",
    r"AGE-SECRET-KEY-1[A-Z0-9]{50,}",
)
_TOKEN = re.compile(rf"(?<![A-Za-z0-9_])(?:{'|'.join(_TOKENS)})(?![A-Za-z0-9])")
_PEM = re.compile(
    r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----"
    r"(?:[^-]|-(?!----))*(?:-----END (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----)?"
)
_WEBHOOK = re.compile(r"hooks\.slack\.com/services/([A-Za-z0-9/]{20,})")
_IN_URL = re.compile(r"://[^\s/:@\"'<>]{0,100}:([^\s/@\"'<>]{1,200})@(?=[\w\[])")
_HEADER = re.compile(r"\b(?:bearer|basic|token)\s+([A-Za-z0-9._~+/=-]{16,})", re.IGNORECASE)

_PASSWORD = (
    r"passwor[dt]|passwd|passphrase|(?<![a-z])(?:pass|pw)(?![a-z])|sshpass|pwd|kennwort|"
    r"mots? de passe|mot_de_passe|contrase[ñn]a|wachtwoord|has[łl]o|senha|palavra-passe|"
    r"lösenord|parola|пароль|adgangskode|salasana|şifre|パスワード|密码"
)
_SECRET = (
    r"secret|token|api[ _-]?key|access[_-]?key|auth[_-]?key|private[_-]?key|account[_-]?key|"
    r"(?:shared|encryption|decryption|signing|session|master)[_-]?key|credentials?"
)
_VALUE = (
    r"(?:\"(?P<double>[^\"\n]{1,400})\"|'(?P<single>[^'\n]{1,400})'|`(?P<tick>[^`\n]{1,400})`|"
    r"(?P<bare>[^\s\"'`,;]{1,400}))"
)
_ASSIGNED = re.compile(
    rf"(?P<label>(?:(?P<password>{_PASSWORD})|(?:{_SECRET}))(?P<tail>[\w-]{{0,24}}))"
    rf"[\"']?(?P<sign>\s{{0,2}}(?:=>|:=|=(?!=)|[:：])\s{{0,4}}|"
    rf"(?<=--token)\s|(?<=--password)\s|(?<=sshpass) -p ?){_VALUE}",
    re.IGNORECASE,
)
_NAMED = rf"\b(?:{_PASSWORD}|pass ?code|api[ -]?key|token|secret)\b"
_WORDS = r"(?:[^\S\n]+[^\W\d_]+)"
_WORD = r"[^\S\n]*[«„“\"'`]?(?P<bare>[^\s\"'`,;«»„“”]{6,200})"
# In a sentence: "my password is ...", "mot de passe temporaire : ...", "root / password ..."
_SAID = (
    (
        rf"{_NAMED}{_WORDS}{{0,3}}?[^\S\n]+"
        rf"(?:is|was|changed to|lautet|ist|war|est|es|era|è|e'|é|to|är)(?=[\s:]):?{_WORD}",
        False,
    ),
    (rf"{_NAMED}{_WORDS}{{1,4}}[^\S\n]*[:：]{_WORD}", False),
    (rf"{_NAMED}[^\S\n]{_WORD}", True),
)
_SAID_PATTERNS = tuple((re.compile(text, re.IGNORECASE), strong) for text, strong in _SAID)
# Labels that go on like this name something about a secret, not the secret itself.
_ABOUT = re.compile(
    r"(?:s|.*[_-](?:file|path|url|uri|dir|count|limit|len|length|type|name|size|field|hint|policy|ttl|"
    r"expir\w*|min|max|env|var|ref|id|ids|reset\w*|usage|total|price|cost))$",
    re.IGNORECASE,
)
_KEYWORDS = frozenset(
    [
        "none",
        "null",
        "nil",
        "true",
        "false",
        "undefined",
        "required",
        "optional",
        "string",
        "str",
        "int",
        "integer",
        "number",
        "bool",
        "boolean",
        "bytes",
        "text",
        "any",
        "object",
        "secret",
        "password",
        "passwort",
        "token",
        "hidden",
        "redacted",
        "masked",
        "empty",
        "yes",
        "no",
    ]
)
_STAND_IN = re.compile(
    r"[$<{%\[(]|\*+$|x+$|\.+$|https?://|[~.]{0,2}/[a-z._-]*(?:/|$)|os\.|process\.|env[.\[(]|getenv|-----",
    re.IGNORECASE,
)


def find_secrets(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each key, token or password in a text; they may overlap."""
    for pattern in (_TOKEN, _PEM):
        for match in pattern.finditer(text):
            yield match.span()
    for match in _WEBHOOK.finditer(text):
        yield match.span(1)
    for match in _IN_URL.finditer(text):
        if not _STAND_IN.match(match[1]):
            yield match.span(1)
    for match in _HEADER.finditer(text):
        if _mixed(match[1]):
            yield match.span(1)
    yield from _assigned(text)
    for pattern, strong in _SAID_PATTERNS:
        for match in pattern.finditer(text):
            value = match["bare"].rstrip(".:?)]}")
            if _looks_chosen(value) and (not strong or _is_strong(value)):
                yield match.start("bare"), match.start("bare") + len(value)


def _assigned(text: str) -> Iterator[tuple[int, int]]:
    """Values of assignments, YAML and JSON entries, and options, whose label names a secret."""
    place = 0
    while match := _ASSIGNED.search(text, place):
        # What follows a label may be a label again: password = token: ...
        place = match.end("sign")
        group = next(
            name for name in ("double", "single", "tick", "bare") if match[name] is not None
        )
        value = match[group]
        if group == "bare":
            value = _trimmed(text, match, value)
        if _ABOUT.match(match["tail"]) or not _is_secret(match, value, group):
            continue
        yield match.start(group), match.start(group) + len(value)


def _trimmed(text: str, match: re.Match[str], value: str) -> str:
    """A bare value without what closes the sentence, the bracket or the query around it."""
    if re.search(r"[?&][\w-]*$", text[max(0, match.start() - 32) : match.start()]):
        value = value.partition("&")[0]
    while value and (
        value[-1] in ".:?"
        or (value[-1] in ")]}" and value.count(value[-1]) > value.count(_OPENER[value[-1]]))
    ):
        value = value[:-1]
    return value


_OPENER = {")": "(", "]": "[", "}": "{"}


def _is_secret(match: re.Match[str], value: str, group: str) -> bool:
    if value.lower() in _KEYWORDS or _STAND_IN.match(value):
        return False
    if group == "bare" and re.search(r"[A-Za-z_][\w.]*\(", value):
        return False  # a call: what it returns stands elsewhere
    if not match["password"]:
        return len(value) >= 8 and " " not in value and _mixed(value)
    if len(value) < 4:
        return False
    if group != "bare":
        return " " not in value or bool(re.search(r"\d", value))
    if "=" in match["sign"] or match["sign"].isspace():
        return True
    # After a colon it may be prose: a word is taken only when it is all of the rest of the line.
    alone = re.match(r"[^\S\n]*(?:[,;}#].*)?$", match.string[match.end("bare") :], re.MULTILINE)
    return _looks_chosen(value) or alone is not None or value.isdigit()


def _looks_chosen(value: str) -> bool:
    """Whether a word is more like a password than like a word."""
    if (
        len(value) < 6
        or _STAND_IN.match(value)
        or re.fullmatch(r"[a-z]+\d*(?:-[a-z]+)+", value.lower())
    ):
        return False
    letters = any(c.isalpha() for c in value)
    return letters and any(c.isdigit() or not (c.isalnum() or c in "-'’._/") for c in value)


def _is_strong(value: str) -> bool:
    """A digit and a symbol within: hardly a word, even without a verb before it."""
    return any(c.isdigit() for c in value) and bool(re.search(r"[^\w\s.,:/'’-]", value))


def _mixed(value: str) -> bool:
    """Letters and digits together, or a long run of capital and small letters."""
    if any(c.isdigit() for c in value):
        return any(c.isalpha() for c in value)
    return len(value) >= 20 and value != value.lower() and value != value.upper()
