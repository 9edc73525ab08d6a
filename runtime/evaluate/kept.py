"""The folder of kept answers: where they are, and which can be used again.

Knows records, questions and files; no models.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from ondevice import files
from ondevice.errors import RequestError
from ondevice.runtime.evaluate import records
from ondevice.runtime.evaluate.collect import question_hash
from ondevice.runtime.evaluate.dataset import Example
from ondevice.runtime.evaluate.records import Record


def file_for(folder: Path, name: str, identity: str) -> Path:
    """Where answers are kept: by who gave them, and twelve digits of its identity."""
    return folder / f"{re.sub(r'[^A-Za-z0-9._-]+', '-', name)}-{identity[:12]}.jsonl"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; raises `RequestError` while another one has it."""
    from filelock import FileLock, Timeout

    with files.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise RequestError(
                f"another evaluation is keeping its answers in {folder}; wait for its end or "
                "choose another --answers"
            ) from None
    try:
        yield
    finally:
        lock.release()


def usable(
    path: Path, examples: Sequence[Example], subject: str, *, retry_errors: bool = False
) -> dict[str, Record]:
    """Kept answers to exactly these questions by id; with `retry_errors` without failed calls.

    Raises `RequestError` when the file cannot be read.
    """
    if not path.exists():
        return {}
    asked = {example.id: question_hash(example) for example in examples}
    return {
        record.id: record
        for record in records.read(path)
        if record.subject == subject
        and record.question == asked.get(record.id)
        and not (retry_errors and record.error)
    }


def forget_errors(path: Path) -> None:
    """Drop the calls without an answer from the file, so that they are made again."""
    found = records.read(path) if path.exists() else []
    answered = [record for record in found if not record.error]
    if len(answered) < len(found):
        records.write(path, answered)
