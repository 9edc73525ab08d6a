"""Which engines run which files: from packages, engine names and a GGUF to what is measured."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Sequence
from pathlib import Path

from ondevice import files
from ondevice.errors import RequestError
from ondevice.package import Package
from ondevice.progress import Progress
from ondevice.runtime import bench
from ondevice.runtime.bench import Settings
from ondevice.runtime.bench_result import ModelInfo, Result
from ondevice.runtime.bench_subject import Spec, Subject, SubjectInfo, WorkerSubject
from ondevice.runtime.device import package_version

ENGINES = ("ort", "genai", "llamacpp")
"""Engines that can be measured; llamacpp runs a GGUF file, the others packages."""

_DISTRIBUTIONS = {
    "ort": "onnxruntime",
    "genai": "onnxruntime-genai",
    "llamacpp": "llama-cpp-python",
}
_STEP = 256  # contexts are a multiple of this, as llama.cpp pads them


def bench_packages(
    packages: Sequence[Package],
    engines: Sequence[str] = ("ort",),
    gguf: Path | None = None,
    settings: Settings = Settings(),
    progress: Progress | None = None,
) -> Result:
    """Measure every engine on every package, and llamacpp once on the GGUF, interleaved.

    Raises `RequestError` for engines, files or numbers that make no sense, `EngineError` for
    an engine that is missing or fails.
    """
    return bench.run(subjects(packages, engines, gguf, settings), settings, progress)


def subjects(
    packages: Sequence[Package],
    engines: Sequence[str] = ("ort",),
    gguf: Path | None = None,
    settings: Settings = Settings(),
) -> list[Subject]:
    """What to measure, in the order of `engines`, each in a process of its own.

    All get the same threads (the first package's best when the settings name none) and the
    same context length. Labels are engine names, with `labels` where there are several
    packages. Reads a GGUF once for its hash.
    """
    settings.check()
    _check(packages, engines, gguf)
    context = _context_length(packages, settings)
    threads = settings.threads or _best_threads(packages[0])
    names = labels(packages)
    found: list[Subject] = []
    for engine in engines:
        models: list[tuple[Package, str, Path | None]]
        models = [(package, name, None) for package, name in zip(packages, names, strict=True)]
        if engine == "llamacpp":
            models = [(packages[0], "", gguf)]
        for package, name, file in models:
            label = f"{engine} {name}" if file is None and len(packages) > 1 else engine
            model = gguf_info(file) if file is not None else package_info(package)
            version = package_version(_DISTRIBUTIONS[engine])
            info = SubjectInfo(label, engine, version, model, threads, context)
            file_name = None if file is None else str(file.resolve())
            spec = Spec(engine, str(package.folder.resolve()), file_name, threads, context)
            found.append(_subject(info, spec))
    return found


def labels(packages: Sequence[Package]) -> list[str]:
    """A short name for each package that no other has: its target, else its folder's name."""
    targets = [package.manifest.recipe.target for package in packages]
    if len(set(targets)) == len(targets):
        return targets
    names = [package.folder.resolve().name for package in packages]
    if len(set(names)) == len(names):
        return names
    return [str(package.folder) for package in packages]


def package_info(package: Package) -> ModelInfo:
    """What identifies a package: the hash over its files' hashes, and its source's hashes."""
    manifest = package.manifest
    listing = "".join(f"{name} {digest}\n" for name, digest in manifest.content_hashes().items())
    return ModelInfo(
        name=manifest.name,
        format="package",
        target=manifest.recipe.target,
        bytes=package.total_bytes,
        sha256=hashlib.sha256(listing.encode()).hexdigest(),
        source_sha256=tuple(sorted(manifest.source.files.values())),
    )


def gguf_info(path: Path) -> ModelInfo:
    """What identifies a GGUF file; hashes it. Raises `RequestError` when it cannot be read."""
    try:
        return ModelInfo(path.name, "gguf", None, path.stat().st_size, files.sha256(path))
    except OSError as error:
        raise RequestError(f"cannot read {path}: {error.strerror or error}") from error


def _subject(info: SubjectInfo, spec: Spec) -> Subject:
    if getattr(sys, "frozen", False):  # a bundled program has no interpreter to start
        from ondevice.runtime.bench_worker import local_subject

        return local_subject(spec, info)
    return WorkerSubject(info, spec)


def _check(packages: Sequence[Package], engines: Sequence[str], gguf: Path | None) -> None:
    unknown = [name for name in engines if name not in ENGINES]
    if unknown:
        raise RequestError(f"unknown engine {unknown[0]!r}; known: {', '.join(ENGINES)}")
    if not packages or not engines:
        raise RequestError("nothing to measure: give a package and at least one engine")
    if len(set(engines)) != len(engines):
        raise RequestError(f"each engine can be named once, got: {', '.join(engines)}")
    if len(set(labels(packages))) != len(packages):
        raise RequestError("a package is named twice; each is measured once")
    if "llamacpp" in engines and gguf is None:
        raise RequestError("the llamacpp engine needs a GGUF file; give --gguf FILE")
    if gguf is not None and "llamacpp" not in engines:
        raise RequestError("a GGUF file is for the llamacpp engine; give --engines ort,llamacpp")
    if gguf is not None and not gguf.is_file():
        raise RequestError(f"{gguf} does not exist; give the path of a GGUF file")


def _context_length(packages: Sequence[Package], settings: Settings) -> int:
    longest = min(package.manifest.shape.context_length for package in packages)
    if settings.positions > longest:
        raise RequestError(
            f"the workloads need {settings.positions} positions, the model has {longest}; "
            "measure fewer tokens"
        )
    chat = _chat_positions(packages, settings.chat_tokens)
    if chat > longest:
        raise RequestError(
            f"the chat workload needs {chat} positions, the model has {longest}; "
            "leave it out with 0 chat tokens"
        )
    needed = max(settings.positions, chat)
    return min(-(-needed // _STEP) * _STEP, longest)


def _chat_positions(packages: Sequence[Package], count: int) -> int:
    if count == 0:
        return 0
    from ondevice.runtime.bench_worker import package_texts

    return count + max(len(package_texts(package).conversation()) for package in packages)


def _best_threads(package: Package) -> int:
    from ondevice.runtime.threads import best_threads

    return best_threads(package)
