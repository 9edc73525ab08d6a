"""What is to be packed, checked before any work starts. Knows nothing of how it is packed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from ondevice.bundle.icon import Icon, read_icon
from ondevice.errors import OndeviceError, RequestError
from ondevice.package import Package

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9 ._-]{0,47}(?<![ .])")
_VERSION = re.compile(r"[0-9][A-Za-z0-9.+~]{0,31}")


class BundleError(OndeviceError):
    """A bundle that cannot be made here."""


@dataclass(frozen=True)
class Plan:
    """What `ondevice package` makes.

    `name` is what people read; `model` None makes a program that offers models on its first run.
    `folder` is the program's folder, `deb` and `appdir` what is made from it.
    """

    name: str
    version: str
    icon: Icon
    model: Package | None = None
    onefile: bool = False
    deb: bool = False
    appdir: bool = False

    @property
    def slug(self) -> str:
        """The name as a file name: the program's, and that of its folder."""
        return self.name.replace(" ", "-")

    @property
    def unix_name(self) -> str:
        """The name as Debian's packages and commands are called."""
        return self.slug.lower().replace("_", "-")


def make_plan(
    name: str,
    *,
    model: Package | None,
    icon: Path | None = None,
    version: str | None = None,
    onefile: bool = False,
    deb: bool = False,
    appdir: bool = False,
) -> Plan:
    """A checked plan. `version` None is the version of ondevice, `icon` None a plain one.

    Raises `RequestError` for a name, a version or forms that cannot be, `BundleError` for an icon.
    """
    from ondevice import __version__

    version = version or __version__
    if not _NAME.fullmatch(name) or len(name) < 2:
        raise RequestError(
            f"{name!r} cannot be the name of a program; use 2 to 48 letters, digits, spaces, '.', "
            "'-' and '_', a letter first"
        )
    if not _VERSION.fullmatch(version):
        raise RequestError(f"{version!r} is no version; write one such as 1.2.0")
    if onefile and (deb or appdir):
        raise RequestError(
            "--deb and --appimage-folder are made from the program's folder; leave --onefile out"
        )
    return Plan(name, version, read_icon(icon), model, onefile, deb, appdir)
