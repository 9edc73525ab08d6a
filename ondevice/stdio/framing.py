"""Messages in a byte stream: `Content-Length: N`, an empty line, N bytes; as language servers do.

Knows nothing of what a message says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from ondevice.errors import OndeviceError

MOST_BYTES = 16 << 20  # of one message
MOST_HEADER_BYTES = 4096  # of all its header lines
_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*?)[ \t]*")
_CHARSET = re.compile(r"charset\s*=\s*\"?([^\";\s]*)", re.IGNORECASE)
_SHOWN = 40  # bytes of a bad header that an error quotes


class FramingError(OndeviceError):
    """Bytes after which nobody can say where the next message begins."""


def frame(body: bytes) -> bytes:
    """A message as it goes over the wire."""
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


class Frames:
    """Takes a stream apart, however it is cut into chunks. Useless after a `FramingError`."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._data = bytearray()
        self._header_bytes = 0  # of the header lines read so far of this message
        self._length: int | None = None
        self._in_body = False

    @property
    def empty(self) -> bool:
        """Whether the stream may end here: no message has begun."""
        return not (self._data or self._header_bytes)

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The bodies of the messages that end in this chunk; iterate to the end.

        Raises `FramingError` for a header that is malformed, has no or two lengths, or announces
        more than `most_bytes`, once the messages before it are given out.
        """
        self._data += chunk
        while self._header() and self._in_body:
            length = self._length or 0
            if len(self._data) < length:
                return
            body = bytes(self._data[:length])
            del self._data[:length]
            self._header_bytes, self._length, self._in_body = 0, None, False
            yield body

    def _header(self) -> bool:
        """Read header lines as far as they have come; whether the empty one has."""
        while not self._in_body:
            end = self._data.find(b"\n", 0, MOST_HEADER_BYTES)
            self._check_start(end)
            if end < 0:
                return False
            self._header_bytes += end + 1
            line = bytes(self._data[:end])
            del self._data[: end + 1]
            self._line(line)
        return True

    def _check_start(self, end: int) -> None:
        """What can be said of a line before it is whole, so that nobody waits for its end."""
        size = len(self._data) if end < 0 else end + 1
        if self._data and self._data[0] in b"{[\"' \t":
            raise FramingError(f"{_NOT_A_HEADER}, not {_quoted(bytes(self._data[:_SHOWN]))}")
        if self._header_bytes + size > MOST_HEADER_BYTES:
            raise FramingError(f"the header is longer than {MOST_HEADER_BYTES} bytes")

    def _line(self, line: bytes) -> None:
        if line == b"\r":
            if self._length is None:
                raise FramingError("the header has no Content-Length")
            self._in_body = True
            return
        field = _FIELD.fullmatch(line.removesuffix(b"\r"))
        if field is None:
            raise FramingError(f"{_NOT_A_HEADER}, not {_quoted(line)}")
        if not line.endswith(b"\r"):
            raise FramingError("header lines end with CR LF, not with LF alone")
        name, value = field[1].lower(), field[2].decode("latin-1")
        if name == b"content-length":
            self._set_length(value)
        elif name == b"content-type":
            _check_charset(value)

    def _set_length(self, value: str) -> None:
        if self._length is not None:
            raise FramingError("the header has two Content-Length lines")
        if not re.fullmatch(r"[0-9]{1,19}", value, re.ASCII):
            raise FramingError(f"Content-Length is no count of bytes: {value[:_SHOWN]!r}")
        if int(value) > self._most_bytes:
            raise FramingError(f"a message of {value} bytes; at most {self._most_bytes} are taken")
        self._length = int(value)


_NOT_A_HEADER = "expected a header line such as `Content-Length: 42`"


def _quoted(line: bytes) -> str:
    return repr(line[:_SHOWN].decode("latin-1"))


def _check_charset(value: str) -> None:
    found = _CHARSET.search(value)
    if found and found[1].lower() not in ("utf-8", "utf8"):
        raise FramingError(f"messages are UTF-8, not {found[1][:_SHOWN]!r}")
