from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pdf_files import written

from ondevice.desktop import documents
from ondevice.desktop.documents import DocumentError, read


def refusal(name: str, data: bytes) -> str:
    """The line that says why a file is refused."""
    with pytest.raises(DocumentError) as caught:
        read(name, data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_text_file_is_one_page_with_its_own_line_breaks() -> None:
    assert read("a/notes.md", b"# One\r\n\r\ntwo\rthree\n").pages == ("# One\n\ntwo\nthree\n",)


def test_only_the_last_part_of_a_path_is_the_name() -> None:
    assert read("C:\\Users\\me\\notes.txt", b"x").name == "notes.txt"
    assert read("/home/me/notes\n\x1b[31m.txt", b"x").name == "notes[31m.txt"
    assert read("../..", b"x").name == ".."
    assert read("\n", b"x").name == "file"
    assert len(read(f"{'n' * 900}.csv", b"x").name) <= 120


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "utf-16-le", "utf-16-be", "cp1252"]
)
def test_text_is_read_in_the_encodings_that_people_have(encoding: str) -> None:
    text = "name;city\nZoë;Málaga\n"
    mark = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}.get(encoding, b"")
    assert read("t.csv", mark + text.encode(encoding)).pages == (text,)


@settings(max_examples=50)
@given(st.text(st.characters(exclude_categories=["C"]), min_size=1).filter(str.strip))
def test_any_utf_8_text_comes_back_as_it_is(text: str) -> None:
    plain = text.replace("\r", "\n")
    if not plain.startswith("\ufeff") and "%PDF-" not in plain:
        assert read("t.txt", plain.encode()).pages == (plain,)


@settings(max_examples=200)
@given(st.binary(max_size=300))
def test_any_bytes_are_text_or_refused_in_one_line(data: bytes) -> None:
    if b"%PDF-" in data:
        return
    try:
        assert read("x", data).characters
    except DocumentError as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize(
    "data",
    [
        b"\x89PNG\r\n\x1a\n\0\0",
        b"\x7fELF\0",
        b"\xff\xfe\0",
        "日本語の文章です。".encode("shift-jis"),
    ],
)
def test_what_is_no_text_is_refused(data: bytes) -> None:
    assert refusal("x.bin", data) == "x.bin is no text; choose a text or PDF file"


def test_an_office_file_is_refused_with_the_way_out() -> None:
    assert "save it as PDF or text" in refusal("letter.docx", b"PK\x03\x04\0\0")


@pytest.mark.parametrize("data", [b"", b" \n\t", b"\xef\xbb\xbf", b"\xff\xfe\n\0"])
def test_an_empty_file_is_refused(data: bytes) -> None:
    assert "x.txt is empty" in refusal("x.txt", data)


def test_a_file_of_200_mb_is_refused_before_it_is_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(documents, "_plain", lambda *_: pytest.fail("it was read"))
    monkeypatch.setattr(documents, "_pdf", lambda *_: pytest.fail("it was parsed"))
    says = refusal("big.pdf", bytes(200_000_000))
    assert says.startswith("big.pdf has 200 MB; a document may have 50 MB")


def test_an_announced_size_is_enough_to_refuse() -> None:
    documents.check_size("x", documents.LARGEST)
    with pytest.raises(DocumentError, match="a document may have 50 MB"):
        documents.check_size("x", documents.LARGEST + 1)


def test_more_text_than_can_be_searched_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "MOST_CHARACTERS", 10)
    assert "more than 10 characters of text; split it" in refusal("x.txt", b"eleven char")


def test_a_pdf_is_known_by_its_content_and_read_page_by_page() -> None:
    text = read("no-ending", written(["The first page."], ["The second page."]))
    assert text.pages == ("The first page.", "The second page.")
    assert (text.unread, text.characters) == (0, 31)


def test_importing_documents_and_passages_loads_no_reader_and_no_ranker() -> None:
    code = (
        "import sys; import ondevice.desktop.documents, ondevice.desktop.passages;"
        "print({'pypdf', 'bm25s', 'numpy', 'multiprocessing'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert result.stdout.strip() == "set()"
