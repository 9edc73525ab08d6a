"""From a plan to a folder that can be given away: frozen, slimmed, described, summed; or nothing.

The common path of `ondevice package`; each step is a module of its own.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ondevice import files, lock
from ondevice.bundle import appdir, checksums, deb, licences, parts, sbom, scripts, slim
from ondevice.bundle.entry import MODELS
from ondevice.bundle.freeze import Frozen, freeze
from ondevice.bundle.plan import BundleError, Plan
from ondevice.package import verify_hashes
from ondevice.progress import Progress

Freeze = Callable[[Plan, Path], Frozen]

VERSION = "VERSION"
_STEPS = 6
# The program without its model, as measured on Linux, and once more while it is made.
_SPACE = 400_000_000


@dataclass(frozen=True)
class Bundle:
    """What was made. `program` is the folder, file or .app to start; sizes are bytes, `own_bytes`
    without the model; `missing` are the parts of which no licence text was found."""

    folder: Path
    program: Path
    bytes: int
    own_bytes: int
    deb: Path | None
    appdir: Path | None
    missing: tuple[str, ...]


def build(
    plan: Plan,
    out: Path,
    *,
    force: bool = False,
    progress: Progress | None = None,
    freezer: Freeze = freeze,
) -> Bundle:
    """Make the bundle in `out`, which appears whole or not at all.

    `freezer` is a seam for tests. Raises `BundleError` when it cannot be made here,
    `PackageError` for a damaged model, `OndeviceError` when `out` exists and not `force`, or when
    the disk is full.
    """
    out = out.absolute()  # PyInstaller runs in a folder of its own
    say = progress or (lambda stage, done, total: None)
    _require(plan)
    if out.exists() and not force:
        raise BundleError(f"{out} exists already; remove it, use --force or choose another --out")
    model_bytes = plan.model.total_bytes if plan.model else 0
    files.require_space(out.parent, 3 * model_bytes + _SPACE, "packing")
    if plan.model is not None:
        say("checking the model", 0, _STEPS)
        verify_hashes(plan.model)
    with files.new_folder(out, replace=force) as folder:
        with tempfile.TemporaryDirectory(prefix=".work-", dir=folder) as work:
            say("packing the program", 1, _STEPS)
            made = _program(plan, Path(work), folder, freezer, say)
        bundle = _beside(plan, made, say)
        say("summing up", 5, _STEPS)
        checksums.write_checksums(folder)
    return _moved(bundle, folder, out)


def _require(plan: Plan) -> None:
    sbom.require_library()
    if (plan.deb or plan.appdir) and sys.platform != "linux":
        raise BundleError("--deb and --appimage-folder are made on Linux only; leave them out")


def _program(plan: Plan, work: Path, folder: Path, freezer: Freeze, say: Progress) -> Bundle:
    """The program and its papers in `folder`."""
    frozen = freezer(plan, work)
    say("slimming and describing", 2, _STEPS)
    if frozen.path.is_dir():
        slim.strip(frozen.path)
    program = folder / frozen.path.name
    shutil.move(frozen.path, program)
    stage = work / "stage"
    found = [
        *parts.parts_of(frozen.packed, stage, plan.model),
        *scripts.script_parts(stage / "ondevice" / "desktop" / "page" / "vendor"),
    ]
    # Inside the folder they go where it goes; a file has them beside it, a signed .app too.
    inside = program.is_dir() and program.suffix != ".app"
    papers = program if inside else folder
    missing = licences.write_licences(found, papers / licences.FOLDER)
    files.write_text(papers / sbom.FILE, sbom.sbom_json(plan, found))
    files.write_text(papers / VERSION, f"{plan.version}\n")
    shutil.copyfile(lock.shipped_path(), papers / lock.FILE)
    if inside:
        checksums.write_checksums(program)
    size = size_of(program)
    model_bytes = _model_bytes(program)
    return Bundle(folder, program, size, size - model_bytes, None, None, tuple(missing))


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files of a folder; links count nothing."""
    if path.is_file():
        return path.stat().st_size
    inside = (file for file in path.rglob("*") if file.is_file() and not file.is_symlink())
    return sum(file.stat().st_size for file in inside)


def _model_bytes(program: Path) -> int:
    """What the packages inside the program's folder take; a onefile keeps them packed: 0."""
    if not program.is_dir():
        return 0
    found = (path for path in program.rglob(MODELS) if path.is_dir() and not path.is_symlink())
    return sum(size_of(path) for path in found if path.parent.name in ("_internal", "Resources"))


def _beside(plan: Plan, bundle: Bundle, say: Progress) -> Bundle:
    """What is made from the program's folder."""
    if plan.deb:
        say("writing the Debian package", 3, _STEPS)
        path = deb.make_deb(plan, bundle.program, bundle.folder / deb.deb_name(plan))
        bundle = replace(bundle, deb=path)
    if plan.appdir:
        say("writing the AppImage folder", 4, _STEPS)
        folder = bundle.folder / f"{plan.slug}.AppDir"
        bundle = replace(bundle, appdir=appdir.make_appdir(plan, bundle.program, folder))
    return bundle


def _moved(bundle: Bundle, old: Path, new: Path) -> Bundle:
    """The same with the paths of the final folder."""

    def moved(path: Path) -> Path:
        return new / path.relative_to(old)

    return replace(
        bundle,
        folder=new,
        program=moved(bundle.program),
        deb=moved(bundle.deb) if bundle.deb else None,
        appdir=moved(bundle.appdir) if bundle.appdir else None,
    )
