"""How near packages and llama.cpp are to the dequantized model, on benchmarks/text.txt.

KL divergence, top-1 agreement and perplexity of every subject against the same fp32 reference,
side by side, on windows of 512 tokens (more than 5,000 predicted positions). From the root:

    python -m benchmarks.fidelity MODEL.gguf --targets cpu-as-is,cpu-int8,cpu-int4 --json

Hidden states of the reference and the figures of every window are kept in the work folder, so
that an interrupted run goes on where it was.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import WORK, key, package_for, package_hash, print_json
from ondevice import files
from ondevice.export.proof import Figures, compare_logits
from ondevice.export.reference import logits, reference_hidden
from ondevice.export.source import Source, open_source
from ondevice.package import Package
from ondevice.runtime.engine import Engine
from ondevice.runtime.engines import open_engine
from ondevice.runtime.llamacpp import LlamaCppEngine

TEXT = Path(__file__).with_name("text.txt")
WINDOW = 512
ROWS = 128  # positions whose logits are in memory at a time

_FIGURES = ("kl", "same_top", "loss", "reference_loss")  # rows of the kept arrays
_Windows = list[list[int]]
_Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Subject:
    """An engine to compare with the reference; `identity` names its weights."""

    label: str
    identity: str
    engine: Engine


@dataclass(frozen=True)
class Fidelity:
    """Figures over all predicted positions; KL in nats per token."""

    label: str
    positions: int
    kl_mean: float
    kl_p99: float
    top1_agreement: float
    perplexity: float
    reference_perplexity: float
    perplexity_ratio: float


def windows_of(tokens: Sequence[int]) -> _Windows:
    """The text cut into windows; a last one of a single token predicts nothing and is left out."""
    cut = [list(tokens[start : start + WINDOW]) for start in range(0, len(tokens), WINDOW)]
    return [window for window in cut if len(window) > 1]


def hidden_states(source: Source, windows: _Windows, kept: Path) -> list[_Floats]:
    """The reference's hidden states by window, read from `kept` when they are there."""
    if not kept.is_file():
        print("computing the reference", file=sys.stderr)
        states = reference_hidden(source, windows)
        partial = kept.with_suffix(".partial.npz")
        np.savez(partial, *states)
        partial.replace(kept)
    with np.load(kept, allow_pickle=False) as arrays:
        return [arrays[f"arr_{i}"] for i in range(len(windows))]


def compare_window(
    engine: Engine, source: Source, window: Sequence[int], hidden: _Floats
) -> NDArray[np.float64]:
    """Figures (4, predicted positions) of a window, in the order of `_FIGURES`."""
    engine.rewind(0)
    parts = []
    for start in range(0, len(window) - 1, ROWS):
        rows = window[start : min(start + ROWS, len(window) - 1)]
        expected = logits(source, hidden[start : start + len(rows)])
        parts.append(compare_logits(expected, engine.verify(rows), window[start + 1 :]))
    whole = Figures.joined(parts)
    return np.stack([getattr(whole, name) for name in _FIGURES]).astype(np.float64)


def measure(
    subject: Subject, source: Source, windows: _Windows, states: Sequence[_Floats], work: Path
) -> Fidelity:
    """All windows of one subject; those whose figures are kept in `work` are not run again."""
    found = []
    for number, (window, hidden) in enumerate(zip(windows, states, strict=True)):
        kept = work / f"{key([subject.label, subject.identity, window])}.npy"
        if not kept.is_file():
            print(f"{subject.label}: window {number + 1}/{len(windows)}", file=sys.stderr)
            partial = kept.with_suffix(".partial.npy")
            np.save(partial, compare_window(subject.engine, source, window, hidden))
            partial.replace(kept)
        found.append(np.load(kept, allow_pickle=False))
    return _summary(subject.label, np.concatenate(found, axis=1))


def _summary(label: str, figures: NDArray[np.float64]) -> Fidelity:
    kl, same, loss, reference = figures
    return Fidelity(
        label=label,
        positions=len(kl),
        kl_mean=float(kl.mean()),
        kl_p99=float(np.percentile(kl, 99)),
        top1_agreement=float(same.mean()),
        perplexity=float(np.exp(loss.mean())),
        reference_perplexity=float(np.exp(reference.mean())),
        perplexity_ratio=float(np.exp(loss.mean() - reference.mean())),
    )


class Bench:
    """One model's reference on the text; measures subjects against it.

    Hidden states and figures are kept in a folder of `work`.
    """

    def __init__(self, gguf: Path, work: Path) -> None:
        self.source = open_source(gguf)
        tokens = self.source.tokenizer.encode(TEXT.read_text(encoding="utf-8"))
        self._windows = windows_of(tokens)
        self._work = work / "fidelity"
        self._work.mkdir(parents=True, exist_ok=True)
        kept = self._work / f"{key([files.sha256(gguf), self._windows])}.npz"
        self._states = hidden_states(self.source, self._windows, kept)

    def package(self, package: Package, label: str, threads: int) -> Fidelity:
        """The figures of a package in its engine."""
        engine = open_engine(package, threads=threads, context_length=WINDOW)
        return self._of(Subject(label, package_hash(package), engine))

    def llamacpp(self, gguf: Path, label: str, threads: int) -> Fidelity:
        """The figures of a GGUF file in llama.cpp."""
        engine = LlamaCppEngine(gguf, threads=threads, context_length=WINDOW)
        return self._of(Subject(label, files.sha256(gguf), engine))

    def _of(self, subject: Subject) -> Fidelity:
        found = measure(subject, self.source, self._windows, self._states, self._work)
        subject.engine.close()
        return found


def run(gguf: Path, targets: Sequence[str], work: Path, threads: int) -> list[Fidelity]:
    """Every target and llama.cpp, one after the other, against the reference."""
    packages = [package_for(gguf, target, work) for target in targets]
    bench = Bench(gguf, work)
    found = [
        bench.package(package, f"ondevice {package.manifest.recipe.target}", threads)
        for package in packages
    ]
    return [*found, bench.llamacpp(gguf, "llama.cpp", threads)]


def table(rows: Sequence[Fidelity]) -> str:
    """The figures as a Markdown table."""
    lines = [
        "| engine | positions | KL mean | KL p99 | top-1 agreement | perplexity | ratio |",
        "|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row.label} | {row.positions} | {row.kl_mean:.5f} | {row.kl_p99:.4f} | "
        f"{row.top1_agreement:.2%} | {row.perplexity:.3f} | {row.perplexity_ratio:.4f} |"
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("gguf", type=Path)
    parser.add_argument("--targets", default="cpu-as-is,cpu-int8,cpu-int4")
    parser.add_argument("--work", type=Path, default=WORK, help="folder for packages and figures")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    rows = run(options.gguf, options.targets.split(","), options.work, options.threads)
    if options.json:
        print_json({"model": options.gguf.name, "engines": [asdict(row) for row in rows]})
    else:
        print(table(rows))


if __name__ == "__main__":
    main()
