"""A Core ML package as an engine that runs anywhere: its program in the reference evaluator."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ondevice.export.coreml.decoder import HIDDEN, LAST_HIDDEN
from ondevice.export.coreml.evaluate import Observe, Precision, Program
from ondevice.export.coreml.mlpackage import MLPackage
from ondevice.package import Package
from ondevice.runtime.coreml import causal_mask


class EvaluatedModel:
    """Tokens in, logits out, as `ondevice.runtime.engine.Engine` has it, in numpy.

    precision: see `evaluate.Program`. Raises `ExportError` for a damaged package.
    """

    def __init__(self, package: Package, precision: Precision = "fp16") -> None:
        opened = MLPackage(package.model_file)
        self._many = Program(opened, "main", precision)
        self._one = Program(opened, "decode", precision)
        self.name = f"Core ML evaluator, {precision}"
        self.state = self._many.make_state()
        self.position = 0

    def prefill(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """Logits (vocab,) after the last token."""
        logits: NDArray[np.float32] = self._run(self._many, tokens)["logits"][0, -1]
        return logits

    def decode(self, token: int) -> NDArray[np.float32]:
        """Logits (vocab,) after the token, from the function that takes one."""
        logits: NDArray[np.float32] = self._run(self._one, (token,))["logits"][0, -1]
        return logits

    def verify(self, tokens: Sequence[int], observe: Observe | None = None) -> NDArray[np.float32]:
        """Logits (tokens, vocab) after each token: the program gives those of the last.

        `observe` sees what every operator of the program gives.
        """
        hidden = self._run(self._many, tokens, (HIDDEN,), observe)[HIDDEN]
        logits: NDArray[np.float32] = self._many.run_from({LAST_HIDDEN: hidden})["logits"][0]
        return logits

    def rewind(self, position: int) -> None:
        """Forget what comes after a position."""
        self.position = position

    def close(self) -> None:
        self.state = {}

    def _run(
        self,
        program: Program,
        tokens: Sequence[int],
        wanted: Sequence[str] = (),
        observe: Observe | None = None,
    ) -> dict[str, NDArray[np.float32]]:
        feeds: dict[str, NDArray[Any]] = {
            "inputIds": np.asarray([tokens], np.int32),
            "causalMask": causal_mask(self.position, len(tokens)),
        }
        found = program.run(feeds, self.state, wanted, observe)
        self.position += len(tokens)
        return found
