"""The proof where our own reference cannot be computed: transformers gives the logits.

They are computed in float32 by a child process (`reference_child`), written to a temporary file
and read back in chunks; the figures are the same as of any proof.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import ExportError
from ondevice.export.proof import ProofTokens, compare_logits, proof_tokens, summarize
from ondevice.export.via.checkpoint import PROOF_WINDOW
from ondevice.export.via.environment import Environment
from ondevice.package import Package, Proof
from ondevice.progress import Progress
from ondevice.runtime.device import usable_cores
from ondevice.runtime.ort import OrtEngine


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
    tokens = proof_tokens(package, window=PROOF_WINDOW)
    report = progress or (lambda stage, done, total: None)
    report("computing the reference", 0, tokens.count)
    expected = child_arrays("logits", checkpoint, tokens.windows, environment, work)
    if expected.shape != (tokens.count, package.manifest.shape.vocab_size):
        raise ExportError(
            f"transformers gives logits of shape {expected.shape} for {tokens.count} tokens, the "
            f"package a vocabulary of {package.manifest.shape.vocab_size}; they do not fit"
        )
    return _compare(package, tokens, expected, report)


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


def _compare(
    package: Package, tokens: ProofTokens, expected: NDArray[np.float32], report: Progress
) -> Proof:
    engine = OrtEngine(package, usable_cores(), context_length=len(tokens.windows[0]))
    figures, done = [], 0
    for index, rows in tokens.parts():
        window = tokens.windows[index]
        report("comparing", done, tokens.count)
        engine.rewind(rows.start)
        found = engine.verify(window[rows])
        reference = np.array(expected[done : done + len(found)])
        figures.append(compare_logits(reference, found, window[rows.start + 1 :]))
        done += len(found)
    engine.close()
    return summarize(figures, tokens)
