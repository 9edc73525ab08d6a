"""The shells and how each is built; what is not here is named, with the reason. Runs none."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
GSON = Path("/usr/share/java/gson.jar")
BUILD_TIMEOUT = 900.0  # seconds; the first build of Swift or .NET on a slow machine


class NotHere(Exception):  # noqa: N818 - it says what is so
    """A shell that cannot be built or run on this machine, and why."""


class BuildFailed(Exception):  # noqa: N818
    """A compiler that is here and did not like the source; what it said."""


@dataclass(frozen=True)
class Shell:
    """A shell by name; `build` makes it in a folder and gives the command that starts it."""

    name: str
    build: Callable[[Path], list[str]]


def _tool(*names: str) -> str:
    """The path of the last of these programs. Raises `NotHere` for the first that is missing."""
    found = ""
    for name in names:
        found = shutil.which(name) or ""
        if not found:
            raise NotHere(f"no `{name}` here")
    return found


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=BUILD_TIMEOUT,
        text=True,
        errors="replace",
    )
    if done.returncode:
        raise BuildFailed(done.stdout.strip()[-2000:])


def _c(build: Path) -> list[str]:
    if sys.platform == "win32":
        raise NotHere("needs POSIX")
    make = _tool("cc", "pkg-config", "make")
    if subprocess.run(["pkg-config", "--exists", "libcjson"]).returncode:
        raise NotHere("no cJSON here (Debian: libcjson-dev)")
    _run([make, f"BUILD={build}"], HERE / "c")
    return [str(build / "ondevice-shell")]


def _node(build: Path) -> list[str]:
    node = _tool("node")
    version = subprocess.run([node, "--version"], capture_output=True, text=True).stdout
    if int(version.removeprefix("v").split(".")[0]) < 20:
        raise NotHere(f"Node {version.strip()} is older than 20")
    return [node, str(HERE / "node" / "shell.js")]


def _java(build: Path) -> list[str]:
    java = _tool("make", "javac", "jar", "java")
    if not GSON.exists():
        raise NotHere("no Gson here (Debian: libgoogle-gson-java)")
    _run(["make", f"BUILD={build}", f"GSON={GSON}"], HERE / "java")
    return [java, "-jar", str(build / "ondevice-shell.jar")]


def _csharp(build: Path) -> list[str]:
    dotnet = _tool("dotnet")
    _run([dotnet, "build", "-c", "Release", "--artifacts-path", str(build)], HERE / "csharp")
    return [dotnet, str(build / "bin" / "OndeviceShell" / "release" / "OndeviceShell.dll")]


def _swift(build: Path) -> list[str]:
    if sys.platform == "win32":
        raise NotHere("needs macOS or Linux")
    swift = _tool("swift")
    _run([swift, "build", "-c", "release", "--scratch-path", str(build)], HERE / "swift")
    return [str(build / "release" / "ondevice-shell")]


def _electron(build: Path) -> list[str]:
    raise NotHere("a window, without a conformance mode; its client is node's")


SHELLS = (
    Shell("c", _c),
    Shell("node", _node),
    Shell("java", _java),
    Shell("csharp", _csharp),
    Shell("swift", _swift),
    Shell("electron", _electron),
)
