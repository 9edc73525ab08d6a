"""Puts `models.lock`, which lies at the top of the repository, inside the package of a wheel.

Everything else is in pyproject.toml. An editable install needs nothing: `ondevice.lock` looks
at the top of the checkout too.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

LOCK = "models.lock"


class BuildWithLock(build_py):
    """`build_py` that also copies the lock, and names it as a source for sdists."""

    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = self._target()
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(LOCK, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        outputs: list[str] = super().get_outputs(include_bytecode)
        return outputs if self.editable_mode else [*outputs, str(self._target())]

    def get_source_files(self) -> list[str]:
        sources: list[str] = super().get_source_files()
        return [*sources, LOCK]

    def _target(self) -> Path:
        return Path(self.build_lib) / "ondevice" / LOCK


setup(cmdclass={"build_py": BuildWithLock})
