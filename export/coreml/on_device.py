"""Logits that a package holds from when it was made, and what Core ML makes of the same tokens.

The stored ones are the evaluator's: in float32, what the device should give, and in half
precision, how far from it may be expected. Not run on a Mac yet.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ondevice.errors import PackageError
from ondevice.export.coreml.mlpackage import MLPackage
from ondevice.export.coreml.model import EvaluatedModel
from ondevice.export.proof import compare_logits
from ondevice.export.quantize.calibrate import calibration_text
from ondevice.package import Package
from ondevice.runtime.tokenizer import Tokenizer

LOGITS_FILE = "expected_logits.npz"
# Nats that the device's distributions may lie from those of the evaluator in float32, on average.
# Its own half precision lies 0.00002 off (docs/coreml.md); sums in another order may do more.
MOST_KL = 0.01
_PREFILL, _DECODE = 64, 8  # tokens

Logits = NDArray[np.float32]


class _Model(Protocol):
    def prefill(self, tokens: Sequence[int]) -> Logits: ...

    def decode(self, token: int) -> Logits: ...


@dataclass(frozen=True)
class Stored:
    """tokens: of which all but the last `_DECODE` are a prompt, or only the first where there are
    no more. exact, half: logits float32 (positions, vocab) after the prompt and each further
    token, in either precision."""

    tokens: tuple[int, ...]
    exact: Logits
    half: Logits


@dataclass(frozen=True)
class Comparison:
    """Logits against the stored ones of float32.

    KL divergence in nats, mean; positions whose most probable token is the same; the largest
    difference of a logit. `half_kl_mean` and `half_difference`: the evaluator's own in half
    precision.
    """

    positions: int
    kl_mean: float
    same_top: int
    largest_difference: float
    half_kl_mean: float
    half_difference: float

    @property
    def passed(self) -> bool:
        return self.kl_mean <= MOST_KL


def store_logits(package: Package) -> Path:
    """Evaluate a package in both precisions; the file beside its program that the logits are in."""
    tokenizer = Tokenizer.read(package.tokenizer_file)
    most = min(_PREFILL + _DECODE, package.manifest.shape.context_length)
    tokens = tokenizer.encode(calibration_text())[:most]
    program = MLPackage(package.model_file)
    exact, half = (
        _logits(EvaluatedModel(package, precision, program), tokens)
        for precision in ("fp32", "fp16")
    )
    path = package.folder / LOGITS_FILE
    np.savez(
        path,
        tokens=np.array(tokens, np.int32),
        exact=exact,
        half=half.astype(np.float16),
    )
    return path


def read_logits(package: Package) -> Stored:
    """What `store_logits` put there; raises `PackageError` when it is not, or is damaged."""
    path = package.folder / LOGITS_FILE
    try:
        with np.load(path, allow_pickle=False) as arrays:
            tokens, exact, half = (arrays[name] for name in ("tokens", "exact", "half"))
        if tokens.ndim != 1 or not tokens.size:
            raise ValueError(f"tokens of {tokens.shape}")
        shape = (len(tokens) - _prompt_tokens(len(tokens)) + 1, package.manifest.shape.vocab_size)
        if exact.shape != shape or half.shape != shape:
            raise ValueError(f"logits of {exact.shape} and {half.shape}, not {shape}")
        ids = tuple(int(token) for token in tokens)
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise PackageError(
            f"{path} does not hold the logits that the device's are compared with ({error}); "
            "export the package again"
        ) from error
    return Stored(ids, exact.astype(np.float32), half.astype(np.float32))


def compare_with_stored(package: Package, engine: _Model) -> Comparison:
    """Run the stored tokens on an engine with an empty KV cache.

    Raises `PackageError` as `read_logits` does.
    """
    stored = read_logits(package)
    logits = _logits(engine, stored.tokens)
    found, half = (compare_logits(stored.exact, other, ()) for other in (logits, stored.half))
    return Comparison(
        positions=len(logits),
        kl_mean=float(found.kl.mean()),
        same_top=int(found.same_top.sum()),
        largest_difference=float(np.abs(logits - stored.exact).max()),
        half_kl_mean=float(half.kl.mean()),
        half_difference=float(np.abs(stored.half - stored.exact).max()),
    )


def _logits(model: _Model, tokens: Sequence[int]) -> Logits:
    """(positions, vocab): after a prompt and each further token."""
    end = _prompt_tokens(len(tokens))
    rows = (model.decode(token) for token in tokens[end:])
    return np.stack([model.prefill(tokens[:end]), *rows])


def _prompt_tokens(count: int) -> int:
    """Of so many tokens, those of the prompt: a short context leaves no room for all others."""
    return max(1, count - _DECODE)
