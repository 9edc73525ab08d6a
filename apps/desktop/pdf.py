"""The pages of a PDF, read in a process of its own, which ends with the answer or at a limit.

A PDF is foreign data: a small one may unpack to gigabytes or lead its reader round in circles.
Knows nothing of other kinds of files.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from ondevice.desktop.documents import MOST_CHARACTERS, DocumentError
from ondevice.runtime.clock import system_clock

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

    from pypdf import PdfReader

MOST_PAGES = 2_000
SECONDS = 60.0  # that reading may take
MOST_MEMORY = 1_000_000_000  # bytes of the process that reads
MOST_UNPACKED = 50_000_000  # bytes of one compressed stream

_LOOK = 0.1  # seconds between two looks at the memory of that process
_DAMAGED = "cannot be read as PDF, it is damaged; get it again, or save it as text"
_ENCRYPTED = "is encrypted; save a copy without a password and choose that"
_LIMIT = "unpacks to far more than its size, as no ordinary PDF does; save it as text"
_SCANNED = "holds no text, probably scanned pages; run it through text recognition (OCR)"
_TOO_LONG = f"has more than {MOST_CHARACTERS:,} characters of text; split it"
_TOO_MANY = f"has more than {MOST_PAGES:,} pages; split it"
_TOO_LARGE = f"needs more than {MOST_MEMORY / 1e9:.0f} GB of memory to read; split it"
_TOO_SLOW = f"takes more than {SECONDS:.0f} s to read; split it, or save it as text"


def pages(name: str, data: bytes) -> tuple[tuple[str, ...], int]:
    """The text of each page, and how many pages could not be read and are "" for that.

    Raises `DocumentError` for a PDF that is damaged, encrypted, without text, or above a limit
    of this module, and when pypdf is missing.
    """
    try:
        import pypdf  # noqa: F401 (better missed here than in the other process)
    except ImportError as error:
        raise DocumentError(
            f'{name} is a PDF; to read it, pip install "ondevice[desktop]"'
        ) from error
    answer = _answer(name, data)
    if "refused" in answer:
        raise DocumentError(f"{name} {answer['refused']}")
    return tuple(answer["pages"]), answer["unread"]


def _answer(name: str, data: bytes) -> dict[str, Any]:
    """What `extract` says, from a process that is gone when this returns."""
    from multiprocessing import get_context

    context = get_context("spawn")  # a fork of a program with threads may hang
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs,), daemon=True)
    try:
        process.start()
        theirs.close()
        ours.send_bytes(data)
        answer: dict[str, Any] = json.loads(_awaited(name, process, ours))
        return answer
    except (EOFError, OSError) as error:
        raise DocumentError(f"{name} {_DAMAGED}") from error  # it brought the process down
    finally:
        ours.close()
        if process.pid is not None:
            process.kill()
            process.join()


def _awaited(name: str, process: SpawnProcess, answers: Connection) -> bytes:
    import psutil

    end = system_clock() + SECONDS
    while not answers.poll(_LOOK):
        if system_clock() > end:
            raise DocumentError(f"{name} {_TOO_SLOW}")
        try:
            used = psutil.Process(process.pid).memory_info().rss
        except psutil.Error:
            continue  # it has ended, and the pipe will say how
        if used > MOST_MEMORY:
            raise DocumentError(f"{name} {_TOO_LARGE}")
    return answers.recv_bytes()


def _work(answers: Connection) -> None:
    """The other process. It answers JSON, so that nothing which it read is ever unpickled."""
    import logging
    import os
    import threading

    # The one who waits may have been killed, and a hostile file need not come to an end.
    alarm = threading.Timer(2 * SECONDS, os._exit, (1,))
    alarm.daemon = True
    alarm.start()
    logging.disable()  # pypdf warns of every little fault
    answers.send_bytes(json.dumps(extract(answers.recv_bytes())).encode())


def extract(data: bytes) -> dict[str, Any]:
    """`{"pages": [...], "unread": 0}`, or `{"refused": why}` to be read after the file's name.

    Has no limit of time: meant for a process of its own.
    """
    import io

    from pypdf import PdfReader, apply_configuration
    from pypdf.errors import DependencyError, FileNotDecryptedError, LimitReachedError

    try:
        with apply_configuration(
            zlib_maximum_output_length=MOST_UNPACKED,
            lzw_maximum_output_length=MOST_UNPACKED,
            run_length_maximum_output_length=MOST_UNPACKED,
            brotli_maximum_output_length=MOST_UNPACKED,
            array_based_stream_maximum_output_length=MOST_UNPACKED,
            jbig2dec_binary=None,  # a program for pictures, which hold no text
        ):
            return _extracted(PdfReader(io.BytesIO(data)))
    except (DependencyError, FileNotDecryptedError):
        return {"refused": _ENCRYPTED}
    except (LimitReachedError, MemoryError):
        return {"refused": _LIMIT}
    except Exception:  # a damaged file makes pypdf raise nearly anything
        return {"refused": _DAMAGED}


def _extracted(reader: PdfReader) -> dict[str, Any]:
    from pypdf.errors import LimitReachedError

    if reader.is_encrypted and not reader.decrypt(""):  # many are only locked against changes
        return {"refused": _ENCRYPTED}
    if len(reader.pages) > MOST_PAGES:
        return {"refused": _TOO_MANY}
    found: list[str] = []
    unread = characters = 0
    for page in reader.pages:
        try:
            text = page.extract_text()
        except (LimitReachedError, MemoryError):
            raise
        except Exception:
            text = ""
            unread += 1
        found.append(text.encode("utf-8", "replace").decode())  # lone surrogates are no text
        characters += len(text)
        if characters > MOST_CHARACTERS:
            return {"refused": _TOO_LONG}
    if not any(text.strip() for text in found):
        return {"refused": _DAMAGED if unread or not found else _SCANNED}
    return {"pages": found, "unread": unread}
