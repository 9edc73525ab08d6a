"""Engines by name, opened on a package."""

from __future__ import annotations

from ondevice.errors import EngineError
from ondevice.package import Package
from ondevice.runtime.engine import Engine

ENGINES = ("ort", "genai")


def open_engine(
    package: Package,
    name: str = "ort",
    *,
    threads: int | None = None,
    context_length: int | None = None,
) -> Engine:
    """Load a package into an engine.

    threads None takes the count measured on this device. Raises `EngineError` for an unknown
    engine, a missing library or a package it cannot load.
    """
    from ondevice.runtime.threads import best_threads

    if name not in ENGINES:
        raise EngineError(f"unknown engine {name!r}; known: {', '.join(ENGINES)}")
    if name == "genai":
        from ondevice.runtime.genai import GenaiEngine

        return GenaiEngine(package, threads or best_threads(package), context_length)
    from ondevice.runtime.ort import OrtEngine

    return OrtEngine(package, threads or best_threads(package), context_length)
