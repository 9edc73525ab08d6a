"""What a bundle is made of: each packed file traced to the distribution or library it came from.

Knows nothing of how that is written down.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from ondevice.bundle.freeze import Packed
from ondevice.package import Package

Kind = Literal["python", "interpreter", "system", "script", "model"]

_TEXTS = re.compile(r"(licen[cs]e|copying|notice|copyright|authors)", re.IGNORECASE)
_LIMIT_S = 60.0
_KNOWN = {"pyinstaller": "GPL-2.0-or-later WITH Bootloader-exception"}
# What older metadata says instead of an SPDX expression.
_CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "3-Clause BSD License": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
}


@dataclass(frozen=True)
class Part:
    """Something with a version and a licence of its own.

    `licence` is an SPDX expression or what its maker wrote, "" where nothing is known; `texts`
    are its licence files; `sha256` by file is there for models and scripts.
    """

    name: str
    version: str
    kind: Kind
    licence: str = ""
    texts: tuple[Path, ...] = ()
    purl: str = ""
    sha256: tuple[tuple[str, str], ...] = ()

    @property
    def label(self) -> str:
        """Name and version in a form that can be a folder's name."""
        return re.sub(r"[^A-Za-z0-9.+_]+", "-", f"{self.name}-{self.version}").strip("-")


def parts_of(packed: Sequence[Packed], stage: Path, model: Package | None) -> list[Part]:
    """All parts of a bundle in the order of kind and name: from the files that are in it."""
    owners = _owners()
    used: dict[str, metadata.Distribution] = {}
    strangers: list[Path] = []
    # A link's source is only where it leads, inside the bundle.
    files = {os.path.realpath(item.source) for item in packed if item.kind != "SYMLINK"}
    for source in map(Path, sorted(files)):
        owner = owners.get(str(source))
        if owner is not None:
            used[_name(owner)] = owner
        elif _is_library(source) and not _is_ours(source, stage):
            strangers.append(source)
    for name in ("ondevice", "pyinstaller"):  # staged, and the program's own first code
        used.setdefault(name, metadata.distribution(name))
    found = [_distribution(used[name]) for name in sorted(used)]
    found += [_interpreter(), *_system(strangers)]
    return found if model is None else [*found, model_part(model)]


def model_part(model: Package) -> Part:
    """The model's package: its licence and the hash of each file."""
    manifest = model.manifest
    texts = [model.folder / name for name in sorted(manifest.files) if _TEXTS.search(name)]
    return Part(
        name=manifest.name,
        version=(manifest.source.revision or "")[:12],
        kind="model",
        licence=manifest.source.licence or "",
        texts=tuple(texts),
        sha256=tuple(manifest.content_hashes().items()),
    )


def _owners() -> dict[str, metadata.Distribution]:
    """Every installed file and the distribution it belongs to."""
    owners: dict[str, metadata.Distribution] = {}
    for distribution in metadata.distributions():
        root = os.path.realpath(str(distribution.locate_file("")))
        for file in distribution.files or ():
            owners.setdefault(os.path.normpath(f"{root}/{file}"), distribution)
    return owners


def _name(distribution: metadata.Distribution) -> str:
    return re.sub(r"[-_.]+", "-", distribution.metadata["Name"]).lower()


def _distribution(distribution: metadata.Distribution) -> Part:
    name, version = _name(distribution), distribution.version
    return Part(
        name=name,
        version=version,
        kind="python",
        licence=_KNOWN.get(name) or _licence(distribution.metadata),
        texts=tuple(_texts(distribution)),
        purl=f"pkg:pypi/{name}@{version}",
    )


def _licence(data: metadata.PackageMetadata) -> str:
    """An SPDX expression if the metadata has one, else its words."""
    if "License-Expression" in data:
        return data["License-Expression"]
    classifiers = [
        line.rsplit(" :: ", 1)[-1]
        for line in data.get_all("Classifier") or []
        if line.startswith("License :: ")
    ]
    known = [_CLASSIFIERS[words] for words in classifiers if words in _CLASSIFIERS]
    if known:
        return " OR ".join(dict.fromkeys(known))
    written = data["License"].strip().splitlines() if "License" in data else []
    words = written[0][:100] if written else ", ".join(classifiers)
    return _CLASSIFIERS.get(words, words)


def _texts(distribution: metadata.Distribution) -> Iterator[Path]:
    for file in distribution.files or ():
        inside_metadata = file.parts[0].endswith(".dist-info")
        near_the_top = inside_metadata or len(file.parts) <= 2
        if near_the_top and _TEXTS.match(file.name) and file.suffix not in (".py", ".pyc"):
            path = Path(str(distribution.locate_file(file)))
            if path.is_file():
                yield path


def _interpreter() -> Part:
    version = platform.python_version()
    places = [Path(sysconfig.get_path("stdlib")), Path(sys.base_prefix)]
    texts = [place / name for place in places for name in ("LICENSE.txt", "LICENSE")]
    here = tuple(path for path in texts if path.is_file())[:1]
    purl = f"pkg:generic/python@{version}"
    return Part("cpython", version, "interpreter", "Python-2.0.1", here, purl)


def _is_library(path: Path) -> bool:
    return bool(re.search(r"\.(so(\.[0-9.]+)?|dylib|dll)$", path.name))


def _is_ours(path: Path, stage: Path) -> bool:
    """Whether the file is staged, or came with this Python."""
    roots = [stage, Path(sys.base_prefix), Path(sysconfig.get_path("stdlib"))]
    ours = [Path(os.path.realpath(root)) for root in roots]
    if Path(sys.base_prefix) == Path("/usr"):
        ours = [ours[0], ours[2]]
        if path.name.startswith("libpython"):
            return True
    return any(path.is_relative_to(root) for root in ours)


def _system(libraries: Iterable[Path]) -> list[Part]:
    """The system's own libraries, by Debian's packages where `dpkg` knows them."""
    found: dict[str, Part] = {}
    for path in libraries:
        part = _debian(path) or Part(path.name, "", "system")
        found[part.name] = part
    return [found[name] for name in sorted(found)]


def _debian(path: Path) -> Part | None:
    tool = shutil.which("dpkg-query")
    if tool is None:
        return None
    # Files under /lib are listed there, although that has become a link to /usr/lib.
    for place in (str(path), str(path).removeprefix("/usr")):
        if owner := _ask(tool, "--search", place):
            break
    else:
        return None
    package = owner.split(": ")[0].split(",")[0]
    version = _ask(tool, "--show", "--showformat=${Version}", package)
    name = package.split(":")[0]
    text = Path("/usr/share/doc") / name / "copyright"
    texts = (text,) if text.is_file() else ()
    return Part(name, version, "system", "", texts, f"pkg:deb/debian/{name}@{version}")


def _ask(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""
