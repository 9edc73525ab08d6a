"""`/v1/models`: what can be asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ondevice.host import Host
from ondevice.package import MANIFEST
from ondevice.serve.errors import UnknownModel
from ondevice.serve.respond import name_of

if TYPE_CHECKING:
    from ondevice.package import Package


def listed(host: Host) -> dict[str, Any]:
    """All models, the default first."""
    return {"object": "list", "data": [_model(host, package) for package in host.packages]}


def one(host: Host, name: str) -> dict[str, Any]:
    """One model. Raises `UnknownModel`."""
    if not name:
        raise UnknownModel("the name of a model is missing; /v1/models lists them")
    return _model(host, host.package(name_of(host, name)))


def _model(host: Host, package: Package) -> dict[str, Any]:
    manifest = package.manifest
    file = package.folder / MANIFEST
    return {
        "id": manifest.name,
        "object": "model",
        "created": int(file.stat().st_mtime) if file.exists() else 0,
        "owned_by": "ondevice",
        "ondevice": {
            "target": manifest.recipe.target,
            "context_length": manifest.shape.context_length,
            "bytes": package.total_bytes,
            "licence": manifest.source.licence,
            "loaded": manifest.name in host.open_names,
        },
    }
