"""A stand-in for PyInstaller: a small folder with what a frozen program has."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import ondevice
from ondevice.bundle.entry import MODELS
from ondevice.bundle.freeze import Frozen, Packed
from ondevice.bundle.plan import Plan

# Has the words that name the version of glibc a library asks for.
LIBRARY = b"\x7fELF no real library \0GLIBC_2.17\0GLIBC_2.29\0GLIBC_PRIVATE\0"


@pytest.fixture
def freezer() -> Callable[[Plan, Path], Frozen]:
    """Takes the place of `freeze`: makes the folder at once."""

    def freeze(plan: Plan, work: Path) -> Frozen:
        program = work / "dist" / plan.slug
        inside = program / "_internal"
        inside.mkdir(parents=True)
        (program / plan.slug).write_text("#!/bin/sh\necho started\n", encoding="utf-8")
        (program / plan.slug).chmod(0o755)
        (inside / "libsmall.so.1").write_bytes(LIBRARY)
        (inside / "libsmall.so").symlink_to("libsmall.so.1")
        stage = work / "stage" / "ondevice"
        stage.mkdir(parents=True)
        packed = [
            Packed("ondevice", stage / "__init__.py", "PYMODULE"),
            Packed("pytest", Path(pytest.__file__), "PYMODULE"),
            Packed("libsmall.so.1", work / "libsmall.so.1", "BINARY"),
            Packed("libsmall.so", Path("libsmall.so.1"), "SYMLINK"),
        ]
        shutil.copyfile(ondevice.__file__, stage / "__init__.py")
        if plan.model is not None:
            shutil.copytree(plan.model.folder, inside / MODELS / plan.model.manifest.name)
        return Frozen(program, tuple(packed))

    return freeze
