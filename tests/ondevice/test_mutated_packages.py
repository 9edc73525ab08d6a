"""180 damaged packages: each is refused in one line or answers; no traceback, hang or crash.

A package whose files do not fit its manifest never gets as far as native code. To see what that
code does all the same, the manifest is made to fit, as a hostile maker would. Every file's
damages run in a process of their own, which a crash would end.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import random
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_mutated_sources import MUTATIONS, digits

from ondevice.errors import OndeviceError, PackageError
from ondevice.package import (
    MANIFEST,
    Package,
    describe_files,
    open_package,
    verify_hashes,
    write_manifest,
)
from ondevice.runtime.answer import Options
from ondevice.runtime.model import load

SECONDS = 20
EACH = 36
NAMES = (MANIFEST, "model.onnx", "tokenizer.json", "chat_template.jinja", "genai_config.json")


@pytest.mark.parametrize("name", NAMES)
def test_damaged_packages_are_refused_or_answer(
    tiny_package: Package, tmp_path: Path, name: str
) -> None:
    folder = shutil.copytree(tiny_package.folder, tmp_path / "package")
    arguments = [sys.executable, "-X", "faulthandler", __file__, str(folder), name]
    found = subprocess.run(
        arguments,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=SECONDS * EACH,
    )
    assert found.returncode == 0, found.stdout[-1000:] + found.stderr[-3000:]
    outcomes = json.loads(found.stdout.splitlines()[-1])
    assert len(outcomes) == EACH
    assert any(outcomes), "not one damage was noticed"
    assert all("\n" not in line and len(line) < 900 for line in outcomes)


def run(folder: Path, name: str) -> list[str]:
    """Damage one file in many ways; what was said each time, "" for an answer."""
    whole = {file: (folder / file).read_bytes() for file in (name, MANIFEST)}
    kinds = [*MUTATIONS, digits]
    outcomes = []
    for seed in range(EACH):
        for file, data in whole.items():
            (folder / file).write_bytes(data)
        damaged = bytearray(whole[name])
        kinds[seed % len(kinds)](damaged, random.Random(f"{name} {seed}"))
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        outcomes.append(outcome(folder, name, bytes(damaged)))
        faulthandler.cancel_dump_traceback_later()
    return outcomes


def outcome(folder: Path, name: str, damaged: bytes) -> str:
    path = folder / name
    if name != MANIFEST and damaged != path.read_bytes():
        manifest = open_package(folder).manifest
        path.write_bytes(damaged)
        with contextlib.suppress(PackageError):
            open_package(folder)
            raise AssertionError("the damage was not noticed")
        write_manifest(folder, replace(manifest, files=describe_files(folder)))
    path.write_bytes(damaged)
    try:
        package = open_package(folder)
        verify_hashes(package)
        engine = "genai" if name == "genai_config.json" else "ort"
        with load(package, engine=engine, threads=1) as model:
            answer = model.generate("the", Options(max_tokens=4))
        assert 1 <= len(answer.tokens) <= 4
    except OndeviceError as error:
        return str(error) or "an error that says nothing"
    return ""


if __name__ == "__main__":
    print("\n" + json.dumps(run(Path(sys.argv[1]), sys.argv[2])))
