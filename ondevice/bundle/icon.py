"""The program's icon: a square PNG, wrapped as each system wants it. Scales nothing."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from ondevice.errors import RequestError

SIZES = (128, 256, 512, 1024)

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_LARGEST = 8 << 20
# The types of macOS' icon files that hold a PNG, by its side in pixels.
_ICNS = {128: b"ic07", 256: b"ic08", 512: b"ic09", 1024: b"ic10"}


@dataclass(frozen=True)
class Icon:
    """A PNG file's content and its side, pixels."""

    png: bytes
    side: int

    def ico(self) -> bytes:
        """As Windows wants it: one entry, PNG inside. Raises `RequestError` above 256 pixels."""
        if self.side > 256:
            raise RequestError("Windows takes icons of at most 256 pixels; give a smaller PNG")
        entry = (self.side % 256, self.side % 256, 0, 0, 1, 32, len(self.png), 22)
        return struct.pack("<HHH", 0, 1, 1) + struct.pack("<BBBBHHII", *entry) + self.png

    def icns(self) -> bytes:
        """As macOS wants it: one entry, PNG inside."""
        entry = _ICNS[self.side] + struct.pack(">I", len(self.png) + 8) + self.png
        return b"icns" + struct.pack(">I", len(entry) + 8) + entry


def read_icon(path: Path | None) -> Icon:
    """Read an icon; None is the plain one that comes along. Raises `RequestError`."""
    if path is None:
        return _icon((resources.files("ondevice.bundle") / "data" / "icon.png").read_bytes(), "")
    try:
        with path.open("rb") as file:
            png = file.read(_LARGEST + 1)
    except OSError as error:
        raise RequestError(f"the icon {path} cannot be read: {error.strerror or error}") from error
    if len(png) > _LARGEST:
        raise RequestError(f"the icon {path} is larger than 8 MiB; give a smaller one")
    return _icon(png, str(path))


def _icon(png: bytes, where: str) -> Icon:
    if not png.startswith(_SIGNATURE) or png[12:16] != b"IHDR" or len(png) < 33:
        raise RequestError(f"the icon {where} is no PNG image; give a square PNG of 256 pixels")
    width, height = struct.unpack(">II", png[16:24])
    if width != height or width not in SIZES:
        raise RequestError(
            f"the icon {where} has {width} x {height} pixels; it must be square with a side of "
            f"{', '.join(map(str, SIZES[:-1]))} or {SIZES[-1]}"
        )
    return Icon(png, width)
