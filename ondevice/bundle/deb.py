"""A Debian package of the program's folder, written without Debian's tools, the same each time.

The format is deb(5): an `ar` archive of a version, the control files, and the installed files.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import platform
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ondevice import files
from ondevice.bundle.entries import COMMENT, desktop_file
from ondevice.bundle.plan import Plan

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "armhf", "i686": "i386"}
_TIME = 946684800  # of every file: 2000-01-01, so that equal input gives equal bytes
_GLIBC = re.compile(rb"GLIBC_2\.(\d+)\0")
# Whatever cannot stand in the field without quoting is no address.
_NOBODY = "nobody <nobody@localhost>"


@dataclass(frozen=True)
class _Entry:
    """One installed file: its place, and either a file, a text or where a link leads."""

    place: str
    source: Path | None = None
    text: bytes = b""
    link: str = ""
    executable: bool = False

    def read(self) -> bytes:
        return self.source.read_bytes() if self.source is not None else self.text


def architecture() -> str:
    """This machine's, in Debian's words."""
    return _ARCHITECTURES.get(platform.machine(), platform.machine())


def deb_name(plan: Plan) -> str:
    """The file's name as Debian's tools expect it."""
    return f"{plan.unix_name}_{plan.version}_{architecture()}.deb"


def make_deb(plan: Plan, program: Path, path: Path) -> Path:
    """Write `path` from the program's folder: /opt/NAME, a command, a menu entry and its icon."""
    entries = [*_program(plan, program), *_menu(plan, program)]
    work = path.with_suffix(".data")
    try:
        with work.open("wb") as file:
            _write_tar(file, entries)
        control = _control_tar(plan, entries, _glibc(program))
        with path.open("wb") as archive:
            archive.write(b"!<arch>\n")
            _member(archive, "debian-binary", io.BytesIO(b"2.0\n"), 4)
            _member(archive, "control.tar.gz", io.BytesIO(control), len(control))
            with work.open("rb") as data:
                _member(archive, "data.tar.gz", data, work.stat().st_size)
    finally:
        work.unlink(missing_ok=True)
    return path


def _program(plan: Plan, program: Path) -> Iterator[_Entry]:
    for path in sorted(program.rglob("*")):
        place = f"opt/{plan.unix_name}/{path.relative_to(program).as_posix()}"
        if path.is_symlink():
            yield _Entry(place, link=str(path.readlink()))
        elif path.is_file():
            yield _Entry(place, path, executable=bool(path.stat().st_mode & 0o100))


def _menu(plan: Plan, program: Path) -> Iterator[_Entry]:
    unix = plan.unix_name
    icons = f"usr/share/icons/hicolor/{plan.icon.side}x{plan.icon.side}/apps"
    yield _Entry(f"usr/bin/{unix}", link=f"/opt/{unix}/{plan.slug}")
    yield _Entry(f"usr/share/applications/{unix}.desktop", text=desktop_file(plan, unix).encode())
    yield _Entry(f"{icons}/{unix}.png", text=plan.icon.png)
    yield _Entry(
        f"usr/share/doc/{unix}/copyright",
        text=f"The licence texts of all parts are in /opt/{unix}/licences.\n".encode(),
    )


def _control_tar(plan: Plan, entries: list[_Entry], glibc: int) -> bytes:
    size = sum(len(e.text) if e.source is None else e.source.stat().st_size for e in entries)
    fields = {
        "Package": plan.unix_name,
        "Version": plan.version,
        "Architecture": architecture(),
        "Maintainer": _NOBODY,
        "Installed-Size": str(-(-size // 1024)),
        "Depends": f"libc6 (>= 2.{glibc})" if glibc else "libc6",
        "Recommends": "firefox | firefox-esr | chromium | www-browser",
        "Section": "misc",
        "Priority": "optional",
        "Description": f"{COMMENT}\n {plan.name} runs without a network; nothing leaves this\n"
        " device unless you say so.",
    }
    text = "".join(f"{name}: {value}\n" for name, value in fields.items())
    sums = "".join(f"{_md5(e)}  {e.place}\n" for e in entries if not e.link)
    buffer = io.BytesIO()
    _write_tar(
        buffer, [_Entry("control", text=text.encode()), _Entry("md5sums", text=sums.encode())]
    )
    return buffer.getvalue()


def _md5(entry: _Entry) -> str:
    """What dpkg wants for finding damage; SHA256SUMS is there against anything else."""
    digest = hashlib.md5(usedforsecurity=False)
    if entry.source is None:
        digest.update(entry.text)
        return digest.hexdigest()
    with entry.source.open("rb") as file:
        while chunk := file.read(files.CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _write_tar(target: BinaryIO, entries: list[_Entry]) -> None:
    folders: set[str] = set()
    with (
        gzip.GzipFile("", "wb", 6, target, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar,
    ):
        tar.addfile(_info("./", tarfile.DIRTYPE, 0o755))
        for entry in entries:
            _add_folders(tar, entry.place, folders)
            _add(tar, entry)


def _add_folders(tar: tarfile.TarFile, place: str, known: set[str]) -> None:
    parts = place.split("/")[:-1]
    for depth in range(1, len(parts) + 1):
        folder = "/".join(parts[:depth])
        if folder not in known:
            known.add(folder)
            tar.addfile(_info(f"./{folder}/", tarfile.DIRTYPE, 0o755))


def _add(tar: tarfile.TarFile, entry: _Entry) -> None:
    if entry.link:
        info = _info(f"./{entry.place}", tarfile.SYMTYPE, 0o777)
        info.linkname = entry.link
        tar.addfile(info)
        return
    info = _info(f"./{entry.place}", tarfile.REGTYPE, 0o755 if entry.executable else 0o644)
    if entry.source is None:
        info.size = len(entry.text)
        tar.addfile(info, io.BytesIO(entry.text))
        return
    info.size = entry.source.stat().st_size
    with entry.source.open("rb") as file:
        tar.addfile(info, file)


def _info(name: str, kind: bytes, mode: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.mtime = kind, mode, _TIME
    info.uname = info.gname = "root"
    return info


def _member(archive: BinaryIO, name: str, content: BinaryIO, size: int) -> None:
    header = f"{name:<16}{_TIME:<12}{0:<6}{0:<6}{'100644':<8}{size:<10}`\n"
    archive.write(header.encode("ascii"))
    while chunk := content.read(files.CHUNK):
        archive.write(chunk)
    if size % 2:
        archive.write(b"\n")


def _glibc(program: Path) -> int:
    """The newest minor version of glibc 2 that a library or program in the folder asks for."""
    newest = 0
    for path in program.rglob("*"):
        if path.is_symlink() or not path.is_file():
            continue
        with path.open("rb") as file:
            if file.read(4) == b"\x7fELF":
                content = file.read()
                newest = max([newest, *(int(minor) for minor in _GLIBC.findall(content))])
    return newest
