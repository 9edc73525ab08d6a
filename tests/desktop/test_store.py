from __future__ import annotations

import sqlite3
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ondevice.desktop.database import StoreError
from ondevice.desktop.records import Details, Document, Message, Notice, Passage, Shown, new_id, now
from ondevice.desktop.store import NotFound, Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "desktop" / "history.sqlite"


@pytest.fixture
def open_store(path: Path) -> Iterator[Callable[[], Store]]:
    opened: list[Store] = []

    def make() -> Store:
        opened.append(Store(path))
        return opened[-1]

    yield make
    for store in opened:
        store.close()


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    return open_store()


def message(content: str, role: str = "user", **more: object) -> Message:
    return Message(new_id(), role, content, now(), **more)  # type: ignore[arg-type]


def full(store: Store) -> None:
    """Let the file grow no more, as on a full disk."""
    with store._database.reading() as db:
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages}")


def room(store: Store) -> None:
    with store._database.reading() as db:
        db.execute("PRAGMA max_page_count = 100000")


def test_a_conversation_comes_back_whole_after_the_end(
    store: Store, open_store: Callable[[], Store]
) -> None:
    made = store.create(model="m", system="Be brief.", preset="p")
    shown = Shown("d", "a.pdf", 3, 7, "text", 1.5)
    answer = message(
        "Paris.",
        "assistant",
        state="cancelled",
        model="m",
        details=Details(ttft_ms=12.5, confidence=0.5, source="cloud"),
        passages=(shown,),
    )
    question = message("Where?\n\n```py\nx\n```")
    store.add(made.id, question, answer)
    store.close()
    again = open_store()
    assert again.messages(made.id) == [question, answer]
    (found,) = again.conversations()
    assert (found.model, found.system, found.preset) == ("m", "Be brief.", "p")
    assert found.messages_count == 2


def test_the_conversation_used_last_comes_first(store: Store) -> None:
    first, second = store.create(), store.create()
    assert [one.id for one in store.conversations()] == [second.id, first.id]
    store.add(first.id, message("hello"))
    assert [one.id for one in store.conversations()] == [first.id, second.id]


def test_a_title_is_one_line_of_bounded_length(store: Store) -> None:
    made = store.create()
    assert store.change(made.id, title="  a\n b " + "x" * 500).title == "a b " + "x" * 196


def test_what_is_not_there_is_named_so(store: Store) -> None:
    for act in (store.conversation, store.delete, lambda id: store.change(id, title="x")):
        with pytest.raises(NotFound, match="not there any more"):
            act("none")
    with pytest.raises(NotFound):
        store.remove_document("none", "none")


def test_deleting_takes_messages_documents_and_passages_with_it(store: Store, path: Path) -> None:
    made = store.create()
    store.add(made.id, message("a secret word"))
    document = Document("d", "a.txt", 1, 10, 10, 1)
    store.add_document(made.id, document, [Passage("d", "a.txt", 1, 1, "hidden passage")])
    store.delete(made.id)
    assert store.conversations() == [] and store.search("secret") == []
    store.close()
    held = path.read_bytes()  # secure_delete: not even in free pages
    assert b"secret" not in held and b"hidden passage" not in held


def test_all_are_deleted_at_once(store: Store) -> None:
    for _ in range(3):
        store.add(store.create().id, message("x"))
    store.delete_all()
    assert store.conversations() == []


def test_an_answer_grows_in_its_place(store: Store) -> None:
    made = store.create()
    answer = message("", "assistant", state="interrupted")
    store.add(made.id, message("q"), answer)
    store.put(made.id, replace(answer, content="some"))
    store.put(made.id, replace(answer, content="some more", state="complete"))
    assert [one.content for one in store.messages(made.id)] == ["q", "some more"]
    assert store.search("more")[0].message == answer.id


def test_an_answer_can_take_the_place_of_another(store: Store) -> None:
    made = store.create()
    old, new = message("old", "assistant"), message("new", "assistant")
    store.add(made.id, message("q"), old)
    store.add(made.id, message("q2"), message("a2", "assistant"))
    store.put(made.id, new, instead_of=old.id)
    assert [one.content for one in store.messages(made.id)] == ["q", "new", "q2", "a2"]
    assert store.search("old") == []


def test_a_message_of_a_deleted_conversation_is_dropped(store: Store) -> None:
    made = store.create()
    answer = message("", "assistant")
    store.add(made.id, answer)
    store.delete(made.id)
    store.put(made.id, replace(answer, content="late"))
    assert store.messages(made.id) == []


def test_documents_and_their_passages_are_kept_in_order(store: Store) -> None:
    made = store.create()
    for name in ("b.txt", "a.txt"):
        passages = [Passage(name, name, 1, n, f"{name} {n}") for n in (1, 2)]
        store.add_document(made.id, Document(name, name, 1, 5, 5, 2), passages)
    assert [one.name for one in store.documents(made.id)] == ["b.txt", "a.txt"]
    assert [one.text for one in store.passages(made.id)] == [
        "b.txt 1", "b.txt 2", "a.txt 1", "a.txt 2",
    ]  # fmt: skip
    store.remove_document(made.id, "b.txt")
    assert [one.name for one in store.documents(made.id)] == ["a.txt"]


@pytest.mark.parametrize(
    ("words", "text", "match"),
    [
        ("capital", "What is the Capital of France?", "Capital"),
        ("franc cap", "What is the capital of France?", "capital"),
        ("munchen", "Grüße aus München", "München"),
        ("50%", "It is 50% off", "50"),
        ("首都", "日本の首都はどこですか", "首都"),
        ("->", "write f(x) -> y", "->"),
    ],
)
def test_search_marks_what_it_found(store: Store, words: str, text: str, match: str) -> None:
    made = store.create()
    store.change(made.id, title="Talk")
    kept = message(text)
    store.add(made.id, kept, message("something else"))
    (found,) = store.search(words)
    assert (found.conversation, found.title, found.message) == (made.id, "Talk", kept.id)
    assert match in [piece.text for piece in found.snippet if piece.match]


def test_search_finds_titles_too(store: Store) -> None:
    made = store.create()
    store.change(made.id, title="Bread recipes")
    (found,) = store.search("recipe")
    assert (found.role, found.message, found.conversation) == ("title", None, made.id)


@given(st.text(max_size=30))
def test_no_search_fails(words: str) -> None:
    store = _shared()
    for found in store.search(words.encode("utf-8", "replace").decode()):
        assert found.snippet


def _shared() -> Store:
    if not _kept:
        store = Store(Path("/proc/none/history.sqlite"))  # not to be had: in memory
        store.add(store.create().id, message('a "quoted" AND OR NEAR(x) * ^ text'))
        _kept.append(store)
    return _kept[0]


_kept: list[Store] = []


def test_on_a_full_disk_messages_stay_in_memory_and_are_written_later(
    store: Store, path: Path, open_store: Callable[[], Store]
) -> None:
    made = store.create()
    store.add(made.id, message("before"))
    full(store)
    answer = message("", "assistant", state="interrupted")
    store.add(made.id, message("q" * 20_000), answer)
    assert "full" in store.problem
    store.put(made.id, replace(answer, content="a" * 20_000, state="complete"))
    shown = store.messages(made.id)
    assert [len(one.content) for one in shown] == [6, 20_000, 20_000]
    assert len(open_store().messages(made.id)) == 1  # what is on the disk is sound
    room(store)
    store.flush()
    assert store.problem == ""
    assert open_store().messages(made.id) == shown == store.messages(made.id)


def test_on_a_full_disk_a_new_conversation_is_a_clear_error(store: Store) -> None:
    full(store)
    with pytest.raises(StoreError, match=r"full or fails.*free some space"):
        store.create(system="x" * 100_000)
    assert store.conversations() == []


@pytest.mark.parametrize("spoil", ["text", "middle", "cut"])
def test_a_damaged_file_is_set_aside_with_a_notice_and_a_new_one_begun(
    store: Store, path: Path, open_store: Callable[[], Store], spoil: str
) -> None:
    made = store.create()
    for _ in range(50):
        store.add(made.id, message("word " * 200))
    store.close()
    data = path.read_bytes()
    spoilt = {
        "text": b"this is no database",
        "middle": data[:4096] + b"\xa5" * (len(data) - 8192) + data[-4096:],
        "cut": data[: len(data) // 2],
    }[spoil]
    path.write_bytes(spoilt)
    again = open_store()
    (aside,) = path.parent.glob("history.damaged-*.sqlite")
    assert aside.read_bytes() == spoilt
    assert again.conversations() == []
    (notice,) = again.notices()
    assert notice.kind == "error" and str(aside) in notice.text
    again.add(again.create().id, message("goes on"))
    again.close()
    third = open_store()  # the notice stays until it is dismissed
    assert [one.text for one in third.notices()] == [notice.text]
    third.dismiss(notice.id)
    assert third.notices() == []


def test_a_file_of_a_later_format_is_left_alone(
    store: Store, path: Path, open_store: Callable[[], Store]
) -> None:
    store.close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    before = path.read_bytes()
    again = open_store()
    assert "format 99" in again.notices()[0].text and "upgrade" in again.notices()[0].text
    again.add(again.create().id, message("in memory"))
    assert path.read_bytes() == before


def test_another_programs_database_is_left_alone(
    path: Path, open_store: Callable[[], Store]
) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    before = path.read_bytes()
    assert "another program" in open_store().notices()[0].text
    assert path.read_bytes() == before


def test_where_nothing_can_be_written_the_history_is_in_memory_and_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with Store(tmp_path / "file" / "history.sqlite") as store:
        store.add(store.create().id, message("x"))
        assert "not kept" in store.notices()[0].text


def test_the_same_notice_is_not_kept_twice(store: Store) -> None:
    for _ in range(2):
        store.add_notice(Notice("info", "once"))
    assert len(store.notices()) == 1


def test_only_the_person_may_read_the_file(store: Store, path: Path) -> None:
    if sys.platform != "win32":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


KILLED = """
import os, sys
from dataclasses import replace
from pathlib import Path
from ondevice.desktop.records import Message, new_id, now
from ondevice.desktop.store import Store
store = Store(Path(sys.argv[1]))
made = store.create()
store.add(made.id, Message("q1", "user", "first", now()), Message("a1", "assistant", "one", now()))
answer = Message("a2", "assistant", "", now(), "interrupted")
store.add(made.id, Message("q2", "user", "second", now()), answer)
store.put(made.id, replace(answer, content="half an ans"))
database = store._database._connection
database.execute("BEGIN IMMEDIATE")
database.execute("UPDATE messages SET content = 'never committed'")
print("ready", flush=True)
os.kill(os.getpid(), 9)
"""


def test_a_killed_process_leaves_all_that_was_written(
    path: Path, open_store: Callable[[], Store]
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(path)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "ready\n", done.stderr
    store = open_store()
    (made,) = store.conversations()
    found = [(one.content, one.state) for one in store.messages(made.id)]
    assert found == [
        ("first", "complete"),
        ("one", "complete"),
        ("second", "complete"),
        ("half an ans", "interrupted"),
    ]
    assert store.notices() == []
