"""The software bill of materials: a bundle's parts as CycloneDX JSON, the same for the same parts.

Knows nothing of where the parts come from.
"""

from __future__ import annotations

import importlib.util
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from ondevice.bundle.parts import Part
from ondevice.bundle.plan import BundleError, Plan

if TYPE_CHECKING:
    from cyclonedx.model.bom import Bom
    from cyclonedx.model.component import Component
    from cyclonedx.model.license import License

FILE = "sbom.cdx.json"

_SPACE = uuid.UUID("6d2c9a1e-93a5-4e0c-8f9d-0d1f5f6a7b31")  # any; ours, so that serials repeat


def require_library() -> None:
    """Raise `BundleError` without the library that writes CycloneDX."""
    if importlib.util.find_spec("cyclonedx") is None:
        raise BundleError('the bill of materials needs cyclonedx; pip install "ondevice[package]"')


def sbom_json(plan: Plan, parts: Sequence[Part], when: datetime | None = None) -> str:
    """CycloneDX 1.6 as JSON. `when` is the build's time, a fixed one where it is not to count."""
    from cyclonedx.output.json import JsonV1Dot6

    bom = _bom(plan, parts, when or datetime.fromtimestamp(0, UTC))
    text: str = JsonV1Dot6(bom).output_as_string(indent=2)
    return text + "\n"


def _bom(plan: Plan, parts: Sequence[Part], when: datetime) -> Bom:
    from cyclonedx.model.bom import Bom, BomMetaData
    from cyclonedx.model.component import Component, ComponentType

    program = Component(
        name=plan.name, version=plan.version, type=ComponentType.APPLICATION, bom_ref="program"
    )
    components = [_component(part) for part in parts]
    words = [plan.name, plan.version, *(f"{p.label} {p.sha256}" for p in parts)]
    bom = Bom(
        serial_number=uuid.uuid5(_SPACE, "\n".join(words)),
        metadata=BomMetaData(component=program, timestamp=when),
        components=components,
    )
    bom.register_dependency(program, components)
    return bom


def _component(part: Part) -> Component:
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    files = [
        Component(
            name=name,
            type=ComponentType.FILE,
            bom_ref=f"{part.label}/{name}",
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=sha256)],
        )
        for name, sha256 in part.sha256
    ]
    model = part.kind == "model"
    return Component(
        name=part.name,
        version=part.version or None,
        type=ComponentType.MACHINE_LEARNING_MODEL if model else ComponentType.LIBRARY,
        bom_ref=part.label,
        licenses=_licences(part.licence),
        purl=PackageURL.from_string(part.purl) if part.purl else None,
        components=files,
    )


def _licences(words: str) -> list[License]:
    from cyclonedx.contrib.license.factories import LicenseFactory

    return [LicenseFactory().make_from_string(words)] if words else []
