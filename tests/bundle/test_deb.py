"""The Debian package: read back with Python, and with Debian's own tool where it is."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ondevice.bundle.build import build
from ondevice.bundle.deb import architecture, deb_name, make_deb
from ondevice.bundle.freeze import Frozen
from ondevice.bundle.plan import Plan, make_plan

pytestmark = pytest.mark.skipif("sys.platform != 'linux'", reason="made on Linux only")


@pytest.fixture
def plan() -> Plan:
    return make_plan("My Assistant", model=None, version="1.2.3", deb=True)


@pytest.fixture
def deb(plan: Plan, freezer: Callable[[Plan, Path], Frozen], tmp_path: Path) -> Path:
    made = build(plan, tmp_path / "out", freezer=freezer).deb
    assert made is not None
    return made


def members(deb: Path) -> Iterator[tuple[str, bytes]]:
    data = deb.read_bytes()
    assert data.startswith(b"!<arch>\n")
    at = 8
    while at < len(data):
        header = data[at : at + 60].decode()
        assert header.endswith("`\n")
        size = int(header[48:58])
        yield header[:16].strip(), data[at + 60 : at + 60 + size]
        at += 60 + size + size % 2


def tar_of(deb: Path, name: str) -> tarfile.TarFile:
    return tarfile.open(fileobj=io.BytesIO(dict(members(deb))[name]))


def test_it_has_the_three_members_in_order(deb: Path) -> None:
    assert [name for name, _ in members(deb)] == ["debian-binary", "control.tar.gz", "data.tar.gz"]
    assert dict(members(deb))["debian-binary"] == b"2.0\n"
    assert deb.name == f"my-assistant_1.2.3_{architecture()}.deb"


def test_control_names_the_newest_glibc_that_a_library_asks_for(deb: Path) -> None:
    control = tar_of(deb, "control.tar.gz").extractfile("./control")
    assert control is not None
    lines = control.read().decode().splitlines()
    assert "Package: my-assistant" in lines
    assert "Depends: libc6 (>= 2.29)" in lines


def test_everything_is_roots_and_nobody_else_may_write_it(deb: Path) -> None:
    for info in tar_of(deb, "data.tar.gz").getmembers():
        assert (info.uid, info.gid, info.uname) == (0, 0, "root")
        assert info.issym() or not info.mode & 0o022


def test_the_program_the_command_and_the_menu_entry_are_in_it(deb: Path) -> None:
    tar = tar_of(deb, "data.tar.gz")
    assert tar.getmember("./opt/my-assistant/My-Assistant").mode == 0o755
    assert tar.getmember("./usr/bin/my-assistant").linkname == "/opt/my-assistant/My-Assistant"
    assert tar.getmember("./opt/my-assistant/_internal/libsmall.so").linkname == "libsmall.so.1"
    for name in (
        "./usr/share/applications/my-assistant.desktop",
        "./usr/share/icons/hicolor/256x256/apps/my-assistant.png",
        "./usr/share/doc/my-assistant/copyright",
    ):
        assert tar.getmember(name).isreg()


def test_the_same_folder_gives_the_same_bytes(plan: Plan, deb: Path, tmp_path: Path) -> None:
    program = deb.parent / plan.slug
    again = make_deb(plan, program, tmp_path / deb_name(plan))
    assert again.read_bytes() == deb.read_bytes()


@pytest.mark.skipif("shutil.which('dpkg-deb') is None", reason="needs dpkg-deb")
def test_debians_own_tool_unpacks_it(plan: Plan, deb: Path, tmp_path: Path) -> None:
    tool = shutil.which("dpkg-deb")
    assert tool is not None
    subprocess.run([tool, "--extract", deb, tmp_path / "root"], check=True, timeout=60)
    program = tmp_path / "root" / "opt" / "my-assistant" / "My-Assistant"
    assert subprocess.run([program], capture_output=True, timeout=20).stdout == b"started\n"
    shown = subprocess.run([tool, "--field", deb, "Version"], capture_output=True, timeout=60)
    assert shown.stdout == b"1.2.3\n"
