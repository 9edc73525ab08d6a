"""A file dropped into the window to its text, page by page, or one line that says why not.

Knows nothing of passages and models.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from dataclasses import dataclass

from ondevice.errors import OndeviceError

LARGEST = 50_000_000  # bytes of a file
MOST_CHARACTERS = 5_000_000  # of text in one document

# Ordered: the mark of UTF-32 begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS = re.compile(r"[\0-\x08\x0e-\x1a\x1c-\x1f\x7f]")


class DocumentError(OndeviceError):
    """A file whose text cannot be had."""


@dataclass(frozen=True)
class Text:
    """The text of a document; a file without pages is one page.

    `unread` pages of a PDF were damaged and are empty here.
    """

    name: str
    pages: tuple[str, ...]
    unread: int = 0

    @property
    def characters(self) -> int:
        """Characters on all pages."""
        return sum(map(len, self.pages))


def read(name: str, data: bytes) -> Text:
    """The text of a file, a PDF or anything that is text by itself; `name` is only shown.

    May take `pdf.SECONDS` for a PDF. Raises `DocumentError` for a file that is empty, above
    `LARGEST`, encrypted, damaged, without text, not text, or too much to read.
    """
    name = shown(name)
    check_size(name, len(data))
    if not data.strip():
        raise DocumentError(f"{name} is empty; choose a file with text in it")
    # The mark may come after other bytes, which readers skip.
    text = _pdf(name, data) if b"%PDF-" in data[:1024] else Text(name, (_plain(name, data),))
    if text.characters > MOST_CHARACTERS:
        raise DocumentError(
            f"{name} has more than {MOST_CHARACTERS:,} characters of text; split it"
        )
    return text


def check_size(name: str, size: int) -> None:
    """Raise `DocumentError` for a file of more than `LARGEST` bytes.

    To be asked with the announced length before anything is received, and while it comes.
    """
    if size > LARGEST:
        raise DocumentError(
            f"{shown(name)} has {size / 1e6:,.0f} MB; a document may have "
            f"{LARGEST / 1e6:.0f} MB: choose a smaller file, or split it"
        )


def shown(name: str) -> str:
    """The last part of a path, without control characters, at most 120 characters."""
    last = re.split(r"[/\\]", name)[-1]
    clean = "".join(c for c in last if unicodedata.category(c)[0] not in "CZ" or c == " ").strip()
    return clean if 0 < len(clean) <= 120 else f"{clean[:60]}...{clean[-50:]}" if clean else "file"


def _plain(name: str, data: bytes) -> str:
    text = _decoded(data)
    if text is None or _CONTROLS.search(text):
        hint = "save it as PDF or text first" if data[:2] == b"PK" else "choose a text or PDF file"
        raise DocumentError(f"{name} is no text; {hint}")
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise DocumentError(f"{name} is empty; choose a file with text in it")
    return text


def _decoded(data: bytes) -> str | None:
    marked = next((name for mark, name in _MARKS if data.startswith(mark)), None)
    try:
        return data.decode(marked or "utf-8")
    except UnicodeDecodeError:
        return None if marked else _western(data)


def _western(data: bytes) -> str | None:
    """Text in Windows' code page 1252, as spreadsheets still write it; None when it is not.

    Nearly any bytes can be read so: believed only where most characters are ASCII.
    """
    try:
        text = data.decode("cp1252")
    except UnicodeDecodeError:
        return None
    return text if sum(map(str.isascii, text)) >= 0.8 * len(text) else None


def _pdf(name: str, data: bytes) -> Text:
    from ondevice.desktop import layout, pdf

    pages, unread = pdf.pages(name, data)
    return Text(name, layout.running(pages), unread)
