"""Lays the handbook out as a PDF: headers, footers, tables, two columns, hyphenated lines.

The same text gives the same bytes. Knows nothing of the questions.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from reportlab.lib import colors
from reportlab.lib.enums import TA_JUSTIFY
from reportlab.lib.pagesizes import A5
from reportlab.lib.styles import ParagraphStyle
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    Flowable,
    Frame,
    NextPageTemplate,
    PageBreak,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
    TableStyle,
)

FOLDER = Path(__file__).parent
SOURCE = FOLDER / "handbook.md"
TITLE = "Carrick Fell Observatory"

_MARGIN = 42.0  # points
_BODY = ParagraphStyle(
    "body",
    fontName="Times-Roman",
    fontSize=11,
    leading=15.3,
    alignment=TA_JUSTIFY,
    spaceAfter=5.5,
    embeddedHyphenation=1,
)
_SMALL = ParagraphStyle("small", parent=_BODY, fontSize=9.6, leading=12, spaceAfter=4.5)
_HEADING = ParagraphStyle(
    "heading", fontName="Helvetica-Bold", fontSize=14, leading=18, spaceBefore=16, spaceAfter=7
)
_SECTION = ParagraphStyle(
    "section", fontName="Helvetica-Bold", fontSize=10.5, leading=14, spaceBefore=5, spaceAfter=3
)
_COVER = ParagraphStyle("cover", fontName="Helvetica-Bold", fontSize=24, leading=30)
_RULES = TableStyle(
    [
        ("FONT", (0, 0), (-1, 0), "Helvetica-Bold", 8.5),
        ("FONT", (0, 1), (-1, -1), "Times-Roman", 9.5),
        ("LINEBELOW", (0, 0), (-1, 0), 0.7, colors.black),
        ("LINEBELOW", (0, 1), (-1, -1), 0.2, colors.grey),
        ("TOPPADDING", (0, 0), (-1, -1), 2),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 2),
    ]
)


def build(text: str) -> bytes:
    """The handbook as PDF. `text` is Markdown of headings, paragraphs, lists and tables."""
    out = io.BytesIO()
    document = BaseDocTemplate(
        out, pagesize=A5, title=f"{TITLE}: handbook", author="Ilse Marrant", invariant=1
    )
    document.addPageTemplates(
        [
            PageTemplate("cover", [_frame(0, 1)]),
            PageTemplate("one", [_frame(0, 1)], onPage=_furniture),
            PageTemplate("two", [_frame(0, 2), _frame(1, 2)], onPage=_furniture),
        ]
    )
    document.build([*_cover(text), *_story(text)])
    return out.getvalue()


def _frame(column: int, columns: int) -> Frame:
    gap = 10.0
    width = (A5[0] - 2 * _MARGIN + gap) / columns - gap
    left = _MARGIN + column * (width + gap)
    return Frame(left, _MARGIN, width, A5[1] - 2 * _MARGIN - 6, 0, 0, 0, 0)


def _furniture(canvas: Canvas, document: BaseDocTemplate) -> None:
    canvas.setFont("Helvetica", 7.5)
    canvas.drawString(_MARGIN, A5[1] - 32, f"{TITLE} · Handbook for guests and staff")
    canvas.drawRightString(A5[0] - _MARGIN, 26, f"Page {document.page} of 20")
    canvas.drawString(_MARGIN, 26, "Fifth edition")


def _cover(text: str) -> Iterator[Flowable]:
    yield Spacer(1, 110)
    yield Paragraph(TITLE, _COVER)
    yield Spacer(1, 14)
    yield Paragraph("Handbook for guests, observers and staff", _SECTION)
    yield Paragraph("Fifth edition", _BODY)
    yield NextPageTemplate("one")
    yield PageBreak()
    yield Paragraph("Contents", _HEADING)
    for title in re.findall(r"^# (.+)$", text, re.MULTILINE):
        yield Paragraph(title, _BODY)
    yield PageBreak()


def _story(text: str) -> Iterator[Flowable]:
    body = _BODY
    for is_table, lines in groupby(text.splitlines(), lambda line: line.startswith("|")):
        if is_table:
            yield _table(list(lines))
            continue
        for line in filter(None, lines):
            if line in ("[columns]", "[end]"):
                body = _SMALL if line == "[columns]" else _BODY
                yield NextPageTemplate("two" if line == "[columns]" else "one")
                yield PageBreak()
            else:
                yield _paragraph(line, body)


def _paragraph(line: str, body: ParagraphStyle) -> Paragraph:
    if line.startswith("# "):
        return Paragraph(line[2:], _HEADING)
    if line.startswith("## "):
        return Paragraph(line[3:], _SECTION)
    marked = re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", line)
    return Paragraph(re.sub(r"[A-Za-z]{7,}", _hyphenated, marked), body)


def _hyphenated(word: re.Match[str]) -> str:
    """Soft hyphens before each consonant that stands between two vowels: good enough here."""
    return re.sub(r"(?<=\w\w[aeiou])(?=[b-df-hj-np-tv-z][aeiou]\w)", "\xad", word[0])


def _table(lines: list[str]) -> Table:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return Table(rows, style=_RULES, spaceBefore=3, spaceAfter=9, hAlign="LEFT")
