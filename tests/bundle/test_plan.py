"""What is asked for is checked before anything is made."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from ondevice.bundle.icon import read_icon
from ondevice.bundle.plan import make_plan
from ondevice.errors import OndeviceError, RequestError


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", width, height) + bytes(40)


@pytest.mark.parametrize(
    "name", ["", "a", "../x", "a/b", "-x", "x\n", "x ", "x.", "é" * 4, "x" * 60, "$(x)", 'a"b']
)
def test_names_that_could_be_no_file_or_command_are_refused(name: str) -> None:
    with pytest.raises(RequestError, match="cannot be the name"):
        make_plan(name, model=None)


@pytest.mark.parametrize("version", ["x", "1 2", "1/2", "", "v1", "1\n"])
def test_versions_that_debian_would_not_take_are_refused(version: str) -> None:
    if version:
        with pytest.raises(RequestError, match="no version"):
            make_plan("Assistant", model=None, version=version)
    else:  # as good as not given
        assert make_plan("Assistant", model=None, version=version).version


def test_a_name_with_blanks_gives_file_names_without() -> None:
    plan = make_plan("My good_Assistant", model=None)
    assert (plan.slug, plan.unix_name) == ("My-good_Assistant", "my-good-assistant")


@pytest.mark.parametrize("form", ["deb", "appdir"])
def test_one_file_has_no_folder_to_make_others_from(form: str) -> None:
    with pytest.raises(RequestError, match="leave --onefile out"):
        make_plan("Assistant", model=None, onefile=True, **{form: True})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no PNG"),
        (b"GIF89a", "no PNG"),
        (png(256, 256)[:20], "no PNG"),
        (png(256, 128), "256 x 128 pixels"),
        (png(100, 100), "100 x 100 pixels"),
        (png(0, 0), "0 x 0 pixels"),
        (bytes(9 << 20), "8 MiB"),
    ],
)
def test_a_bad_icon_is_told_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "icon.png"
    path.write_bytes(content)
    with pytest.raises(OndeviceError, match=message) as caught:
        make_plan("Assistant", model=None, icon=path)
    assert "\n" not in str(caught.value)


def test_an_icon_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"gone\.png cannot be read"):
        read_icon(tmp_path / "gone.png")


def test_the_plain_icon_is_a_sound_one() -> None:
    assert read_icon(None).side == 256


def test_windows_and_macos_get_the_same_picture_in_their_wrapping() -> None:
    icon = read_icon(None)
    ico, icns = icon.ico(), icon.icns()
    size, offset = struct.unpack("<II", ico[14:22])
    assert ico[offset : offset + size] == icon.png
    assert (icns[:4], struct.unpack(">I", icns[4:8])[0]) == (b"icns", len(icns))
    assert icns[16:] == icon.png


def test_windows_refuses_a_larger_icon(tmp_path: Path) -> None:
    (tmp_path / "icon.png").write_bytes(png(512, 512))
    icon = read_icon(tmp_path / "icon.png")
    assert icon.icns()[8:12] == b"ic09"
    with pytest.raises(RequestError, match="256 pixels"):
        icon.ico()
