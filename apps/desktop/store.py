"""The history: conversations, messages, documents and notices in one SQLite file, searchable.

Knows nothing about models. A message that cannot be written stays in memory and is written as
soon as that works again.
"""

from __future__ import annotations

import dataclasses
import json
import sqlite3
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ondevice.closing import Closing
from ondevice.desktop import searching
from ondevice.desktop.database import Database, StoreError
from ondevice.desktop.records import (
    Conversation,
    Details,
    Document,
    Found,
    Message,
    Notice,
    Passage,
    Shown,
    new_id,
    now,
)
from ondevice.errors import RequestError

FILE = "history.sqlite"
LONGEST_TITLE = 200  # characters
_CHANGEABLE = ("title", "model", "system", "preset")


class NotFound(RequestError):  # noqa: N818 - it says what is so
    """Something that was asked for by its id and is not there, or no longer."""


@dataclass(frozen=True)
class _Pending:
    """A message that is not on the disk yet, and the one it stands in place of."""

    conversation: str
    position: int
    message: Message
    instead_of: str = ""


class Store(Closing):
    """The history in a file. Safe to use from several threads; every change is on the disk when
    its method returns, or `problem` says why not."""

    def __init__(self, path: Path) -> None:
        self._database = Database(path)
        self._lock = threading.RLock()
        self._pending: list[_Pending] = []
        self.problem = ""  # why messages are in memory only
        for note in self._database.notes:
            self.add_notice(Notice("error", note))

    @property
    def path(self) -> Path:
        """Where the history lies."""
        return self._database.path

    def close(self) -> None:
        """Write what is still pending, as far as that goes, and close the file."""
        self.flush()
        self._database.close()

    def conversations(self) -> list[Conversation]:
        """All conversations, the one used last first."""
        with self._database.reading() as db:
            rows = db.execute(f"{_CONVERSATIONS} ORDER BY updated DESC, rowid DESC").fetchall()
        return [Conversation(*row) for row in rows]

    def conversation(self, id: str) -> Conversation:
        """One conversation. Raises `NotFound`."""
        with self._database.reading() as db:
            row = db.execute(f"{_CONVERSATIONS} WHERE id = ?", (id,)).fetchone()
        if row is None:
            raise NotFound("this conversation is not there any more")
        return Conversation(*row)

    def create(self, *, model: str = "", system: str = "", preset: str = "") -> Conversation:
        """A new, empty conversation without a title. Raises `StoreError`."""
        time = now()
        made = Conversation(new_id(), "", time, time, model, system, preset)
        with self._database.writing() as db:
            db.execute(
                "INSERT INTO conversations VALUES (?, ?, ?, ?, ?, ?, ?)",
                dataclasses.astuple(made)[:7],
            )
        return made

    def change(self, id: str, **values: str) -> Conversation:
        """Set title, model, system prompt or preset. Raises `NotFound`, `StoreError`."""
        self.conversation(id)
        for name in values:
            assert name in _CHANGEABLE
        if "title" in values:
            values["title"] = " ".join(values["title"].split())[:LONGEST_TITLE]
        with self._database.writing() as db:
            for name, value in values.items():
                db.execute(f"UPDATE conversations SET {name} = ? WHERE id = ?", (value, id))
        return self.conversation(id)

    def delete(self, id: str) -> None:
        """Delete a conversation with all that belongs to it. Raises `NotFound`, `StoreError`."""
        self.conversation(id)
        with self._lock, self._database.writing() as db:
            db.execute("DELETE FROM conversations WHERE id = ?", (id,))
            db.execute(_FORGET)
            self._pending = [one for one in self._pending if one.conversation != id]

    def delete_all(self) -> None:
        """Delete every conversation. Raises `StoreError`."""
        with self._lock, self._database.writing() as db:
            db.execute("DELETE FROM conversations")
            db.execute(_FORGET)
            self._pending = []

    def messages(self, conversation: str) -> list[Message]:
        """The messages of a conversation in order, those not on the disk yet included."""
        with self._lock:
            with self._database.reading() as db:
                rows = db.execute(
                    f"SELECT position, {_MESSAGE} FROM messages WHERE conversation = ? "
                    "ORDER BY position, number",
                    (conversation,),
                ).fetchall()
            found = {row[1]: (row[0], _message(row[1:])) for row in rows}
            for one in self._pending:
                if one.conversation == conversation:
                    found.pop(one.instead_of, None)
                    found[one.message.id] = (one.position, one.message)
        return [message for _, message in sorted(found.values(), key=lambda entry: entry[0])]

    def add(self, conversation: str, *messages: Message) -> None:
        """Add messages at the end. They are there in any case; `problem` tells of the disk."""
        with self._lock:
            position = self._next(conversation)
            self._pending += [
                _Pending(conversation, position + at, message)
                for at, message in enumerate(messages)
            ]
            self.flush()

    def put(self, conversation: str, message: Message, *, instead_of: str = "") -> None:
        """Write a message anew, or in place of another one; as sure as `add`."""
        with self._lock:
            position = self._position(conversation, instead_of or message.id)
            if position is None:
                return  # deleted meanwhile
            earlier = [one for one in self._pending if one.message.id == message.id]
            instead_of = instead_of or next((one.instead_of for one in earlier), "")
            self._pending = [one for one in self._pending if one not in earlier]
            self._pending.append(_Pending(conversation, position, message, instead_of))
            self.flush()

    def flush(self) -> None:
        """Write what is pending; `problem` is "" when all is on the disk."""
        with self._lock:
            if not self._pending:
                return
            try:
                with self._database.writing() as db:
                    for one in self._pending:
                        _write(db, one)
            except StoreError as error:
                self.problem = str(error)
                return
            self._pending = []
            self.problem = ""

    def documents(self, conversation: str) -> list[Document]:
        """The documents of a conversation, the first added first."""
        with self._database.reading() as db:
            rows = db.execute(
                "SELECT id, name, pages, bytes, characters, "
                "(SELECT count(*) FROM passages WHERE document = documents.id) "
                "FROM documents WHERE conversation = ? ORDER BY added, rowid",
                (conversation,),
            ).fetchall()
        return [Document(*row) for row in rows]

    def add_document(
        self, conversation: str, document: Document, passages: Sequence[Passage]
    ) -> None:
        """Keep a document's passages. Raises `NotFound`, `StoreError`."""
        self.conversation(conversation)
        with self._database.writing() as db:
            d = document
            db.execute(
                "INSERT INTO documents VALUES (?, ?, ?, ?, ?, ?, ?)",
                (d.id, conversation, d.name, d.pages, d.bytes, d.characters, now()),
            )
            db.executemany(
                "INSERT INTO passages VALUES (?, ?, ?, ?)",
                [(d.id, one.number, one.page, one.text) for one in passages],
            )

    def remove_document(self, conversation: str, id: str) -> None:
        """Forget a document. Raises `NotFound`, `StoreError`."""
        with self._database.writing() as db:
            done = db.execute(
                "DELETE FROM documents WHERE conversation = ? AND id = ?", (conversation, id)
            )
        if not done.rowcount:
            raise NotFound("this document is not there any more")

    def passages(self, conversation: str) -> list[Passage]:
        """All passages of a conversation's documents, in order."""
        with self._database.reading() as db:
            rows = db.execute(
                "SELECT d.id, d.name, p.page, p.number, p.text FROM passages p "
                "JOIN documents d ON d.id = p.document WHERE d.conversation = ? "
                "ORDER BY d.added, d.rowid, p.number",
                (conversation,),
            ).fetchall()
        return [Passage(*row) for row in rows]

    def search(self, words: str) -> list[Found]:
        """Messages and titles that hold all of the words, the best first."""
        with self._database.reading() as db:
            return searching.search(db, words)

    def notices(self) -> list[Notice]:
        """What is to be told to the person, the oldest first."""
        with self._database.reading() as db:
            rows = db.execute("SELECT kind, text, id FROM notices ORDER BY rowid").fetchall()
        return [Notice(*row) for row in rows]

    def add_notice(self, notice: Notice) -> None:
        """Keep a notice until it is dismissed; one of the same words is not told twice."""
        if any(notice.text == one.text for one in self.notices()):
            return
        with self._database.writing() as db:
            row = (notice.id, notice.kind, notice.text)
            db.execute("INSERT INTO notices VALUES (?, ?, ?)", row)

    def dismiss(self, id: str) -> None:
        """Forget a notice; one that is not there is no error."""
        with self._database.writing() as db:
            db.execute("DELETE FROM notices WHERE id = ?", (id,))

    def _next(self, conversation: str) -> int:
        with self._database.reading() as db:
            query = "SELECT coalesce(max(position), 0) FROM messages WHERE conversation = ?"
            last: int = db.execute(query, (conversation,)).fetchone()[0]
        pending = [one.position for one in self._pending if one.conversation == conversation]
        return max([last, *pending]) + 1

    def _position(self, conversation: str, id: str) -> int | None:
        for one in self._pending:
            if one.conversation == conversation and one.message.id == id:
                return one.position
        with self._database.reading() as db:
            query = "SELECT position FROM messages WHERE conversation = ? AND id = ?"
            row = db.execute(query, (conversation, id)).fetchone()
        return None if row is None else int(row[0])


_CONVERSATIONS = (
    "SELECT id, title, created, updated, model, system, preset, "
    "(SELECT count(*) FROM messages WHERE conversation = conversations.id) FROM conversations"
)
# The index keeps words of deleted texts until its parts are merged.
_FORGET = "INSERT INTO found (found) VALUES ('optimize')"
_MESSAGE = "id, role, content, created, state, model, details, passages"


def _write(db: sqlite3.Connection, one: _Pending) -> None:
    message = one.message
    there = db.execute("SELECT 1 FROM conversations WHERE id = ?", (one.conversation,)).fetchone()
    if there is None:
        return  # deleted in the meantime
    if one.instead_of:
        db.execute("DELETE FROM messages WHERE id = ?", (one.instead_of,))
    details = None if message.details is None else json.dumps(vars(message.details))
    passages = json.dumps([vars(shown) for shown in message.passages], ensure_ascii=False)
    db.execute(
        f"INSERT INTO messages (conversation, position, {_MESSAGE}) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET "
        "content = excluded.content, state = excluded.state, model = excluded.model, "
        "details = excluded.details, passages = excluded.passages",
        (
            one.conversation,
            one.position,
            message.id,
            message.role,
            message.content,
            message.created,
            message.state,
            message.model,
            details,
            passages,
        ),
    )
    db.execute("UPDATE conversations SET updated = ? WHERE id = ?", (now(), one.conversation))


def _message(row: tuple[Any, ...]) -> Message:
    *plain, details, passages = row
    return replace(
        Message(*plain),
        details=None if details is None else _known(Details, json.loads(details)),
        passages=tuple(_known(Shown, entry) for entry in json.loads(passages)),
    )


def _known(kind: Any, values: dict[str, Any]) -> Any:
    """A data class from what was stored, perhaps by a later version that knows more."""
    names = {field.name for field in dataclasses.fields(kind)}
    return kind(**{name: value for name, value in values.items() if name in names})
