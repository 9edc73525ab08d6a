"""Engines by name, opened on a package."""

from __future__ import annotations

from ondevice.errors import EngineError, RequestError
from ondevice.package import Package
from ondevice.runtime.engine import Engine

ENGINES = ("ort", "genai")
MOST_THREADS = 1024


def open_engine(
    package: Package,
    name: str = "ort",
    *,
    threads: int | None = None,
    context_length: int | None = None,
) -> Engine:
    """Load a package into an engine. `ort` runs static graphs on the NPU provider that is there;
    a Core ML package has an engine of its own.

    threads None takes the count measured on this device. Raises `EngineError` for an unknown
    engine, a missing library or a package it cannot load, `RequestError` for a number of
    threads or positions that cannot be.
    """
    from ondevice.runtime.threads import best_threads

    if name not in ENGINES:
        raise EngineError(f"unknown engine {name!r}; known: {', '.join(ENGINES)}")
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise RequestError(f"threads must be from 1 to {MOST_THREADS}, not {threads}")
    if package.is_coreml:
        from ondevice.runtime.coreml import CoremlEngine

        return CoremlEngine(package, context_length)
    if package.manifest.recipe.target.startswith("npu-"):
        if name != "ort":
            raise EngineError(
                f"the {name} engine cannot run static graphs; leave --engine out for this package"
            )
        from ondevice.runtime.npu import NpuEngine

        return NpuEngine(package, threads or best_threads(package), context_length)
    if name == "genai":
        from ondevice.runtime.genai import GenaiEngine

        return GenaiEngine(package, threads or best_threads(package), context_length)
    from ondevice.runtime.ort import OrtEngine

    return OrtEngine(package, threads or best_threads(package), context_length)
