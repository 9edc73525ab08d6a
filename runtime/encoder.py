"""An encoder package at work: a text to its vector, or to the logits of a classifier.

Knows one text at a time, so nothing is ever padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.closing import Closing
from ondevice.encoder_package import EncoderPackage
from ondevice.errors import EngineError, RequestError, TooLongError
from ondevice.runtime.ort import open_session, token_ids
from ondevice.runtime.tokenizer import Tokenizer

_KNOWN = {"input_ids", "attention_mask", "token_type_ids", "position_ids"}


class Encoder(Closing):
    """One onnxruntime session of an encoder.

    Raises `EngineError` when the graph cannot be loaded or wants other inputs than an
    encoder's, `PackageError` for a damaged tokenizer.
    """

    def __init__(self, package: EncoderPackage, threads: int = 1) -> None:
        self._package = package
        self._tokenizer = Tokenizer.read(package.tokenizer_file)
        self._session: Any = open_session(package.model_file, threads)
        self._inputs = {value.name for value in self._session.get_inputs()}
        outputs = {value.name for value in self._session.get_outputs()}
        if "input_ids" not in self._inputs or self._inputs - _KNOWN:
            raise self._unfit(f"its inputs are {', '.join(sorted(self._inputs))[:200]}")
        if package.manifest.encoder.output not in outputs:
            raise self._unfit(f"it has no {package.manifest.encoder.output}")

    def vector(self, text: str) -> NDArray[np.float32]:
        """The text's vector (width,), pooled as the package says, not normalized.

        Raises `TooLongError` for more tokens than the model was made for, `RequestError` for an
        empty or invalid text and for a classifier.
        """
        shape = self._package.manifest.encoder
        if shape.pooling == "none":
            raise RequestError(f"{self._package.manifest.name} is a classifier; ask for its logits")
        rows = self.run(self.tokens(text))
        pooled: NDArray[np.float32] = rows[0] if shape.pooling == "cls" else rows.mean(axis=0)
        return pooled

    def logits(self, text: str) -> dict[str, float]:
        """A classifier's logit by label; raises as `vector` does."""
        labels = self._package.manifest.encoder.labels
        if not labels:
            raise RequestError(f"{self._package.manifest.name} has no labels; ask for its vector")
        row = self.run(self.tokens(text))[0]
        return {label: float(value) for label, value in zip(labels, row, strict=True)}

    def tokens(self, text: str) -> list[int]:
        """As `encoded`; raises `TooLongError` for more than the model reads."""
        tokens = self.encoded(text)
        longest = self._package.manifest.encoder.context_length
        if len(tokens) > longest:
            raise TooLongError(f"the text has {len(tokens)} tokens, the encoder reads {longest}")
        return tokens

    def encoded(self, text: str) -> list[int]:
        """The text's token ids with the model's marks around them; what a text spells of a
        control token stays plain text. Raises `RequestError` for invalid text."""
        return self._tokenizer.encode(self._tokenizer.guard(text), add_special=True)

    def run(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """The output's rows: (tokens, width), or (1, width) of a classifier."""
        shape = self._package.manifest.encoder
        ids = token_ids(tokens, shape.vocab_size)[None]
        given = {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.zeros_like(ids),
            "position_ids": np.arange(ids.shape[1], dtype=np.int64)[None],
        }
        try:
            (found,) = self._session.run([shape.output], {n: given[n] for n in self._inputs})
        except Exception as error:  # onnxruntime's classes have no common base
            reason = " ".join(str(error).split())[:300]
            raise EngineError(
                f"onnxruntime cannot run {self._package.model_file}: {reason}"
            ) from error
        rows = ids.shape[1] if shape.output == "last_hidden_state" else 1
        if found.size != rows * shape.width or found.dtype != np.float32:
            raise self._unfit(f"it gave {found.dtype} of shape {found.shape}")
        result: NDArray[np.float32] = found.reshape(rows, shape.width)
        return result

    def close(self) -> None:
        self._session = None

    def _unfit(self, why: str) -> EngineError:
        return EngineError(
            f"{self._package.model_file} does not fit its ondevice.json: {why}; "
            "export the package again"
        )
