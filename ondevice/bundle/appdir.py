"""An AppImage's folder: what `appimagetool` turns into one file. Linux only."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ondevice.bundle.entries import desktop_file
from ondevice.bundle.plan import Plan

_RUN = """\
#!/bin/sh
here=$(dirname "$(readlink -f "$0")")
exec "$here/usr/lib/{unix}/{slug}" "$@"
"""


def make_appdir(plan: Plan, program: Path, folder: Path) -> Path:
    """Make `folder` from the program's folder; files are linked where the disk can, not copied."""
    unix = plan.unix_name
    shutil.copytree(
        program, folder / "usr" / "lib" / unix, symlinks=True, copy_function=_link_or_copy
    )
    run = folder / "AppRun"
    run.write_text(_RUN.format(unix=unix, slug=plan.slug), encoding="utf-8")
    run.chmod(0o755)
    (folder / f"{unix}.desktop").write_text(desktop_file(plan, unix), encoding="utf-8")
    (folder / f"{unix}.png").write_bytes(plan.icon.png)
    (folder / ".DirIcon").symlink_to(f"{unix}.png")
    return folder


def _link_or_copy(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
