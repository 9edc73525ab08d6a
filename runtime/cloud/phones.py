"""Telephone numbers in running text: international, and national formats that many countries use.

Rules are on how digits are grouped and on words beside them ("Tel.", "order no."); no list of
numbering plans. Knows nothing about other kinds of personal data.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_BLANK = "[ \u00a0\u202f]"
_DASH = "[-\u2010\u2011\u2013./]"
_SEP = f"(?:{_BLANK}?{_DASH}{_BLANK}?|{_BLANK})"
_ONE = f"(?:{_DASH}|{_BLANK})"
_MORE = rf"(?:{_SEP}?\d)"
# A number does not go on to the left or the right as a word, a decimal, an IP address, a sum...
# Letters of scripts with blanks between words; others may stand right beside a number.
_W = "A-Za-z0-9_\u00c0-\u024f\u0370-\u04ff"
_LEFT = rf"(?<![{_W}\\$€£+@^~(])(?<!(?<!ph)#)(?<!\d[.,:/])(?<![{_W}]/)(?<![{_W})]-)"
_RIGHT = rf"(?![{_W}@%€£$°])(?![.,:/\u2013-]\d)(?!-[{_W}])"

_INTERNATIONAL = re.compile(
    rf"(?:(?<![{_W}+])(?:\+|\(\+)|{_LEFT}(?<!\d{_BLANK})00{_BLANK}?(?=[1-9]))[1-9]\d{{0,2}}\)?"
    rf"(?:{_SEP}?\(\d{{1,4}}\))?{_MORE}{{6,12}}(?![{_W}@%€£$°])(?![.,]\d)"
)
# Formats that are hardly used for anything else; a word such as "order" before them rules out.
_NATIONAL = re.compile(
    _LEFT
    + rf"(?<!\d{_BLANK})"
    + "(?:"
    + "|".join(
        (
            # The trunk prefix 0, then an area and at least one gap: 0171/1234567, 06 12 34 56 78
            rf"(?:\(0[1-9]\d{{0,3}}\)|0{_BLANK}\([1-9]\d{{1,3}}\)|0[1-9]\d{{0,4}}(?={_SEP})){_MORE}{{5,10}}",
            r"0[1-9]\d{8,9}",
            # North America: (415) 555-2671, 1-415-555-2671
            rf"(?:1{_ONE})?(?:\([2-9]\d\d\){_BLANK}?|[2-9]\d\d{_ONE})[2-9]\d\d{_ONE}\d{{4}}",
            rf"1[38]00{_ONE}\d{{3}}{_ONE}\d{{3}}",
            rf"\(\d{{2,4}}\){_BLANK}?(?:\d{{6,9}}|\d{{2,5}}(?:{_ONE}\d{{2,5}}){{1,3}})",
            rf"8{_ONE}?\(?9\d\d\)?{_ONE}\d{{3}}{_ONE}\d\d{_ONE}\d\d",
            rf"[1-9]\d{_BLANK}9\d{{4}}-\d{{4}}",
            rf"1[3-9]\d{_ONE}\d{{4}}{_ONE}\d{{4}}",
            rf"[6-9]\d{{4}}{_BLANK}\d{{5}}",
            rf"[2-9]\d\d?{_ONE}\d{{2,3}}{_ONE}\d\d{_ONE}\d\d",
            rf"3[2-9]\d{_ONE}\d{{6,7}}",
        )
    )
    + ")"
    + _RIGHT
)
# Anything of the right length; only where a word beside it says that it is a telephone number.
_LOOSE = re.compile(rf"{_LEFT}(?<!\d{_BLANK})(?:1{_ONE})?\d{_MORE}{{6,12}}{_RIGHT}")

_CUE = re.compile(
    r"☎|📞|✆|📱|電話|手机|电话|전화|연락처|τηλ|тел|msisdn|numero verde|whats?app|"
    r"\b(?:t[ée]l|tlf|puh\b|ph\b|phone(?! calls?)|fax|mobi[el]|mobil|cell(?!s)|handy|"
    r"portable|m[óo]vil|komór|sms|call(?!s)|ring|text|reach|dial|hotline|my number|"
    r"meine nummer|mon num[ée]ro|mi n[úu]mero|il mio numero|mijn nummer|mój numer|"
    r"o meu n[úu]mero|mitt nummer|rufen|anruf|r[üu]ckruf|"
    r"erreich|appele[zr]|joindre|ll[aá]m|chiam|bel me|bereik|zadzwo|dzwo|liga-me|lig(?:ue|ar)\b)"
    r"|\b[TMF]:|\bM $",
    re.IGNORECASE,
)
# What a row of digits is, when it is no telephone number.
_OTHER = re.compile(
    r"\b(?:order|bestell|invoice|rechnung|ticket|isbn|issn|barcode|serial|serien|track|sendung|"
    r"kontonummer|account|customer n|kundenn|artikel|article|sku|patent|steuer|version|pedido|"
    r"commande|facture|fattura|factura|fatura|faktur|zam[óo]wieni|ordine|doi|d-u-n-s|epoch|timestamp|"
    r"session|lottery|lotto|score|population|budget|total)"
    r"|\b(?:ean|imei|part|vat|ust|port|lot|pmid|case|ref|hrb|din|rfc|iso|id|po|gps|week)\b|\bEIN\b|"
    r"\bNo\.|\bNr\.|(?<!ph)#",
    re.IGNORECASE,
)
# "Anna Kowalska, 601 234 567": a name and nothing else before the number
_NAMED = re.compile(
    r"(?:^|[\n\"|;-])\s*((?:[^\W\d_][\w'’.-]+\s+){1,3}[^\W\d_][\w'’-]+)\s*[,:;|\n\t]\s*$"
)
_PARTICLES = frozenset(
    ["de", "der", "da", "di", "do", "dos", "la", "le", "van", "von", "zu", "zum"]
)
# "Tel. 601 123 456 or ..."
_ANOTHER = re.compile(
    r"\d\s*(?:[,;/]|\b(?:or|and|oder|und|ou|et|o|y|e|i|lub|nebo|eller|och|of|en)\b)\s*$",
    re.IGNORECASE,
)
_UNIT = re.compile(
    r"\s?(?:€|EUR|Euro|USD|CHF|zł|PLN|kr\b|dollars?|£|\$|%|°|[kmc]?m\b|k?g\b|ml\b|[KMGT]i?B\b|people|pages|bytes)"
)
_IP = re.compile(r"\d{1,3}(?:\.\d{1,3}){3}(?!\.?\d)")
_DATE = re.compile(
    r"(?:0?[1-9]|[12]\d|3[01])[./-](?:0?[1-9]|1[0-2])[./-](?:19|20)\d\d|(?:19|20)\d\d([./-])\d\d?\1\d\d?"
)
# 1 200 000, 1948-2024
_ROUND = re.compile(
    r"\d{1,3}(?:[ .\u00a0\u202f]\d{3})*[ .\u00a0\u202f]000|(?:1[89]|20)\d\d.(?:1[89]|20)\d\d"
)
_PAIRS = re.compile(r"\d\d(?:\D\d\d){5,}")
_THOUSANDS = re.compile(r"\+\d{1,3}(?:\.\d{3}){2,}")
_REACH = 48  # characters before a number in which a word may say what it is


def find_phones(text: str) -> Iterator[tuple[int, int]]:
    """Start and end of each telephone number in a text; they may overlap."""
    for match in _INTERNATIONAL.finditer(text):
        if _is_international(text, match):
            yield match.start(), _without_time(text, match)
    for match in _NATIONAL.finditer(text):
        if _is_national(text, match):
            yield match.start(), _without_time(text, match)
    for match in _LOOSE.finditer(text):
        if _is_announced(text, match):
            yield match.start(), _without_time(text, match)


def _is_international(text: str, match: re.Match[str]) -> bool:
    digits = re.sub(r"\D", "", match[0])
    if match[0].startswith("00"):
        digits = digits[2:]
        if _is_other(text, match):
            return False
    if not 8 <= len(digits) <= 15 or _THOUSANDS.fullmatch(match[0]):
        return False
    if digits.startswith("1"):
        return len(digits) == 11 and digits[1] in "23456789"
    return True


def _is_national(text: str, match: re.Match[str]) -> bool:
    digits = sum(c.isdigit() for c in match[0])
    if not 8 <= digits <= 12 or _is_shaped_otherwise(text, match) or _is_other(text, match):
        return False
    # Short ones are often something else, unless an area stands in parentheses.
    return digits >= 9 or match[0].startswith("(")


def _is_announced(text: str, match: re.Match[str]) -> bool:
    digits = sum(c.isdigit() for c in match[0])
    if not 7 <= digits <= 13 or _is_shaped_otherwise(text, match) or _is_other(text, match):
        return False
    before = text[max(0, match.start() - _REACH) : match.start()]
    # In the line itself, or in a line of headings above it.
    line, _, above = before[::-1].partition("\n")
    line, above = line[::-1], above[::-1].rpartition("\n")[2]
    if any(c.isdigit() for c in above):
        above = ""
    after = text[match.end() : match.end() + 20]
    cue = _last(_CUE, line)
    if cue >= 0 and sum(c.isdigit() for c in line[cue:]) < 5:
        return True
    if _CUE.search(above) or re.match(r"\W+as a phone|\W+\((?:mobile|tel)", after):
        return True
    return (cue >= 0 and _ANOTHER.search(line) is not None) or _follows_name(before)


def _follows_name(before: str) -> bool:
    named = _NAMED.search(before)
    if named is None:
        return False
    words = [word for word in named[1].split() if word.lower() not in _PARTICLES]
    return len(words) > 1 and all(word[0].isupper() for word in words)


def _is_shaped_otherwise(text: str, match: re.Match[str]) -> bool:
    """Whether it is a date, an IP address, an amount, or a row of more than five pairs."""
    if (
        _DATE.match(match[0])
        or _ROUND.fullmatch(match[0])
        or _IP.match(match[0])
        or _PAIRS.fullmatch(match[0])
    ):
        return True
    following = text[match.end() : match.end() + 3]
    longer = re.match(r" \d\d(?!\d)", text[match.end() : match.end() + 4])
    return bool(_UNIT.match(text, match.end()) or (longer and _PAIRS.match(match[0] + following)))


def _is_other(text: str, match: re.Match[str]) -> bool:
    """Whether a word in the sentence before it says that it is some other number."""
    before = text[max(0, match.start() - _REACH) : match.start()]
    sentence = re.split(r"\n|[.!?;|] ", before)[-1]
    return _last(_OTHER, sentence) > _last(_CUE, sentence)


def _last(pattern: re.Pattern[str], text: str) -> int:
    """Where the last match of a pattern starts, -1 when there is none."""
    return max((match.start() for match in pattern.finditer(text)), default=-1)


def _without_time(text: str, match: re.Match[str]) -> int:
    """The end of a number, less the hour of a time that follows it: `... 4567 12:30`."""
    if re.match(r":\d\d", text[match.end() : match.end() + 3]):
        hour = re.search(rf"{_BLANK}\d\d?$", match[0])
        if hour is not None:
            return match.start() + hour.start()
    return match.end()
