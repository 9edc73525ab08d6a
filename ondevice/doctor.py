"""What this installation has, what it lacks, and what to do about it.

Looks only at this machine: no network, nothing written that stays.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from ondevice import __version__, store
from ondevice.runtime.device import Device, fingerprint

LIBRARIES = (
    "onnxruntime", "tokenizers", "numpy", "onnx", "onnx-ir", "gguf", "huggingface-hub",
    "onnxruntime-genai", "llama-cpp-python",
)  # fmt: skip
OPTIONAL = ("onnxruntime-genai", "llama-cpp-python")
ROOM_FOR_A_PULL = 1_500_000_000  # bytes: the default model's file and its package, with a margin


@dataclass(frozen=True)
class Report:
    """The state of an installation.

    `problems` stand in the way of an answer, `hints` do not; both say what to do.
    `libraries` maps a distribution to its version, `device` a property to its value in words.
    """

    version: str
    python: str
    libraries: dict[str, str]
    device: dict[str, str]
    providers: list[str]
    telemetry_off: bool
    store: str
    free_bytes: int
    models: list[str]
    problems: list[str]
    hints: list[str]


def examine() -> Report:
    """Look at versions, processor, providers, telemetry, store, disk and installed models."""
    libraries = {name: _version(name) for name in LIBRARIES}
    device = fingerprint()
    providers, provider_problems = _providers()
    home = store.home()
    models, model_problems = _models()
    free = _free(home)
    off = os.environ.get("ORT_DISABLE_TELEMETRY") == "1"
    return Report(
        version=__version__,
        python=device.python or "unknown",
        libraries={name: version or "not installed" for name, version in libraries.items()},
        device=_describe(device),
        providers=providers,
        telemetry_off=off,
        store=str(home),
        free_bytes=free,
        models=models,
        problems=[
            *_missing(libraries),
            *provider_problems,
            *([] if off else ["ORT_DISABLE_TELEMETRY was changed after ondevice set it to 1"]),
            *_unwritable(home),
            *model_problems,
        ],
        hints=_hints(libraries, free),
    )


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _missing(libraries: dict[str, str | None]) -> list[str]:
    return [
        f"{name} is not installed: pip install --force-reinstall ondevice"
        for name, version in libraries.items()
        if version is None and name not in OPTIONAL
    ]


def _providers() -> tuple[list[str], list[str]]:
    try:
        import onnxruntime
    except Exception as error:  # a native library can fail to load in many ways
        return [], [f"onnxruntime does not load: {error}"]
    providers: list[str] = onnxruntime.get_available_providers()
    return providers, []


def _models() -> tuple[list[str], list[str]]:
    """Names of the models that open, and a line for each that does not."""
    names = [package.manifest.name for package in store.packages()]
    problems = [model.problem for model in store.broken()]
    if not names and not problems:
        problems = ["no model is installed: `ondevice pull` fetches the default one"]
    return names, problems


def _free(home: Path) -> int:
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    return shutil.disk_usage(existing).free


def _unwritable(home: Path) -> list[str]:
    existing = next(folder for folder in (home, *home.parents) if folder.exists())
    try:
        with tempfile.TemporaryFile(dir=existing):
            return []
    except OSError as error:
        return [
            f"nothing can be written in {existing} ({error.strerror}); "
            "set ONDEVICE_HOME to a folder of yours"
        ]


def _hints(libraries: dict[str, str | None], free: int) -> list[str]:
    hints = []
    if free < ROOM_FOR_A_PULL:
        hints.append(
            f"{free / 1e6:,.0f} MB are free on the store's disk; the default model needs "
            f"{ROOM_FOR_A_PULL / 1e6:,.0f} MB while it is fetched and exported"
        )
    if libraries["onnxruntime-genai"] is None:
        hints.append("for --engine genai: pip install 'ondevice[export]'")
    if libraries["llama-cpp-python"] is None:
        hints.append("to measure against llama.cpp: pip install 'ondevice[bench]'")
    return hints


def _describe(device: Device) -> dict[str, str]:
    cores = f"{device.usable_cpus or '?'} of {device.logical_cores or '?'} processors usable"
    return {
        "system": f"{device.system or 'unknown'} {device.system_version or ''}".strip(),
        "processor": f"{device.cpu or device.architecture or 'unknown'}, {cores}",
        "instructions": ", ".join(device.instruction_sets) or "unknown",
        "memory": f"{device.memory_gib:.1f} GiB" if device.memory_gib else "unknown",
    }
