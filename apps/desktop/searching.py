"""Finding words in the history: SQLite's full-text index, and plain looking where that fails.

Knows only the tables.
"""

from __future__ import annotations

import re
import sqlite3

from ondevice.desktop.records import Found, Snippet

MOST = 50  # results
_START, _END = "\x02", "\x03"  # marks that no text of a person holds
_WORDS = re.compile(r"\w+")
_AROUND = 60  # characters on each side, where the index gives no snippet


def search(db: sqlite3.Connection, text: str) -> list[Found]:
    """Titles, then messages that hold every word of a text (or its beginning), the best first."""
    text = " ".join(text.replace("\0", " ").split())
    if not text:
        return []
    messages = _indexed(db, text) or _looked_for(db, text)
    return [*_titles(db, text), *messages][:MOST]


def _titles(db: sqlite3.Connection, text: str) -> list[Found]:
    rows = db.execute(
        "SELECT id, title FROM conversations WHERE title LIKE ? ESCAPE '\\' "
        "ORDER BY updated DESC LIMIT ?",
        (_like(text), MOST),
    ).fetchall()
    return [Found(id, title, None, "title", _around(title, text)) for id, title in rows]


def _indexed(db: sqlite3.Connection, text: str) -> list[Found]:
    words = _WORDS.findall(text)
    if not words:
        return []
    rows = db.execute(
        "SELECT c.id, c.title, m.id, m.role, snippet(found, 0, ?, ?, '…', 24) FROM found "
        "JOIN messages m ON m.number = found.rowid JOIN conversations c ON c.id = m.conversation "
        "WHERE found MATCH ? ORDER BY rank LIMIT ?",
        (_START, _END, " ".join(f'"{word}"*' for word in words), MOST),
    ).fetchall()
    return [Found(id, title, m, role, _marked(text)) for id, title, m, role, text in rows]


def _looked_for(db: sqlite3.Connection, text: str) -> list[Found]:
    """The text itself anywhere: for signs, and for scripts that put no space between words."""
    rows = db.execute(
        "SELECT c.id, c.title, m.id, m.role, m.content FROM messages m "
        "JOIN conversations c ON c.id = m.conversation WHERE m.content LIKE ? ESCAPE '\\' "
        "ORDER BY m.number DESC LIMIT ?",
        (_like(text), MOST),
    ).fetchall()
    return [Found(id, title, m, role, _around(body, text)) for id, title, m, role, body in rows]


def _like(text: str) -> str:
    return "%" + re.sub(r"([\\%_])", r"\\\1", text) + "%"


def _marked(snippet: str) -> tuple[Snippet, ...]:
    pieces = re.split(f"{_START}(.*?){_END}", snippet, flags=re.DOTALL)
    return tuple(Snippet(text, bool(at % 2)) for at, text in enumerate(pieces) if text)


def _around(content: str, text: str) -> tuple[Snippet, ...]:
    found = re.search(re.escape(text), content, re.IGNORECASE)
    if found is None:
        return (Snippet(content[: 2 * _AROUND], False),)
    start, end = found.span()
    pieces = (
        ("…" if start > _AROUND else "") + content[max(0, start - _AROUND) : start],
        content[start:end],
        content[end : end + _AROUND] + ("…" if end + _AROUND < len(content) else ""),
    )
    return tuple(Snippet(piece, at == 1) for at, piece in enumerate(pieces) if piece)
