"""Runs PyInstaller, in a process of its own, on a plan. Knows what it must leave out and why."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from ondevice.bundle.entry import MODELS
from ondevice.bundle.plan import BundleError, Plan
from ondevice.bundle.stage import Stage, make_stage

# Libraries that something mentions but no program of ours uses: training, plots, clusters, tests,
# other formats. docs/packaging.md says what the larger ones are worth.
EXCLUDED = (
    "IPython", "PIL", "PyInstaller", "_pytest", "accelerate", "coremltools", "dask", "distributed",
    "docutils", "fontTools", "hypothesis", "llama_cpp", "lxml", "markdown_it", "matplotlib",
    "mypy", "numba", "numpy.f2py", "numpy.testing", "onnxruntime_genai", "pandas", "pip",
    "playwright", "pydantic.v1", "pygments", "pytest", "ruff", "safetensors", "scipy",
    "sentencepiece", "setuptools", "sklearn", "torch", "tornado", "transformers", "wheel",
    # of the standard library
    "distutils", "doctest", "ensurepip", "idlelib", "lib2to3", "pydoc", "pydoc_data", "tkinter",
    "turtledemo", "unittest",
    # GNU readline is under the GPL, which would then hold for the whole bundle.
    "readline", "curses", "gdbm", "dbm.gnu",
    # Another way to download; ours goes by plain HTTPS.
    "hf_xet", "requests", "urllib3", "charset_normalizer",
    # 12 MB that only Linux's Secret Service (keys) and PDFs with a password need.
    "cryptography", "secretstorage",
    # A chat needs none of these.
    "openai.cli", "openai.resources.admin", "openai.resources.beta", "openai.resources.live",
    "openai.resources.realtime", "openai.types.admin", "openai.types.beta", "openai.types.live",
    "openai.types.realtime",
)  # fmt: skip
# Chosen at run time by name, so that nothing in the code mentions them.
HIDDEN = (
    "keyring.backends.Windows", "keyring.backends.chainer", "keyring.backends.fail",
    "keyring.backends.kwallet", "keyring.backends.libsecret", "keyring.backends.macOS",
    "uvicorn.lifespan.off", "uvicorn.lifespan.on", "uvicorn.loops.asyncio",
    "uvicorn.protocols.http.h11_impl",
)  # fmt: skip
UNUSED = (
    # onnxruntime's Python module holds the whole library; this is the same again, for C programs.
    "onnxruntime/capi/libonnxruntime.*",
    "onnxruntime/capi/onnxruntime.dll",
    "onnxruntime/capi/onnxruntime.lib",
    # PyYAML and numpy do without these.
    "yaml/_yaml.*",
    "numpy/_core/_*tests.*",
    "*/tests/*",
    "jsonschema/benchmarks/*",
    "*.dist-info/RECORD",
    "llama_cpp_python-*",
    "*.pyi",
    "*.a",
    "*.h",
    "*.pxd",
)

_LIMIT_S = 1800.0


@dataclass(frozen=True)
class Packed:
    """One packed file: its place in the bundle (for a module its name), the file it came from,
    and PyInstaller's word for its kind (PYMODULE, EXTENSION, BINARY, DATA)."""

    place: str
    source: Path
    kind: str


@dataclass(frozen=True)
class Frozen:
    """What PyInstaller made: the folder or, of a onefile, the file; and what is in it."""

    path: Path
    packed: tuple[Packed, ...]


def freeze(plan: Plan, work: Path) -> Frozen:
    """Make the program in the empty folder `work`.

    Raises `BundleError` when PyInstaller is missing or fails; its last line is in the message.
    """
    if importlib.util.find_spec("PyInstaller") is None:
        raise BundleError('a program is packed by PyInstaller; pip install "ondevice[package]"')
    stage = make_stage(work / "stage")
    data = resources.files("ondevice.bundle") / "data"
    for name in ("app.spec", "start.py"):
        (work / name).write_bytes((data / name).read_bytes())
    (work / "plan.json").write_text(json.dumps(_spec(plan, stage, work)), encoding="utf-8")
    _run(work)
    packed = json.loads((work / "contents.json").read_text(encoding="utf-8"))
    files = tuple(Packed(place, Path(source), kind) for place, source, kind in packed)
    return Frozen(_made(work / "dist", plan), files)


def _spec(plan: Plan, stage: Stage, work: Path) -> dict[str, Any]:
    """What app.spec reads."""
    data = [*stage.data, (str(stage.root / "ondevice" / "models.lock"), ".")]
    (work / "VERSION").write_text(f"{plan.version}\n", encoding="utf-8")
    data.append((str(work / "VERSION"), "."))
    if plan.model is not None:
        data += [
            (str(plan.model.folder / name), f"{MODELS}/{plan.model.manifest.name}")
            for name in ("ondevice.json", *plan.model.manifest.files)
        ]
    return {
        "name": plan.name,
        "slug": plan.slug,
        "version": plan.version,
        "identifier": "app.ondevice." + re.sub(r"[^a-z0-9]+", "-", plan.slug.lower()).strip("-"),
        "script": str(work / "start.py"),
        "stage": str(stage.root),
        "modules": [*stage.modules, *_present(HIDDEN)],
        "data": data,
        "excludes": EXCLUDED,
        "unused": UNUSED,
        "icon": _icon(plan, work),
        "onefile": plan.onefile,
    }


def _present(names: tuple[str, ...]) -> list[str]:
    """Those whose library is installed; the others' absence is no news."""
    return [name for name in names if importlib.util.find_spec(name.split(".")[0]) is not None]


def _icon(plan: Plan, work: Path) -> str | None:
    """The icon where the program itself carries it: not on Linux."""
    makers = {"win32": ("icon.ico", plan.icon.ico), "darwin": ("icon.icns", plan.icon.icns)}
    if sys.platform not in makers:
        return None
    name, make = makers[sys.platform]
    (work / name).write_bytes(make())
    return str(work / name)


def _run(work: Path) -> None:
    command = [sys.executable, "-P", "-m", "PyInstaller", "--noconfirm", "--log-level", "WARN"]
    command += ["--distpath", "dist", "--workpath", "build", "app.spec"]
    environment = os.environ | {
        "PYINSTALLER_CONFIG_DIR": str(work / "cache"),  # nothing is left in the user's own
        "PYTHONHASHSEED": "1",  # with these two, the same input gives the same bytes
        "SOURCE_DATE_EPOCH": os.environ.get("SOURCE_DATE_EPOCH", "946684800"),
    }
    try:
        done = subprocess.run(
            command, cwd=work, env=environment, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=_LIMIT_S, check=False, text=True, errors="replace",
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise BundleError(f"PyInstaller was not ready after {_LIMIT_S / 60:.0f} minutes") from error
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        raise BundleError(f"PyInstaller failed: {lines[-1].strip()[:300]}")


def _made(dist: Path, plan: Plan) -> Path:
    if sys.platform == "darwin":
        return dist / f"{plan.slug}.app"
    ending = ".exe" if sys.platform == "win32" and plan.onefile else ""
    return dist / (plan.slug + ending)
