"""Packages of one model side by side: bytes and speed against what quantization cost.

Puts proofs and a benchmark's figures together; measures and proves nothing.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

from ondevice import json_file
from ondevice.package import Package, Proof
from ondevice.runtime.bench_result import EngineResult, Metric, Result
from ondevice.runtime.bench_setup import labels
from ondevice.runtime.measure import Statistics


@dataclass(frozen=True)
class Row:
    """One package. KL in nats per token, speeds in tokens/s; None where not known.

    on_frontier: no other row has at most its bytes and a smaller KL; None where KL is not known
    or not of the same text and source as the others'.
    """

    label: str
    folder: str
    target: str
    bytes: int
    bits_per_weight: float
    quantizer: str | None
    proof: Proof | None
    prefill: Statistics | None
    decode: Statistics | None
    on_frontier: bool | None = None


@dataclass(frozen=True)
class TradeOff:
    """Rows in the order asked for. `notes` say what makes them doubtful."""

    rows: tuple[Row, ...]
    instruction_sets: tuple[str, ...]
    notes: tuple[str, ...]

    def to_json(self) -> str:
        """The comparison as JSON text."""
        return json_file.dumps(dataclasses.asdict(self))


def trade_off(
    packages: Sequence[Package], proofs: Sequence[Proof | None], speed: Result | None
) -> TradeOff:
    """Packages, their proofs and, in the same order, what a benchmark found of them."""
    engines: Sequence[EngineResult | None] = [None] * len(packages)
    if speed is not None:
        engines = speed.engines
    named = zip(labels(packages), packages, proofs, engines, strict=True)
    rows = [_row(*each) for each in named]
    notes = list(_doubts(packages, proofs))
    if not notes:
        rows = [dataclasses.replace(row, on_frontier=_is_best(row, rows)) for row in rows]
    sets: tuple[str, ...] = ()
    if speed is not None:
        notes += speed.notes
        sets = speed.device.instruction_sets
    return TradeOff(tuple(rows), sets, tuple(notes))


def _row(label: str, package: Package, proof: Proof | None, engine: EngineResult | None) -> Row:
    recipe = package.manifest.recipe
    quantization = recipe.quantization
    return Row(
        label=label,
        folder=str(package.folder),
        target=recipe.target,
        bytes=package.total_bytes,
        bits_per_weight=recipe.bits_per_weight,
        quantizer=None if quantization is None else quantization.quantizer,
        proof=proof,
        prefill=_speed(engine, "pp"),
        decode=_speed(engine, "tg"),
    )


def _speed(engine: EngineResult | None, prefix: str) -> Statistics | None:
    metrics: Sequence[Metric] = () if engine is None else engine.metrics
    return next((m.statistics for m in metrics if m.name.startswith(prefix)), None)


def _doubts(packages: Sequence[Package], proofs: Sequence[Proof | None]) -> list[str]:
    """What keeps these proofs from being compared."""
    names = labels(packages)
    missing = [name for name, proof in zip(names, proofs, strict=True) if proof is None]
    found = [proof for proof in proofs if proof is not None]
    doubts = []
    if missing:
        doubts.append(f"no proof: {', '.join(missing)}; give --against SOURCE to prove them now")
    if len({(proof.text_sha256, proof.tokens) for proof in found}) > 1:
        doubts.append("the proofs are of different texts; give --against SOURCE to prove all anew")
    perplexities = [proof.reference_perplexity for proof in found]
    if perplexities and not math.isclose(min(perplexities), max(perplexities), rel_tol=1e-3):
        doubts.append(
            f"the unquantized models differ (perplexities {min(perplexities):.4g} to "
            f"{max(perplexities):.4g}): these are not packages of one model"
        )
    return doubts


def _is_best(row: Row, rows: Sequence[Row]) -> bool:
    assert row.proof is not None
    for other in rows:
        assert other.proof is not None
        kl, other_kl = row.proof.kl_mean, other.proof.kl_mean
        if other.bytes <= row.bytes and other_kl < kl:
            return False
        if other.bytes < row.bytes and other_kl <= kl:
            return False
    return True
