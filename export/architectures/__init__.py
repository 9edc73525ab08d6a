"""The architectures that can be exported: one file each, all listed in `registry`."""

from __future__ import annotations

from ondevice.errors import SourceError
from ondevice.export.architectures import (
    gemma2,
    gemma3,
    llama,
    mistral,
    phi3,
    qwen2,
    qwen3,
    smollm3,
)
from ondevice.export.architectures.family import Family

_MODULES = (llama, mistral, qwen2, qwen3, phi3, gemma2, gemma3, smollm3)
registry: dict[str, Family] = {module.FAMILY.name: module.FAMILY for module in _MODULES}


def family(name: str, where: str) -> Family:
    """The family whose `model_type` is `name`; raises `SourceError` that names the known ones."""
    if name not in registry:
        raise _unknown(name, where, list(registry))
    return registry[name]


def gguf_family(name: str, where: str) -> Family:
    """The family whose `general.architecture` is `name`; raises `SourceError` like `family`."""
    known = {found.gguf[0]: found for found in registry.values() if found.gguf}
    if name not in known:
        raise _unknown(name, where, list(known))
    return known[name]


def _unknown(name: str, where: str, known: list[str]) -> SourceError:
    return SourceError(
        f"{where} is of the architecture {name[:60]!r}; known are {', '.join(known)}"
    )
