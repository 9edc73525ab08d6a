from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest

from ondevice.runtime.clock import ScriptedClock
from ondevice.runtime.cloud.audit import AuditError, AuditLog, Event

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
EVENT = Event(
    "answered", "r-1", "openai", "gpt", reason="confidence below threshold", confidence=0.31,
    threshold=0.7, task="extract", data_class="internal", redactions={"email": 2},
    prompt_tokens=120, output_tokens=30, cost_nano=96_000, attempts=1, outcome="stop",
)  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "audit.jsonl"


def test_an_event_is_read_as_it_was_written_with_its_time(path: Path) -> None:
    log = AuditLog(path, clock=ScriptedClock(NOON))
    log.write(EVENT)
    found = log.read()
    assert found.damaged == 0
    (event,) = found.events
    assert event.time == "2026-11-24T12:00:00.000+00:00"
    assert event == Event(**{**vars(EVENT), "time": event.time})


def test_what_was_sent_is_kept_as_size_and_hash_only(path: Path) -> None:
    body = '{"content": "Geheimnis ü"}'.encode()
    AuditLog(path).write(EVENT, body)
    assert "Geheimnis" not in path.read_text()
    (event,) = AuditLog(path).read().events
    assert event.bytes_sent == len(body)
    assert event.sha256 == hashlib.sha256(body).hexdigest()
    assert event.content is None


def test_content_given_in_the_event_is_dropped_too_unless_asked_for(path: Path) -> None:
    event = Event("sending", "r", "e", "m", content="Geheimnis")
    AuditLog(path).write(event)
    assert "Geheimnis" not in path.read_text()


def test_content_is_kept_when_asked_for(path: Path) -> None:
    log = AuditLog(path, keep_content=True)
    log.write(EVENT, b"what left")
    assert log.read().events[0].content == "what left"


def test_a_half_line_is_passed_over_and_spoils_no_later_one(path: Path) -> None:
    log = AuditLog(path)
    log.write(EVENT)
    whole = path.read_bytes()
    for cut in range(1, len(whole), 23):
        path.write_bytes(whole + whole[:cut])
        log.write(EVENT)
        found = log.read()
        assert (len(found.events), found.damaged) == (2, 1)


def test_what_is_no_event_is_counted_and_passed_over(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b'\xff\xfe\n[1, 2]\n"text"\n{"event": "sending"}\n\n' + b"[" * 9000 + b"\n")
    log = AuditLog(path)
    log.write(EVENT)
    found = log.read()
    assert (len(found.events), found.damaged) == (1, 5)


def test_keys_of_a_newer_version_are_passed_over(path: Path) -> None:
    log = AuditLog(path)
    log.write(EVENT)
    line = json.loads(path.read_text()) | {"colour": "blue"}
    path.write_text(json.dumps(line) + "\n")
    assert log.read().events[0].request_id == "r-1"


def test_no_log_yet_is_an_empty_one(path: Path) -> None:
    assert AuditLog(path).read().events == ()


def _write_many(path: Path, writer: int) -> None:
    log = AuditLog(path)
    for number in range(25):
        log.write(Event("sending", f"{writer}-{number}", "e" * 3000, "m"))


def test_processes_that_write_at_once_lose_and_mix_nothing(path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_many, args=(path, index)) for index in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    found = AuditLog(path).read()
    assert found.damaged == 0
    assert {e.request_id for e in found.events} == {f"{w}-{n}" for w in range(4) for n in range(25)}


def test_only_the_owner_can_read_it_even_where_the_file_was_open_to_all(path: Path) -> None:
    path.parent.mkdir()
    path.touch(0o666)
    path.chmod(0o666)
    AuditLog(path).write(EVENT)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_one_event_is_one_write(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: written.append(data) or real(fd, data))
    AuditLog(path).write(EVENT)
    assert len(written) == 1 and written[0].endswith(b"\n") and written[0].count(b"\n") == 1


def test_a_write_that_stops_half_way_is_an_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:10]))
    with pytest.raises(AuditError, match="only a part"):
        AuditLog(path).write(EVENT)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_one_line(path: Path) -> None:
    path.parent.mkdir()
    path.symlink_to("/dev/full")
    with pytest.raises(AuditError, match=r"disk .* is full") as caught:
        AuditLog(path).write(EVENT)
    assert caught.value.kind == "audit"


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AuditError, match="audit log"):
        AuditLog(tmp_path / "file" / "audit.jsonl").write(EVENT)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_confidence_that_is_no_number_is_left_out(path: Path, value: float) -> None:
    log = AuditLog(path)
    log.write(Event("refused", "r", "e", "m", confidence=value))
    assert log.read().events[0].confidence is None
    assert "NaN" not in path.read_text() and "Infinity" not in path.read_text()


def test_text_that_has_no_utf_8_is_written_all_the_same(path: Path) -> None:
    log = AuditLog(path)
    log.write(Event("refused", "r", "e", "m", task="\ud800"))
    assert log.read().damaged == 0
