"""The proof: a package's next-token distributions against those of the unquantized model.

Runs the package through the runtime, the reference through numpy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import ProofError
from ondevice.export.reference import logits, reference_hidden
from ondevice.export.source import Source
from ondevice.package import Package, Proof
from ondevice.progress import Progress
from ondevice.runtime.device import instruction_sets, usable_cores
from ondevice.runtime.ort import OrtEngine
from ondevice.runtime.tokenizer import Tokenizer

_WINDOW = 512  # tokens that share a context
_TOKENS = 1024  # tokens compared
_ROWS = 64  # positions whose logits are in memory at a time


@dataclass(frozen=True)
class Gate:
    """The worst figures a package may have."""

    kl_mean: float
    perplexity_ratio: float


GATES = {
    "cpu-fp32": Gate(kl_mean=1e-5, perplexity_ratio=1.001),
    "cpu-int8": Gate(kl_mean=0.02, perplexity_ratio=1.02),
    "cpu-as-is": Gate(kl_mean=0.02, perplexity_ratio=1.02),
    "cpu-int4": Gate(kl_mean=0.25, perplexity_ratio=1.25),
}


def check_gate(proof: Proof, target: str, accept: bool) -> Proof:
    """The proof, marked when it is below its target's gate and accepted all the same.

    Raises `ProofError` with the figures otherwise, and for a target that has no gate.
    """
    gate = GATES.get(target)
    if gate is None:
        raise ProofError(f"the target {target!r} has no gate; known: {', '.join(GATES)}")
    if proof.kl_mean <= gate.kl_mean and proof.perplexity_ratio <= gate.perplexity_ratio:
        return proof
    if accept:
        return replace(proof, accepted_below_gate=True)
    raise ProofError(
        f"the {target} package is too far from its source: mean KL {proof.kl_mean:.4f} nats "
        f"(gate {gate.kl_mean}), perplexity ratio {proof.perplexity_ratio:.3f} "
        f"(gate {gate.perplexity_ratio}); choose more bits, or keep it with --accept"
    )


def proof_text() -> str:
    """The fixed text on which packages are proved."""
    return (resources.files("ondevice.export") / "proof_text.txt").read_text(encoding="utf-8")


def prove(
    package: Package,
    source: Source,
    text: str | None = None,
    progress: Progress | None = None,
) -> Proof:
    """Compare a package with its source on a text (default: the fixed one).

    Raises `ProofError` when the text gives fewer than two tokens.
    """
    text = proof_text() if text is None else text
    tokens = Tokenizer.read(package.tokenizer_file).encode(text)[:_TOKENS]
    if len(tokens) < 2:
        raise ProofError(f"the text gives {len(tokens)} tokens; a proof needs at least 2")
    size = min(_WINDOW, package.manifest.shape.context_length)
    windows = [tokens[start : start + size] for start in range(0, len(tokens), size)]
    layers = package.manifest.shape.layers
    report = progress or (lambda stage, done, total: None)
    hidden = reference_hidden(
        source, windows, lambda layer: report("computing the reference", layer, layers)
    )
    figures = _compare(package, source, windows, hidden, report)
    return _proof(figures, hashlib.sha256(text.encode()).hexdigest())


@dataclass(frozen=True)
class _Figures:
    kl: NDArray[np.float64]
    same_top: NDArray[np.bool_]
    loss: NDArray[np.float64]
    reference_loss: NDArray[np.float64]


def _compare(
    package: Package,
    source: Source,
    windows: Sequence[Sequence[int]],
    hidden: Sequence[NDArray[np.float32]],
    report: Progress,
) -> _Figures:
    engine = OrtEngine(package, threads=usable_cores(), context_length=len(windows[0]))
    parts: list[_Figures] = []
    total = sum(len(window) for window in windows)
    done = 0
    for window, states in zip(windows, hidden, strict=True):
        engine.rewind(0)
        for start in range(0, len(window), _ROWS):
            rows = window[start : start + _ROWS]
            expected = logits(source, states[start : start + _ROWS])
            parts.append(compare_logits(expected, engine.verify(rows), window[start + 1 :]))
            done += len(rows)
            report("comparing", done, total)
    engine.close()
    return _Figures(
        np.concatenate([part.kl for part in parts]),
        np.concatenate([part.same_top for part in parts]),
        np.concatenate([part.loss for part in parts]),
        np.concatenate([part.reference_loss for part in parts]),
    )


def compare_logits(
    expected: NDArray[np.float32], found: NDArray[np.float32], following: Sequence[int]
) -> _Figures:
    """Figures of some positions: logits (positions, vocab) of both, and the tokens that follow.

    KL divergence of `found` from `expected` is sum p (log p - log q), in nats.
    """
    p, q = _log_softmax(expected), _log_softmax(found)
    kl: NDArray[np.float64] = np.sum(np.exp(p) * (p - q), axis=1, dtype=np.float64)
    targets = np.asarray(following[: len(expected)], np.int64)
    rows = np.arange(len(targets))
    return _Figures(
        kl=kl,
        same_top=expected.argmax(axis=1) == found.argmax(axis=1),
        loss=-q[rows, targets].astype(np.float64),
        reference_loss=-p[rows, targets].astype(np.float64),
    )


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    shifted = logits - logits.max(axis=1, keepdims=True)
    total = np.sum(np.exp(shifted), axis=1, keepdims=True, dtype=np.float64)
    logs: NDArray[np.float32] = shifted - np.log(total).astype(np.float32)
    return logs


def _proof(figures: _Figures, text_sha256: str) -> Proof:
    def rounded(value: np.floating | float) -> float:
        return float(f"{float(value):.6g}")

    return Proof(
        text_sha256=text_sha256,
        tokens=len(figures.kl),
        kl_mean=rounded(figures.kl.mean()),
        kl_p99=rounded(np.percentile(figures.kl, 99)),
        top1_agreement=rounded(figures.same_top.mean()),
        perplexity=rounded(np.exp(figures.loss.mean())),
        reference_perplexity=rounded(np.exp(figures.reference_loss.mean())),
        engine="ort",
        instruction_sets=instruction_sets(),
    )
