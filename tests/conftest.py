"""Fixtures that every part uses: the one real model, and packages made on the spot."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from checkpoints import tiny, write_checkpoint

from ondevice import lock, pull
from ondevice.export.convert import convert
from ondevice.package import Package

# `benchmarks` and `recipes` are no part of the package. Last, so that the installed package comes
# before the folder of the same name.
sys.path.append(str(Path(__file__).parent.parent))

# Children must import the installed package, not the folder of the same name they start in.
os.environ["PYTHONSAFEPATH"] = "1"

# coremltools is neither for Windows nor for every Python.
collect_ignore = []
if find_spec("coremltools") is None:
    collect_ignore = ["export/test_coreml.py", "runtime/test_coreml_engine.py"]

SMOLLM2 = "smollm2-135m-instruct"


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """SmolLM2's GGUF file, fetched once into a cache outside the repository."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ondevice-tests"
    model = lock.read(lock.shipped_path()).find(SMOLLM2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ONDEVICE_HOME", str(cache))
        return pull.obtain(model, "mirror", None, print)


@pytest.fixture(scope="session")
def smollm2_package(smollm2_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Package:
    """SmolLM2 at the bits its source has, proved."""
    return convert(smollm2_gguf, "cpu-as-is", tmp_path_factory.mktemp("smollm2") / SMOLLM2)


@pytest.fixture(scope="session")
def tiny_package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """A random two-layer Llama in float32."""
    folder = tmp_path_factory.mktemp("tiny")
    checkpoint = write_checkpoint(folder / "checkpoint", tiny())
    return convert(checkpoint, "cpu-fp32", folder / "tiny")
