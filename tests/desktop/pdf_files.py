"""PDF files for tests, good and hostile."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence

from reportlab.lib.pdfencrypt import StandardEncryption
from reportlab.pdfgen.canvas import Canvas


def written(*pages: Sequence[str], password: str | None = None) -> bytes:
    """A page for each list of lines; `password` "" locks it against changes only."""
    out = io.BytesIO()
    lock = None if password is None else StandardEncryption(password, "owner")
    canvas = Canvas(out, encrypt=lock)
    for lines in pages:
        for number, line in enumerate(lines):
            canvas.drawString(50, 780 - 14 * number, line)
        canvas.rect(10, 10, 5, 5)
        canvas.showPage()
    canvas.save()
    return out.getvalue()


def made_of(content: bytes, pages: int = 1, times: int = 1) -> bytes:
    """A file whose pages all show the same content stream, compressed `times` over."""
    for _ in range(times):
        content = zlib.compress(content, 9)
    filters = b"[" + b"/FlateDecode " * times + b"]"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%s] /Count %d >>" % (b"3 0 R " * pages, pages),
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 99 99] /Contents 4 0 R /Resources << /Font "
        b"<< /F << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>",
        b"<< /Length %d /Filter %s >> stream\n%s\nendstream" % (len(content), filters, content),
    ]
    out, places = b"%PDF-1.4\n", b"0000000000 65535 f \n"
    for number, body in enumerate(objects, start=1):
        places += b"%010d 00000 n \n" % len(out)
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    size = len(objects) + 1
    end = b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF" % (size, len(out))
    return out + b"xref\n0 %d\n" % size + places + end
