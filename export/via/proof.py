"""The proof where our own reference cannot be computed: transformers gives the logits.

They are computed in float32 by a child process (`reference_child`), written to a temporary file
and read back in chunks; the figures are the same as of any proof.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import ExportError, ProofError
from ondevice.export.proof import compare_logits, proof_text
from ondevice.export.via.checkpoint import PROOF_WINDOW
from ondevice.export.via.environment import Environment
from ondevice.package import Package, Proof
from ondevice.progress import Progress
from ondevice.runtime.device import instruction_sets, usable_cores
from ondevice.runtime.ort import OrtEngine
from ondevice.runtime.tokenizer import Tokenizer

_TOKENS = 1024
_ROWS = 64


def prove_by_child(
    package: Package,
    checkpoint: Path,
    environment: Environment,
    work: Path,
    progress: Progress | None = None,
) -> Proof:
    """Compare a package with the checkpoint that transformers runs, on the fixed text.

    `work` is a folder for temporary files: (tokens, vocab) float32, about 600 MB for a
    vocabulary of 150,000. Raises `ProofError` when the text gives too few tokens, `ExportError`
    when the child fails.
    """
    text = proof_text()
    tokens = Tokenizer.read(package.tokenizer_file).encode(text)[:_TOKENS]
    if len(tokens) < 2:
        raise ProofError(f"the text gives {len(tokens)} tokens; a proof needs at least 2")
    size = min(PROOF_WINDOW, package.manifest.shape.context_length)
    windows = [tokens[start : start + size] for start in range(0, len(tokens), size)]
    report = progress or (lambda stage, done, total: None)
    report("computing the reference", 0, len(tokens))
    expected = child_arrays("logits", checkpoint, windows, environment, work)
    if expected.shape != (len(tokens), package.manifest.shape.vocab_size):
        raise ExportError(
            f"transformers gives logits of shape {expected.shape} for {len(tokens)} tokens, the "
            f"package a vocabulary of {package.manifest.shape.vocab_size}; they do not fit"
        )
    return _proof(package, windows, expected, hashlib.sha256(text.encode()).hexdigest(), report)


def child_arrays(
    what: str, checkpoint: Path, given: object, environment: Environment, work: Path
) -> NDArray[np.float32]:
    """What `reference_child` computes of `given`, mapped from its file."""
    request, answer = work / f"{what}.json", work / f"{what}.npy"
    request.write_text(json.dumps(given), encoding="utf-8")
    script = resources.files("ondevice.export.via") / "reference_child.py"
    with resources.as_file(script) as path:
        arguments = [str(path), what, str(checkpoint.resolve()), str(request), str(answer)]
        environment.run(arguments, work, "the reference by transformers")
    try:
        array: NDArray[np.float32] = np.load(answer, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ExportError(f"the reference by transformers wrote no figures: {error}") from error
    return array


def _proof(
    package: Package,
    windows: Sequence[Sequence[int]],
    expected: NDArray[np.float32],
    text_sha256: str,
    report: Progress,
) -> Proof:
    engine = OrtEngine(package, threads=usable_cores(), context_length=len(windows[0]))
    parts = []
    done = 0
    for window in windows:
        engine.rewind(0)
        for start in range(0, len(window), _ROWS):
            rows = window[start : start + _ROWS]
            found = engine.verify(rows)
            reference = np.array(expected[done : done + len(rows)])
            parts.append(compare_logits(reference, found, window[start + 1 :]))
            done += len(rows)
            report("comparing", done, len(expected))
    engine.close()
    kl = np.concatenate([part.kl for part in parts])
    loss = np.concatenate([part.loss for part in parts]).mean()
    reference_loss = np.concatenate([part.reference_loss for part in parts]).mean()
    return Proof(
        text_sha256=text_sha256,
        tokens=len(kl),
        kl_mean=_rounded(kl.mean()),
        kl_p99=_rounded(np.percentile(kl, 99)),
        top1_agreement=_rounded(np.concatenate([part.same_top for part in parts]).mean()),
        perplexity=_rounded(np.exp(loss)),
        reference_perplexity=_rounded(np.exp(reference_loss)),
        engine="ort",
        instruction_sets=instruction_sets(),
    )


def _rounded(value: np.floating) -> float:
    return float(f"{float(value):.6g}")
