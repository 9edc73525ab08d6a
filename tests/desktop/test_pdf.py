from __future__ import annotations

import multiprocessing
import sys

import psutil
import pytest
from pdf_files import made_of, written

from ondevice.desktop import pdf
from ondevice.desktop.documents import DocumentError
from ondevice.desktop.pdf import extract, pages

TEXT = b"BT /F 12 Tf (abc) Tj ET"


def refusal(data: bytes) -> str:
    """Why this file is not read."""
    return str(extract(data)["refused"])


def test_the_text_of_each_page_is_read_in_another_process_that_is_gone_afterwards() -> None:
    before = set(psutil.Process().children())
    found, unread = pages("x.pdf", written(["One."], [], ["Three."]))
    assert ([page.strip() for page in found], unread) == (["One.", "", "Three."], 0)
    assert not multiprocessing.active_children()
    left = set(psutil.Process().children()) - before
    assert all("resource_tracker" in " ".join(child.cmdline()) for child in left)


def test_a_file_without_text_is_said_to_be_scanned() -> None:
    with pytest.raises(DocumentError, match=r"^scan\.pdf holds no text, probably scanned pages"):
        pages("scan.pdf", written([], []))


def test_an_encrypted_file_is_refused_unless_it_opens_without_a_password() -> None:
    assert "is encrypted" in refusal(written(["Secret."], password="word"))
    assert "Only locked." in extract(written(["Only locked."], password=""))["pages"][0]


@pytest.mark.parametrize("length", [20, 300, 700])
def test_a_file_that_ends_too_early_is_damaged(length: int) -> None:
    assert "damaged" in refusal(written(["Text."])[:length])


def test_noise_after_the_mark_is_damaged() -> None:
    assert "damaged" in refusal(b"%PDF-1.7\n" + bytes(range(256)) * 20)


@pytest.mark.parametrize("times", [1, 2])
def test_a_stream_that_unpacks_to_200_mb_is_refused(times: int) -> None:
    assert "unpacks to far more than its size" in refusal(made_of(bytes(200_000_000), times=times))


def test_too_many_pages_are_refused_before_they_are_read() -> None:
    assert refusal(made_of(TEXT, pages=2_001)) == "has more than 2,000 pages; split it"


def test_too_much_text_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "MOST_CHARACTERS", 100)
    assert "characters of text; split it" in refusal(made_of(TEXT, pages=50))


def test_a_file_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "SECONDS", 0.5)
    endless = made_of(b"BT /F 12 Tf " + b"(abc) Tj " * 500_000 + b"ET", pages=1_000)
    with pytest.raises(DocumentError, match=r"^x\.pdf takes more than 60 s to read"):
        pages("x.pdf", endless)
    assert not multiprocessing.active_children()


def test_a_reader_that_needs_too_much_memory_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pdf, "MOST_MEMORY", 1_000_000)
    with pytest.raises(DocumentError, match="of memory to read"):
        pages("x.pdf", made_of(b"BT /F 12 Tf " + b"(abc) Tj " * 500_000 + b"ET"))
    assert not multiprocessing.active_children()


def test_a_page_that_cannot_be_read_is_counted_and_the_others_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pypdf import PageObject

    sound = PageObject.extract_text

    def faulty(page: PageObject) -> str:
        text = sound(page)
        if "Two" in text:
            raise KeyError("/Font")
        return text

    monkeypatch.setattr(PageObject, "extract_text", faulty)
    assert extract(written(["One."], ["Two."])) == {"pages": ["One.\n", ""], "unread": 1}
    assert "damaged" in refusal(written(["Two."]))


def test_without_pypdf_the_error_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pypdf", None)
    with pytest.raises(DocumentError, match=r'pip install "ondevice\[desktop\]"'):
        pages("x.pdf", b"%PDF-1.4")
