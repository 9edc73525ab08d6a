"""The proof: a package's next-token distributions against those of the unquantized model.

Runs the package through the runtime, the reference through numpy.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from importlib import resources
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import ProofError
from ondevice.export import reference
from ondevice.export.layers import LayeredPackage
from ondevice.export.source import Source
from ondevice.package import Package, Proof
from ondevice.progress import Progress
from ondevice.runtime.coreml import needing_coremltools
from ondevice.runtime.device import instruction_sets, usable_cores
from ondevice.runtime.engine import Engine
from ondevice.runtime.engines import open_engine
from ondevice.runtime.tokenizer import Tokenizer

if TYPE_CHECKING:
    from ondevice.export.coreml.model import EvaluatedModel

_WINDOW = 512  # tokens that share a context
_TOKENS = 1024  # tokens compared
_ROWS = 128  # positions whose logits are in memory at a time: 256 take Gemma 2 to 2.9 GB
_COMPARED = 4  # of them, compared at a time by a thread


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
    "npu-int8": Gate(kl_mean=0.05, perplexity_ratio=1.05),
    "coreml-gpu": Gate(kl_mean=0.25, perplexity_ratio=1.25),
    "coreml-ane": Gate(kl_mean=0.25, perplexity_ratio=1.25),
    "coreml-fp16": Gate(kl_mean=0.001, perplexity_ratio=1.01),
}


def check_gate(proof: Proof, target: str, accept: bool) -> Proof:
    """The proof, marked when it is below its target's gate and accepted all the same.

    Raises `ProofError` with the figures otherwise, for a target that has no gate, and for a
    package that gives no numbers.
    """
    gate = GATES.get(target)
    if gate is None:
        raise ProofError(f"the target {target!r} has no gate; known: {', '.join(GATES)}")
    if not math.isfinite(proof.kl_mean + proof.perplexity):
        raise ProofError(
            f"the {target} package gives no numbers: a value inside is beyond what it computes in; "
            "choose another target"
        )
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


@dataclass(frozen=True)
class ProofTokens:
    """What a package is proved on: tokens in windows that share no context."""

    text_sha256: str
    windows: tuple[tuple[int, ...], ...]

    @property
    def count(self) -> int:
        return sum(len(window) for window in self.windows)

    def parts(self) -> Iterator[tuple[int, slice]]:
        """Windows, and the positions in them whose logits are looked at together."""
        for index, window in enumerate(self.windows):
            for start in range(0, len(window), _ROWS):
                yield index, slice(start, min(start + _ROWS, len(window)))


def proof_tokens(package: Package, text: str | None = None, window: int = _WINDOW) -> ProofTokens:
    """The first tokens of a text (default: the fixed one) in windows of at most `window`.

    Raises `ProofError` when the text gives fewer than two.
    """
    text = proof_text() if text is None else text
    tokens = Tokenizer.read(package.tokenizer_file).encode(text)[:_TOKENS]
    if len(tokens) < 2:
        raise ProofError(f"the text gives {len(tokens)} tokens; a proof needs at least 2")
    size = min(window, package.manifest.shape.context_length)
    windows = (tuple(tokens[start : start + size]) for start in range(0, len(tokens), size))
    return ProofTokens(hashlib.sha256(text.encode()).hexdigest(), tuple(windows))


def prove(
    package: Package,
    source: Source,
    text: str | None = None,
    progress: Progress | None = None,
) -> Proof:
    """Compare a package with its source on a text (default: the fixed one).

    Both run side by side, a layer at a time: neither is in memory as a whole. Raises
    `ProofError` when the text gives fewer than two tokens.
    """
    tokens = proof_tokens(package, text)
    report = progress or (lambda stage, done, total: None)
    if package.is_coreml or package.manifest.recipe.target.startswith("npu-"):
        return _prove_whole(package, source, tokens, report)
    try:
        layered = LayeredPackage(package, tokens.windows)
    except ValueError:
        return _prove_whole(package, source, tokens, report)
    states = reference.embed(source, tokens.windows)
    errors = []
    layers = source.architecture.layers
    for index in range(layers):
        report("comparing layers", index, layers)
        states = reference.Layer(source, index).apply(states)
        errors.append(_relative_error(states, layered.next_layer()))
    states = reference.final_norm(source, states)
    figures, done = [], 0
    for index, rows in tokens.parts():
        report("comparing logits", done, tokens.count)
        expected = reference.logits(source, states[index][rows])
        found = layered.logits(index, rows)
        figures.append(compare_logits(expected, found, tokens.windows[index][rows.start + 1 :]))
        done += rows.stop - rows.start
    return summarize(figures, tokens, tuple(errors))


def _prove_whole(package: Package, source: Source, tokens: ProofTokens, report: Progress) -> Proof:
    """Static graphs, and those of other exporters, are run as a whole by their engine."""
    layers = source.architecture.layers
    states = reference.reference_hidden(
        source, tokens.windows, lambda index: report("computing the reference", index, layers)
    )
    engine = _engine(package, len(tokens.windows[0]))
    figures = []
    for index, rows in tokens.parts():
        report("comparing logits", index, len(tokens.windows))
        window = tokens.windows[index]
        engine.rewind(rows.start)
        found = engine.verify(window[rows])
        expected = reference.logits(source, states[index][rows])
        figures.append(compare_logits(expected, found, window[rows.start + 1 :]))
    engine.close()
    return replace(summarize(figures, tokens), engine=engine.name)


def _engine(package: Package, context_length: int) -> Engine | EvaluatedModel:
    """What runs a package on this machine."""
    if not package.is_coreml:
        return open_engine(package, threads=usable_cores(), context_length=context_length)
    with needing_coremltools("the proof of a Core ML package", ProofError):
        from ondevice.export.coreml.model import EvaluatedModel
    return EvaluatedModel(package)


def _relative_error(
    expected: Sequence[NDArray[np.float32]], found: Sequence[NDArray[np.float32]]
) -> float:
    """Root mean square of the difference of states (tokens, hidden), over that of the first."""
    error = sum(_power(f - e) for e, f in zip(expected, found, strict=True))
    power = sum(_power(e) for e in expected)
    return float(f"{(error / power) ** 0.5:.3g}") if power else 0.0


def _power(values: NDArray[np.float32]) -> float:
    return float(np.sum(np.square(values), dtype=np.float64))


@dataclass(frozen=True)
class Figures:
    """Of each position: divergence, whether the most probable token is the same, losses."""

    kl: NDArray[np.float64]
    same_top: NDArray[np.bool_]
    loss: NDArray[np.float64]
    reference_loss: NDArray[np.float64]

    @classmethod
    def joined(cls, parts: Sequence[Figures]) -> Figures:
        """Of the positions of all parts."""
        names = [field.name for field in fields(cls)]
        return cls(**{n: np.concatenate([getattr(part, n) for part in parts]) for n in names})


def compare_logits(
    expected: NDArray[np.float32], found: NDArray[np.float32], following: Sequence[int]
) -> Figures:
    """Figures of some positions: logits (positions, vocab) of both, and the tokens that follow.

    KL divergence of `found` from `expected` is sum p (log p - log q), in nats.
    """

    def compared(start: int) -> Figures:
        rows = slice(start, start + _COMPARED)
        return _compared(expected[rows], found[rows], following[rows])

    with ThreadPoolExecutor(usable_cores(), "comparing") as pool:
        return Figures.joined(list(pool.map(compared, range(0, len(expected), _COMPARED))))


def _compared(
    expected: NDArray[np.float32], found: NDArray[np.float32], following: Sequence[int]
) -> Figures:
    p, q = _log_softmax(expected), _log_softmax(found)
    kl: NDArray[np.float64] = np.sum(np.exp(p) * (p - q), axis=1, dtype=np.float64)
    targets = np.asarray(following[: len(expected)], np.int64)
    rows = np.arange(len(targets))
    return Figures(
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


def summarize(
    parts: Sequence[Figures], tokens: ProofTokens, layer_errors: tuple[float, ...] = ()
) -> Proof:
    """The proof that the figures of all positions give."""

    def rounded(value: np.floating | float) -> float:
        return float(f"{float(value):.6g}")

    whole = Figures.joined(parts)
    return Proof(
        text_sha256=tokens.text_sha256,
        tokens=len(whole.kl),
        kl_mean=rounded(whole.kl.mean()),
        kl_p99=rounded(np.percentile(whole.kl, 99)),
        top1_agreement=rounded(whole.same_top.mean()),
        perplexity=rounded(np.exp(whole.loss.mean())),
        reference_perplexity=rounded(np.exp(whole.reference_loss.mean())),
        engine="ort",
        instruction_sets=instruction_sets(),
        layer_errors=layer_errors,
    )
