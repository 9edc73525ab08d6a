"""The architectures that can be exported: one file each, all listed in `registry`."""

from __future__ import annotations

from ondevice.errors import SourceError
from ondevice.export.architectures import llama, qwen2
from ondevice.export.architectures.family import Family

registry: dict[str, Family] = {module.FAMILY.name: module.FAMILY for module in (llama, qwen2)}


def family(name: str, where: str) -> Family:
    """The family called `name`; raises `SourceError` that names the known ones."""
    if name not in registry:
        raise SourceError(
            f"{where} is of the architecture {name[:60]!r}; known are {', '.join(registry)}"
        )
    return registry[name]
