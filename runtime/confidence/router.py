"""P(right) before the model has said a word: a linear classifier over the prompt.

Over hashed n-grams, or over the embedding of an encoder that the user brings. Knows no
policy: what to do with the probability is decided elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice import files
from ondevice.errors import CalibrationError
from ondevice.runtime.confidence.ngrams import BUCKETS, ngrams

ENCODER_FILES = ("model.onnx", "tokenizer.json")
LONGEST = 512  # tokens an encoder reads of a prompt


@dataclass(frozen=True)
class Router:
    """Coefficients of the classifier.

    `weights` belong to the buckets in `index`, or to the dimensions of the embedding where
    `encoder` is the SHA-256 of an encoder's files. The prior is sigmoid(slope * logit + offset);
    `weight` is the logit's part in P(right) after the answer, 0 when it has none.
    """

    weights: tuple[float, ...]
    intercept: float
    slope: float
    offset: float
    weight: float
    index: tuple[int, ...] = ()
    encoder: str = ""

    def __post_init__(self) -> None:
        if not self.encoder and len(self.index) != len(self.weights):
            raise CalibrationError(
                f"router.index has {len(self.index)} entries, router.weights {len(self.weights)}"
            )
        if any(not 0 <= bucket < BUCKETS for bucket in self.index):
            raise CalibrationError(f"router.index has a bucket outside 0..{BUCKETS - 1}")

    def logit(self, prompt: str, encoder: EncoderRouter | None = None) -> float:
        """The logit of P(right) by the prompt alone, not yet scaled."""
        if not self.encoder:
            found = ngrams(prompt)
            total = float(self._dense[found].sum()) / math.sqrt(max(len(found), 1))
            return total + self.intercept
        if encoder is None:
            raise CalibrationError("this router needs its encoder: give the package to `read`")
        return float(self._dense @ encoder.embed(prompt)) + self.intercept

    def prior(self, logit: float) -> float:
        """P(right) of a logit."""
        return sigmoid(self.slope * logit + self.offset)

    @cached_property
    def _dense(self) -> NDArray[np.float64]:
        if self.encoder:
            return np.array(self.weights)
        dense = np.zeros(BUCKETS)
        dense[list(self.index)] = self.weights
        return dense


def sigmoid(logit: float) -> float:
    """1 / (1 + e^-logit), without overflow."""
    if logit >= 0:
        return 1 / (1 + math.exp(-logit))
    grown = math.exp(logit)
    return grown / (1 + grown)


class EncoderRouter:
    """A sentence encoder in a folder with `model.onnx` and `tokenizer.json`.

    As `optimum-cli export onnx --task feature-extraction --model NAME FOLDER` writes it (run it
    in an environment of its own: optimum does not install beside transformers 5). The embedding
    is the mean of the last hidden state over the prompt's tokens, or the output of two
    dimensions where the graph has one. Takes milliseconds, not microseconds, for a prompt.
    """

    def __init__(self, folder: Path) -> None:
        """Raises `CalibrationError` when the folder does not hold such an encoder."""
        for name in ENCODER_FILES:
            if not (folder / name).is_file():
                raise CalibrationError(
                    f"{folder} has no {name}: an encoder is exported with "
                    "`optimum-cli export onnx --task feature-extraction --model NAME FOLDER`"
                )
        self.folder = folder
        self._session, self._tokenizer = _open(folder)
        self._inputs = {entry.name for entry in self._session.get_inputs()}
        unknown = self._inputs - {"input_ids", "attention_mask", "token_type_ids", "position_ids"}
        if unknown or "input_ids" not in self._inputs:
            raise CalibrationError(
                f"{folder / 'model.onnx'} is no encoder: its inputs are "
                f"{', '.join(sorted(self._inputs))}; export it for feature-extraction"
            )

    @cached_property
    def identity(self) -> str:
        """SHA-256 over the encoder's files."""
        return encoder_identity(self.folder)

    def embed(self, prompt: str) -> NDArray[np.float64]:
        """The prompt's embedding (dimensions,)."""
        ids = np.array([self._tokenizer.encode(prompt).ids or [0]], dtype=np.int64)
        given = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.zeros_like(ids),
            "position_ids": np.arange(ids.shape[1], dtype=np.int64)[None],
        }
        try:
            outputs = self._session.run(None, {n: given[n] for n in self._inputs})
        except Exception as error:  # onnxruntime raises its own kinds, all of them Exception
            raise CalibrationError(
                f"the encoder in {self.folder} cannot read a prompt: {str(error)[:200]}"
            ) from error
        flat = next((out for out in outputs if np.ndim(out) == 2), None)
        if flat is not None:
            return np.asarray(flat[0], np.float64)
        deep = next((out for out in outputs if np.ndim(out) == 3), None)
        if deep is None:
            raise CalibrationError(
                f"{self.folder / 'model.onnx'} gives no hidden state; export it for "
                "feature-extraction"
            )
        return np.asarray(np.mean(deep[0], axis=0), np.float64)


def encoder_identity(folder: Path) -> str:
    """SHA-256 over the hashes of an encoder's files."""
    import hashlib

    parts = [files.sha256(folder / name) for name in ENCODER_FILES]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()


def _open(folder: Path) -> tuple[Any, Any]:
    import onnxruntime
    import tokenizers

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
        )
        tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.enable_truncation(LONGEST)
        tokenizer.no_padding()
    except Exception as error:  # both libraries raise plain Exception
        reason = " ".join(str(error).split())[:200]
        raise CalibrationError(f"the encoder in {folder} cannot be read: {reason}") from error
    return session, tokenizer
